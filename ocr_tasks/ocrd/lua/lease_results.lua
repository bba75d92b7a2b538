#!lua flags=allow-oom
-- include: lease
-- Leases the oldest messages of a result queue, after returning those of expired leases to it.
-- KEYS  1 the queue
-- ARGV  1 receipt, the id of the new lease  2 seconds of the lease  3 maximum number of messages
--       4 seconds for which the messages are kept
-- Returns the messages
local queue, leases = KEYS[1], KEYS[1] .. ':leases'
local lease = queue .. ':lease:'

local ended = expired(leases, -1)
for i = #ended, 1, -1 do
  local messages = redis.call('LRANGE', lease .. ended[i], 0, -1)
  for j = #messages, 1, -1 do redis.call('LPUSH', queue, messages[j]) end
  redis.call('DEL', lease .. ended[i])
  release(leases, ended[i])
end

local found = redis.call('LPOP', queue, ARGV[3])
if not found then return {} end
redis.call('RPUSH', lease .. ARGV[1], unpack(found))
hold(leases, ARGV[1], ARGV[2])
for _, key in ipairs({queue, leases, lease .. ARGV[1]}) do redis.call('EXPIRE', key, ARGV[4]) end
return found
