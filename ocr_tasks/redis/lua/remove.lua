#!lua flags=allow-oom
-- include: lease job
-- Replaces the record of a job by a tombstone that expires, or deletes it.
-- KEYS  as returned by keys.job()
-- ARGV  1 id  2 meta of the tombstone (JSON)  3 its lifetime in seconds, 0 to delete the record
-- Returns the state that the job had, '' if there is no such job
local state = get('state')
if not state or state == 'deleted' then return '' end
for _, index in ipairs(indexes()) do redis.call('ZREM', index, ARGV[1]) end
for _, index in ipairs(indexes(state)) do redis.call('ZREM', index, ARGV[1]) end
for i = 4, 8 do redis.call('ZREM', KEYS[i], ARGV[1]) end
redis.call('HDEL', job, 'job', 'progress')
redis.call('HSET', job, 'state', 'deleted', 'meta', ARGV[2], 'token', '', 'holder', '')
redis.call('HINCRBY', job, 'revision', 1)
redis.call('EXPIRE', job, ARGV[3])
redis.call('PUBLISH', job, ARGV[2])
return state
