-- Puts a job that has ended back into the state queued, as a new attempt.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 meta (JSON)  3 progress (JSON)  4 most that may wait
--       5 most of the owner's that may wait, 0 for no limit
-- Returns 1 queued, 0 the queue is full, -1 there is no such job, -2 the job has not ended,
--         -3 too many of the owner's wait
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'deleted' then return -1 end
local index = {succeeded = KEYS[5], failed = KEYS[6], cancelled = KEYS[7]}
if not index[state] then return -2 end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 0 end
local own, own_max = redis.call('HGET', KEYS[1], 'suffix') or '', tonumber(ARGV[5])
if own_max > 0 and redis.call('ZCARD', KEYS[3] .. own) >= own_max then return -3 end
redis.call('HSET', KEYS[1], 'meta', ARGV[2], 'state', 'queued', 'progress', ARGV[3], 'token', '')
redis.call('HINCRBY', KEYS[1], 'revision', 1)
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
for _, suffix in ipairs({'', own}) do
  redis.call('ZREM', index[state] .. suffix, ARGV[1])
  redis.call('ZADD', KEYS[3] .. suffix, score, ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
