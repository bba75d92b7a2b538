#!lua
-- include: job
-- Makes the record of a new job, in the state queued, unless too many wait already or the client
-- has sent it before.
-- KEYS  as keys.job() gives them; 10 the client's key for its request, if it has one
-- ARGV  1 id  2 meta (JSON)  3 job (JSON)  4 progress (JSON)  5 created (seconds)
--       6 suffix of the owner's indexes  7 lane  8 most that may wait  9 most of the owner's, 0 for
--       no limit  10 what its callback wants to know, '' without one  11 what to remember under that
--       key  12 for how many seconds
-- Returns 1 made, 0 the queue is full, -1 there is such a job already, -2 too many of the owner's
--         wait, or what is remembered
local known = KEYS[10] and redis.call('GET', KEYS[10])
if known then return known end
if get('state') then return -1 end
if redis.call('ZCARD', jobs .. ':queued') >= tonumber(ARGV[8]) then return 0 end
local own_max = tonumber(ARGV[9])
if own_max > 0 and redis.call('ZCARD', jobs .. ':queued' .. ARGV[6]) >= own_max then return -2 end
redis.call('HSET', job, 'job', ARGV[3], 'attempt', 1, 'losses', 0, 'created', ARGV[5],
  'suffix', ARGV[6], 'lane', ARGV[7], 'callback', ARGV[10], 'deliveries', '[]')
local score = math.floor(tonumber(ARGV[5]) * 1000000)
for _, index in ipairs(indexes()) do redis.call('ZADD', index, score, ARGV[1]) end
enter(ARGV[1], 'queued', ARGV[2], ARGV[4])
if KEYS[10] then redis.call('SET', KEYS[10], ARGV[11], 'EX', ARGV[12]) end
redis.call('HINCRBY', stats, 'jobs_submitted', 1)
return 1
