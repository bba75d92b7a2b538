#!lua flags=allow-oom
-- Records an attempt to deliver a webhook.
-- KEYS  1 the job  2 the outbox  3 failed attempts of each message  4 counters
-- ARGV  1 message  2 the attempt (JSON)  3 when the next attempt is due, '' if it was the last
--       4 result for the counters: `delivered`, `failed` or `given_up`
-- Returns 1, or 0 if the job was deleted
redis.call('HINCRBY', KEYS[4], 'webhooks_' .. ARGV[4], 1)
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('ZADD', KEYS[2], 'XX', ARGV[3], ARGV[1])
  redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
end
local text = redis.call('HGET', KEYS[1], 'deliveries')
if not text then return 0 end
local rows = cjson.decode(text)
table.insert(rows, cjson.decode(ARGV[2]))
while #rows > 20 do table.remove(rows, 1) end
redis.call('HSET', KEYS[1], 'deliveries', cjson.encode(rows))
redis.call('HINCRBY', KEYS[1], 'revision', 1)
return 1
