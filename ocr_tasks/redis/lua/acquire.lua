#!lua flags=allow-oom
-- include: lease job
-- Assigns a queued job to a worker, with a lease. From then on only writes with the worker's token
-- are accepted.
-- KEYS  as returned by keys.job()
-- ARGV  1 id  2 token  3 holder  4 duration of the lease in seconds  5 meta (JSON)
--       6 progress (JSON)  7… upper bounds of the buckets of the histogram of waiting times
-- Returns 1 if acquired, 0 if the job is not queued, -1 if there is no such job
local state = get('state')
if not state then return -1 end
if state ~= 'queued' then return 0 end
if not get('index') then
  local waited = math.max(0, now() - tonumber(redis.call('ZSCORE', awaited, ARGV[1]) or now()))
  local bucket = '+Inf'
  for i = #ARGV, 7, -1 do
    if waited <= tonumber(ARGV[i]) then bucket = ARGV[i] end
  end
  redis.call('HINCRBY', stats, 'waited_' .. bucket, 1)
  redis.call('HINCRBYFLOAT', stats, 'waited_seconds', waited)
  redis.call('HINCRBY', stats, 'attempts', 1)
end
enter(ARGV[1], 'running', ARGV[5], ARGV[6])
redis.call('HSET', job, 'token', ARGV[2], 'holder', ARGV[3])
hold(leases, ARGV[1], ARGV[4])
return 1
