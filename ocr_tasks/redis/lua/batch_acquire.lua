#!lua flags=allow-oom
-- include: lease
-- Leases an item of a batch to a process: the next waiting one, else one whose lease has expired.
-- An item that was leased too often is added to the done items as lost, and not leased again.
-- KEYS  1 batch  2 waiting items  3 leases  4 done items
-- ARGV  1 holder  2 duration of the lease in seconds, 0 for no limit  3 maximum of leases per item
-- Returns the item, -1 if none is available now, -2 if there is no such batch
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
local item = redis.call('RPOP', KEYS[2])
while not item do
  item = expired(KEYS[3], 1)[1]
  if not item then return -1 end
  if tonumber(redis.call('HGET', KEYS[1], 'tries:' .. item)) >= tonumber(ARGV[3]) then
    release(KEYS[3], item)
    redis.call('RPUSH', KEYS[4], item .. ' lost')
    item = nil
  end
end
hold(KEYS[3], item, ARGV[2])
redis.call('HSET', KEYS[1], 'holder:' .. item, ARGV[1])
redis.call('HINCRBY', KEYS[1], 'tries:' .. item, 1)
for i = 2, 4 do redis.call('EXPIRE', KEYS[i], redis.call('TTL', KEYS[1])) end
return tonumber(item)
