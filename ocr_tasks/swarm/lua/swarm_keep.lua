#!lua flags=allow-oom
-- include: swarm
-- Renews a lease, or gives a page back.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret  3 seconds of the renewed lease, 0: the page is given back
--       4 why it is given back if the device failed, else ''  5 failures until it is set aside
-- Returns 1, or 0 if the page is not this lease's any more
local id = ARGV[1]
if field(id, 'lease') ~= ARGV[2] then return 0 end
if ARGV[3] ~= '0' then
  redis.call('ZADD', P .. 'leases', now() + tonumber(ARGV[3]), id)
  return 1
end
local device = field(id, 'device')
end_lease(id)
if is_orphan(id) then
  forget(id)
elseif ARGV[4] == '' then
  wait(id)
else
  count(device, 'failed')
  redis.call('HSET', page(id), 'had:' .. device, 1)
  failed(id, ARGV[4], ARGV[5])
end
return 1
