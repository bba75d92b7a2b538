#!lua
-- include: lease job
-- Creates the record of a new job in the state queued, unless the queue is full or the client has
-- sent the same request before.
-- KEYS  as returned by keys.job(); 10 the key of the client's Idempotency-Key, if there is one
-- ARGV  1 id  2 meta (JSON)  3 job (JSON)  4 progress (JSON)  5 created (seconds)
--       6 suffix of the owner's indexes  7 lane  8 maximum of queued jobs  9 maximum of the owner's
--       queued jobs, 0 for no limit  10 events of the webhook (`end` or `stages`), '' without one
--       11 value to store under KEYS[10]  12 its lifetime in seconds
-- Returns 1 if created, 0 if the queue is full, -1 if the job already exists, -2 if too many jobs of
--         the owner are queued; or the value of KEYS[10] if there is one
local stored = KEYS[10] and redis.call('GET', KEYS[10])
if stored then return stored end
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
