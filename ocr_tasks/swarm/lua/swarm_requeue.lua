#!lua flags=allow-oom
-- include: lease swarm
-- Makes a page wait again in its original place, as if it had never been leased.
-- KEYS  1 prefix
-- ARGV  1 page id
-- Returns 1, or 0 if there is no such page
local id = ARGV[1]
end_lease(id)
for _, set in ipairs({'done', 'aside'}) do redis.call('ZREM', P .. set, id) end
if redis.call('EXISTS', page(id)) == 0 then return 0 end
local group, batch, place, text = unpack(redis.call('HMGET', page(id), 'group', 'batch', 'place', 'page'))
redis.call('DEL', page(id))
redis.call('HSET', page(id), 'group', group, 'batch', batch, 'place', place, 'page', text, 'failures', 0)
wait(id)
return 1
