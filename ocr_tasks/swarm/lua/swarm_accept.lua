#!lua flags=allow-oom
-- include: lease swarm
-- Accepts a transcript, which is then stored. No other is accepted until then.
-- The first valid transcript is accepted, even if its lease has expired.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret, or '' for any lease of the client
--       3 seconds within which it must be stored  4 the client
-- Returns {the page (JSON), device, the secret}, or 'unknown' (no such lease), 'gone' (no such page),
-- 'same' (this lease's transcript is stored already), 'late' (another one was accepted before)

-- Returns the secret of a lease that a device of the client has or had: the current one if possible.
local function lease_of(id, client)
  local row, fields = {}, redis.call('HGETALL', page(id))
  for i = 1, #fields, 2 do row[fields[i]] = fields[i + 1] end
  local function is_of_client(lease)
    local device = row['given:' .. lease]
    return device and client_of(device) == client
  end
  for _, name in ipairs({'lease', 'by'}) do
    if row[name] and is_of_client(row[name]) then return row[name] end
  end
  for name in pairs(row) do
    local lease = string.match(name, '^given:(.*)$')
    if lease and is_of_client(lease) then return lease end
  end
  return ''
end

local id, lease = ARGV[1], ARGV[2]
if redis.call('EXISTS', page(id)) == 0 then return 'gone' end
if lease == '' then lease = lease_of(id, ARGV[4]) end
local device = redis.call('HGET', page(id), 'given:' .. lease)
if not device then return 'unknown' end
if is_orphan(id) then
  forget(id)
  return 'gone'
end
if field(id, 'by') == lease then return 'same' end
local storing, until_ = unpack(redis.call('HMGET', page(id), 'storing', 'storing_until'))
local other = storing and storing ~= lease and tonumber(until_) > now()
if other or field(id, 'state') == 'done' or has_had(id, device) then
  count(device, 'late')
  return 'late'
end
redis.call('HSET', page(id), 'storing', lease, 'storing_until', now() + tonumber(ARGV[3]))
return {field(id, 'page'), device, lease}
