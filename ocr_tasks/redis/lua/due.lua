#!lua flags=allow-oom
-- Takes messages that are due, for a time.
-- KEYS  1 the outbox  2 tries of each message
-- ARGV  1 most  2 seconds
-- Returns messages, each followed by the number of its tries
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if tonumber(ARGV[1]) <= 0 then return {} end
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), member)
  table.insert(found, member)
  table.insert(found, redis.call('HGET', KEYS[2], member) or '0')
end
return found
