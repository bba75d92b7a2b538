-- Puts a job that has ended back into the state queued, as a new attempt.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 meta (JSON)  3 progress (JSON)  4 most that may wait
-- Returns 1 queued, 0 the queue is full, -1 there is no such job, -2 the job has not ended
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'deleted' then return -1 end
local index = {succeeded = KEYS[5], failed = KEYS[6], cancelled = KEYS[7]}
if not index[state] then return -2 end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], 'meta', ARGV[2], 'state', 'queued', 'progress', ARGV[3], 'token', '')
redis.call('HINCRBY', KEYS[1], 'revision', 1)
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('ZREM', index[state], ARGV[1])
redis.call('ZADD', KEYS[3], redis.call('ZSCORE', KEYS[2], ARGV[1]), ARGV[1])
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
