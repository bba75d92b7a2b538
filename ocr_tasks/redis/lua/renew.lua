#!lua flags=allow-oom
-- Renews the leases of running jobs that still have the given holders.
-- KEYS  1 leases  2… the jobs
-- ARGV  1 duration of the leases in seconds  2… id and holder of each job
-- Returns the number of renewed leases
local time = redis.call('TIME')
local until_ = tonumber(time[1]) + tonumber(time[2]) / 1000000 + tonumber(ARGV[1])
local renewed = 0
for i = 2, #KEYS do
  local id, holder = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local record = redis.call('HMGET', KEYS[i], 'state', 'holder')
  if record[1] == 'running' and record[2] == holder then
    redis.call('ZADD', KEYS[1], until_, id)
    renewed = renewed + 1
  end
end
return renewed
