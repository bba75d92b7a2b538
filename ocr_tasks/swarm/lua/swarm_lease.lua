#!lua flags=allow-oom
-- include: lease swarm
-- Leases to a device the first waiting page of those that it can process, pages of jobs first.
-- Expired leases are ended before.
-- KEYS  1 prefix
-- ARGV  1 device  2 seconds of the lease  3 the lease's secret  4 maximum leases of a device
--       5 failures after which a page is set aside  then the groups that the device can process
-- Returns {page id, the page (JSON)}, 'none', or 'many' (the device has the maximum of leases)
local time = now()
for _, id in ipairs(expired(P .. 'leases', 50)) do
  local device = field(id, 'device') or ''
  count(device, 'expired')
  end_lease(id)
  if is_orphan(id) then forget(id) else failed(id, 'the lease of ' .. device .. ' expired', ARGV[5]) end
end

local device = P .. 'device:' .. ARGV[1]
redis.call('HSETNX', device, 'first', time)
redis.call('HSET', device, 'last', time)
redis.call('ZADD', P .. 'devices', time, ARGV[1])
redis.call('ZADD', P .. 'clients', time, client_of(ARGV[1]))
if tonumber(redis.call('HGET', device, 'open') or 0) >= tonumber(ARGV[4]) then return 'many' end

-- Groups of jobs come first, then the group whose first page has the lowest place.
local groups = {}
for i = 6, #ARGV do
  local first = redis.call('ZRANGE', P .. 'waiting:' .. ARGV[i], 0, 0, 'WITHSCORES')[2]
  if first then
    table.insert(groups, {ARGV[i], tonumber(first)})
  else
    redis.call('SREM', P .. 'groups', ARGV[i])
  end
end
table.sort(groups, function(one, other)
  local a, b = string.sub(one[1], 1, 1), string.sub(other[1], 1, 1)
  if a == b then return one[2] < other[2] end
  return a < b
end)

for _, group in ipairs(groups) do
  local waiting = P .. 'waiting:' .. group[1]
  for _, id in ipairs(redis.call('ZRANGE', waiting, 0, 49)) do
    if is_orphan(id) then
      redis.call('ZREM', waiting, id)
      forget(id)
    elseif not has_had(id, ARGV[1]) then
      redis.call('ZREM', waiting, id)
      hold(P .. 'leases', id, ARGV[2])
      redis.call('HSET', page(id), 'state', 'leased', 'lease', ARGV[3], 'device', ARGV[1],
        'given:' .. ARGV[3], ARGV[1])
      count(ARGV[1], 'open')
      count(ARGV[1], 'leased')
      return {id, field(id, 'page')}
    end
  end
end
return 'none'
