#!lua flags=allow-oom
-- include: lease swarm
-- Renews or releases a lease.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret  3 seconds of the renewed lease, or 0 to release it
--       4 reason if the device failed, otherwise ''  5 failures after which a page is set aside
-- Returns 1, or 0 if this is not the page's current lease
local id = ARGV[1]
if field(id, 'lease') ~= ARGV[2] then return 0 end
if ARGV[3] ~= '0' then
  hold(P .. 'leases', id, ARGV[3])
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
