#!lua flags=allow-oom
-- include: job
-- Gives a job that waits to a worker, with a lease: from now on only writes with its token count.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 token  3 holder  4 seconds of the lease  5 meta (JSON)  6 progress (JSON)
--       7… upper bounds of the classes of the histogram of waiting
-- Returns 1 claimed, 0 it does not wait, -1 there is no such job
local state = get('state')
if not state then return -1 end
if state ~= 'queued' then return 0 end
if not get('index') then
  local waited = math.max(0, now() - tonumber(redis.call('ZSCORE', awaited, ARGV[1]) or now()))
  local class = '+Inf'
  for i = #ARGV, 7, -1 do
    if waited <= tonumber(ARGV[i]) then class = ARGV[i] end
  end
  redis.call('HINCRBY', stats, 'waited_' .. class, 1)
  redis.call('HINCRBYFLOAT', stats, 'waited_seconds', waited)
  redis.call('HINCRBY', stats, 'attempts', 1)
end
enter(ARGV[1], 'running', ARGV[5], ARGV[6])
redis.call('HSET', job, 'token', ARGV[2], 'holder', ARGV[3])
redis.call('ZADD', leases, now() + tonumber(ARGV[4]), ARGV[1])
return 1
