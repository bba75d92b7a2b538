#!lua flags=allow-oom
-- include: lease
-- Deletes the messages of a lease.
-- KEYS  1 the queue
-- ARGV  1 receipt
-- Returns the number of messages; 0 if they were returned to the queue
local lease = KEYS[1] .. ':lease:' .. ARGV[1]
local count = redis.call('LLEN', lease)
redis.call('DEL', lease)
release(KEYS[1] .. ':leases', ARGV[1])
return count
