#!lua flags=allow-oom
-- include: lease swarm
-- Accepts a transcript, which is then stored. No other is accepted until then.
-- The first valid transcript is accepted, even if its lease has expired.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret, or '' for the current lease of the page
--       3 seconds within which it must be stored
-- Returns {the page (JSON), device, the secret}, or 'unknown' (no such lease), 'gone' (no such page),
-- 'same' (this lease's transcript is stored already), 'late' (another one was accepted before)
local id, lease = ARGV[1], ARGV[2]
if redis.call('EXISTS', page(id)) == 0 then return 'gone' end
if lease == '' then lease = field(id, 'lease') or field(id, 'by') or '-' end
local device = redis.call('HGET', page(id), 'given:' .. lease)
if not device and ARGV[2] ~= '' then return 'unknown' end
if is_orphan(id) then
  forget(id)
  return 'gone'
end
if field(id, 'by') == lease then return 'same' end
local storing, until_ = unpack(redis.call('HMGET', page(id), 'storing', 'storing_until'))
local other = storing and storing ~= lease and tonumber(until_) > now()
if other or field(id, 'state') == 'done' or redis.call('HEXISTS', page(id), 'had:' .. (device or '')) == 1 then
  count(device, 'late')
  return 'late'
end
redis.call('HSET', page(id), 'storing', lease, 'storing_until', now() + tonumber(ARGV[3]))
return {field(id, 'page'), device or '', lease}
