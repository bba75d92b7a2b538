#!lua flags=allow-oom
-- include: lease
-- Ends or renews a lease of an item.
-- KEYS  1 batch  2 waiting items  3 leases  4 done items
-- ARGV  1 item  2 holder  3 `done`, `release` (to the waiting items) or `renew`
--       4 duration of the renewed lease in seconds
-- Returns 1, or 0 if the holder no longer has the item
if redis.call('HGET', KEYS[1], 'holder:' .. ARGV[1]) ~= ARGV[2] then return 0 end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
if ARGV[3] == 'renew' then
  hold(KEYS[3], ARGV[1], ARGV[4])
  return 1
end
release(KEYS[3], ARGV[1])
if ARGV[3] == 'done' then
  redis.call('RPUSH', KEYS[4], ARGV[1] .. ' ' .. ARGV[2])
else
  redis.call('HINCRBY', KEYS[1], 'tries:' .. ARGV[1], -1)
  redis.call('RPUSH', KEYS[2], ARGV[1])
end
for i = 2, 4 do redis.call('EXPIRE', KEYS[i], redis.call('TTL', KEYS[1])) end
return 1
