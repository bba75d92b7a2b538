#!lua
-- include: lease job
-- Retries an ended job: puts it back into the state queued, with a new attempt.
-- KEYS  as returned by keys.job()
-- ARGV  1 id  2 meta (JSON)  3 progress (JSON)  4 maximum of queued jobs  5 maximum
--       of the owner's queued jobs, 0 for no limit  6 lane
-- Returns 1 if queued, 0 if the queue is full, -1 if there is no such job, -2 if the job has not
--         ended, -3 if too many jobs of the owner are queued
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
