#!lua flags=allow-oom
-- include: lease swarm
-- Records that a transcript is stored.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret  3 1 if another client must process the page as well
--       4 the device whose transcript is stored
-- Returns 1, or 0 if a transcript of another lease was accepted in the meantime
local id, lease = ARGV[1], ARGV[2]
if field(id, 'storing') ~= lease then return 0 end
local device = redis.call('HGET', page(id), 'given:' .. lease) or ''
redis.call('HDEL', page(id), 'storing', 'storing_until')
if field(id, 'state') == 'aside' then redis.call('ZREM', P .. 'aside', id) end
end_lease(id)
stop_waiting(id)
count(device, 'done')
redis.call('HINCRBY', P .. 'stats', 'transcripts', 1)
redis.call('HSET', page(id), 'by', lease, 'transcribed_by', ARGV[4])
if ARGV[3] == '1' then
  redis.call('HSET', page(id), 'had:' .. client_of(device), 1)
  wait(id)
  return 1
end
redis.call('HSET', page(id), 'state', 'done')
if field(id, 'batch') == '' then
  redis.call('ZADD', P .. 'done', now(), id)
else
  send_result(id, 'done ' .. device)
  redis.call('EXPIRE', page(id), 3600)
end
return 1
