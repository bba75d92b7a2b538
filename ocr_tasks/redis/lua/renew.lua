#!lua flags=allow-oom
-- include: lease
-- Renews the leases of running jobs that still have the given holders.
-- KEYS  1 leases  2… the jobs
-- ARGV  1 duration of the leases in seconds  2… id and holder of each job
-- Returns the number of renewed leases
local renewed = 0
for i = 2, #KEYS do
  local id, holder = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local record = redis.call('HMGET', KEYS[i], 'state', 'holder')
  if record[1] == 'running' and record[2] == holder then
    hold(KEYS[1], id, ARGV[1])
    renewed = renewed + 1
  end
end
return renewed
