-- Makes the record of a new job, in the state queued, unless too many wait already.
-- KEYS  as keys.job() gives them: task, all jobs, one index for each state, counters
-- ARGV  1 id  2 meta (JSON)  3 job (JSON)  4 progress (JSON)  5 created (seconds)  6 most that may wait
--       7 suffix of the owner's indexes  8 most of the owner's that may wait, 0 for no limit
-- Returns 1 made, 0 the queue is full, -1 there is such a job already, -2 too many of the owner's wait
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[6]) then return 0 end
local own_max = tonumber(ARGV[8])
if own_max > 0 and redis.call('ZCARD', KEYS[3] .. ARGV[7]) >= own_max then return -2 end
redis.call('HSET', KEYS[1], 'meta', ARGV[2], 'state', 'queued', 'job', ARGV[3], 'progress', ARGV[4],
  'revision', 1, 'attempt', 1, 'token', '', 'created', ARGV[5], 'suffix', ARGV[7])
local score = math.floor(tonumber(ARGV[5]) * 1000000)
for _, suffix in ipairs({'', ARGV[7]}) do
  redis.call('ZADD', KEYS[2] .. suffix, score, ARGV[1])
  redis.call('ZADD', KEYS[3] .. suffix, score, ARGV[1])
end
redis.call('HINCRBY', KEYS[8], 'jobs_submitted', 1)
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
