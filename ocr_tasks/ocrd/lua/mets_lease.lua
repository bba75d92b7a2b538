#!lua flags=allow-oom
-- Takes, keeps or leaves the right to write the METS file of a workspace.
-- KEYS  1 the lease
-- ARGV  1 token of who asks  2 take, keep or leave  3 milliseconds of the lease
-- Returns 1, or 0 if somebody else has it, or if it is kept or left too late
local holder = redis.call('GET', KEYS[1])
if ARGV[2] == 'take' then
  if holder then return 0 end
elseif holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == 'leave' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
return 1
