#!lua flags=allow-oom
-- include: lease
-- Acquires webhook messages that are due, by postponing them.
-- KEYS  1 the outbox  2 failed attempts of each message
-- ARGV  1 maximum number of messages  2 seconds to postpone them
-- Returns messages, each followed by the number of its failed attempts
if tonumber(ARGV[1]) <= 0 then return {} end
local acquired = {}
for _, member in ipairs(expired(KEYS[1], ARGV[1])) do
  hold(KEYS[1], member, ARGV[2])
  table.insert(acquired, member)
  table.insert(acquired, redis.call('HGET', KEYS[2], member) or '0')
end
return acquired
