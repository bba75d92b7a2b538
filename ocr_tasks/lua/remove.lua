-- Replaces the record of a job by a tombstone that lives for a time.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 meta of the tombstone (JSON)  3 seconds that it lives
-- Returns the state that the job had, or '' if there is no such job
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'deleted' then return '' end
for _, suffix in ipairs({'', redis.call('HGET', KEYS[1], 'suffix') or ''}) do
  for i = 2, 7 do redis.call('ZREM', KEYS[i] .. suffix, ARGV[1]) end
end
redis.call('HDEL', KEYS[1], 'job', 'progress')
redis.call('HSET', KEYS[1], 'state', 'deleted', 'meta', ARGV[2], 'token', '')
redis.call('HINCRBY', KEYS[1], 'revision', 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[2])
return state
