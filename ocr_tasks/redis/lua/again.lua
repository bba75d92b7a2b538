#!lua
-- include: job
-- Puts a job that has ended back into the state queued, as a new attempt.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 meta (JSON)  3 progress (JSON)  4 most that may wait  5 most of the
--       owner's, 0 for no limit  6 lane
-- Returns 1 queued, 0 the queue is full, -1 there is no such job, -2 the job has not ended,
--         -3 too many of the owner's wait
local state = get('state')
if not state or state == 'deleted' then return -1 end
if not final[state] then return -2 end
if redis.call('ZCARD', jobs .. ':queued') >= tonumber(ARGV[4]) then return 0 end
local own_max = tonumber(ARGV[5])
if own_max > 0 and redis.call('ZCARD', jobs .. ':queued' .. get('suffix')) >= own_max then return -3 end
redis.call('HINCRBY', job, 'attempt', 1)
redis.call('HSET', job, 'losses', 0, 'lane', ARGV[6])
enter(ARGV[1], 'queued', ARGV[2], ARGV[3])
redis.call('HINCRBY', stats, 'retries', 1)
return 1
