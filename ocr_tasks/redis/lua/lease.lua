#!lua flags=allow-oom
-- Gives an item of a batch to a reader, for a time: one that waits, else one whose lease has run out.
-- An item that was lost too often is given to nobody; its line among the done says so.
-- KEYS  1 batch  2 waiting items  3 leases  4 done items
-- ARGV  1 token of the reader  2 seconds of the lease, 0 for one that lasts  3 most leases of an item
-- Returns the item, -1 nothing is left for now, -2 there is no such batch
if redis.call('EXISTS', KEYS[1]) == 0 then return -2 end
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local item = redis.call('RPOP', KEYS[2])
while not item do
  item = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1)[1]
  if not item then return -1 end
  if tonumber(redis.call('HGET', KEYS[1], 'tries:' .. item)) >= tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[3], item)
    redis.call('RPUSH', KEYS[4], item .. ' lost')
    item = nil
  end
end
redis.call('ZADD', KEYS[3], ARGV[2] == '0' and '+inf' or now + tonumber(ARGV[2]), item)
redis.call('HSET', KEYS[1], 'holder:' .. item, ARGV[1])
redis.call('HINCRBY', KEYS[1], 'tries:' .. item, 1)
for i = 2, 4 do redis.call('EXPIRE', KEYS[i], redis.call('TTL', KEYS[1])) end
return tonumber(item)
