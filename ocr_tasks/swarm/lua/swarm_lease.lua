#!lua flags=allow-oom
-- include: lease swarm
-- Leases to a device the first waiting page of those that it can process, pages of jobs first. If none
-- is waiting, it gets a page that is overdue.
-- Expired leases are ended before.
-- KEYS  1 prefix
-- ARGV  1 device  2 seconds of the lease  3 the lease's secret  4 maximum leases of a device
--       5 failures after which a page is set aside  6 seconds after which the page is overdue, or 0
--       then the groups that the device can process
-- Returns {page id, the page (JSON)}, 'none', or 'many' (the device has the maximum of leases)
local me, seconds, secret, most_leases, most_failures, overdue_seconds = unpack(ARGV)
local time = now()

-- Ends the lease of a page whose device has not sent a transcript in time.
local function end_late_lease(id, reason)
  local device = field(id, 'device') or ''
  count(device, 'expired')
  end_lease(id)
  if is_orphan(id) then forget(id) else failed(id, string.format(reason, device), most_failures) end
end

-- Leases a waiting page to the device. Returns what the script returns.
local function give(id)
  stop_waiting(id)
  hold(P .. 'leases', id, seconds)
  if overdue_seconds ~= '0' then
    local overdue = P .. 'overdue:' .. field(id, 'group')
    hold(overdue, id, overdue_seconds)
    hold(overdue .. ':' .. me, id, overdue_seconds)
  end
  redis.call('HSET', page(id), 'state', 'leased', 'lease', secret, 'device', me, 'given:' .. secret, me)
  count(me, 'open')
  count(me, 'leased')
  return {id, field(id, 'page')}
end

-- Leases an overdue page of a group, or returns nil. With `is_mine`, only one of the device itself.
local function give_overdue(group, is_mine)
  local overdue = P .. 'overdue:' .. group .. (is_mine and ':' .. me or '')
  for _, id in ipairs(expired(overdue, 50)) do
    if not has_had(id, me) then
      end_late_lease(id, '%s has sent no transcript in time')
      if field(id, 'state') == 'waiting' then return give(id) end
    end
  end
end

for _, id in ipairs(expired(P .. 'leases', 50)) do end_late_lease(id, 'the lease of %s expired') end

-- Deletes the records above the maximum that were used least recently, two for each new one. Clients
-- with differing transcripts stay: they would be trusted again.
local function drop_surplus(names, prefix)
  if redis.call('ZCARD', P .. names) <= MOST_RECORDS then return end
  local dropped = 0
  for _, name in ipairs(redis.call('ZRANGE', P .. names, 0, 49)) do
    local differed = prefix == 'client:' and redis.call('HGET', P .. prefix .. name, 'disagreed')
    if dropped < 2 and (differed or '0') == '0' then
      redis.call('ZREM', P .. names, name)
      redis.call('DEL', P .. prefix .. name)
      dropped = dropped + 1
    end
  end
end

local device = P .. 'device:' .. me
redis.call('HSETNX', device, 'first', time)
redis.call('HSET', device, 'last', time)
redis.call('ZADD', P .. 'devices', time, me)
redis.call('ZADD', P .. 'clients', time, client_of(me))
drop_surplus('devices', 'device:')
drop_surplus('clients', 'client:')

-- Groups of jobs come first, then the group whose first page has the lowest place.
local groups = {}
for i = 7, #ARGV do
  local first = redis.call('ZRANGE', P .. 'waiting:' .. ARGV[i], 0, 0, 'WITHSCORES')[2]
  if first then
    table.insert(groups, {ARGV[i], tonumber(first)})
  elseif redis.call('EXISTS', P .. 'overdue:' .. ARGV[i]) == 0 then
    redis.call('SREM', P .. 'groups', ARGV[i])
  end
end
table.sort(groups, function(one, other)
  local a, b = string.sub(one[1], 1, 1), string.sub(other[1], 1, 1)
  if a == b then return one[2] < other[2] end
  return a < b
end)

local has_most = tonumber(redis.call('HGET', device, 'open') or 0) >= tonumber(most_leases)
for _, group in ipairs(has_most and {} or groups) do
  local waiting = P .. 'waiting:' .. group[1]
  for _, places in ipairs({{CHECKS, '+inf'}, {'-inf', '(' .. CHECKS}}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, places[1], places[2], 'LIMIT', 0, 50)) do
      if is_orphan(id) then
        redis.call('ZREM', waiting, id)
        forget(id)
      elseif not has_had(id, me) then
        return give(id)
      end
    end
  end
end
for i = 7, #ARGV do
  local found = give_overdue(ARGV[i], has_most)
  if found then return found end
end
return has_most and 'many' or 'none'
