#!lua flags=allow-oom
-- include: swarm
-- Takes note that a transcript is about to be stored; nobody else's is until then.
-- The first good transcript wins: also that of a lease that has run out, where no other came.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret, or '': whoever has it  3 seconds to store it in
-- Returns {what it is, device, the secret}, or 'unknown', 'gone', 'same' (it has come before),
-- 'late' (another came before)
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
