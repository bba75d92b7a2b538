#!lua flags=allow-oom
-- Acquires webhook messages that are due, by postponing them.
-- KEYS  1 the outbox  2 failed attempts of each message
-- ARGV  1 maximum number of messages  2 seconds to postpone them
-- Returns messages, each followed by the number of its failed attempts
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if tonumber(ARGV[1]) <= 0 then return {} end
local acquired = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), member)
  table.insert(acquired, member)
  table.insert(acquired, redis.call('HGET', KEYS[2], member) or '0')
end
return acquired
