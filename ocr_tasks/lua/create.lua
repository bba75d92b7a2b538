-- Makes the record of a new job, in the state queued, unless too many wait already.
-- KEYS  as keys.job() gives them: task, all jobs, one index for each state, counters
-- ARGV  1 id  2 meta (JSON)  3 job (JSON)  4 progress (JSON)  5 created (seconds)  6 most that may wait
-- Returns 1 made, 0 the queue is full, -1 there is such a job already
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[6]) then return 0 end
redis.call('HSET', KEYS[1], 'meta', ARGV[2], 'state', 'queued', 'job', ARGV[3], 'progress', ARGV[4],
  'revision', 1, 'attempt', 1, 'token', '', 'created', ARGV[5])
local score = math.floor(tonumber(ARGV[5]) * 1000000)
redis.call('ZADD', KEYS[2], score, ARGV[1])
redis.call('ZADD', KEYS[3], score, ARGV[1])
redis.call('HINCRBY', KEYS[8], 'jobs_submitted', 1)
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
