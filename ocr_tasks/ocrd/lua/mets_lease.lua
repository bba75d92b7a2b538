#!lua flags=allow-oom
-- Acquires, renews or releases the lease on the METS file of a workspace.
-- KEYS  1 the lease
-- ARGV  1 token of the process  2 acquire, renew or release  3 milliseconds of the lease
-- Returns 1, or 0 if another process holds the lease, or if it has expired
local holder = redis.call('GET', KEYS[1])
if ARGV[2] == 'acquire' then
  if holder then return 0 end
elseif holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == 'release' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
return 1
