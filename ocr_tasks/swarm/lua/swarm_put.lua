#!lua
-- include: lease swarm
-- Adds pages to the queue. Known pages are left unchanged.
-- KEYS  1 prefix
-- ARGV  1 group  2 batch of a job, or ''  then for each page: its id, the page (JSON)
-- Returns for each page 1 if it was added, 0 if it was known
local added = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  if redis.call('EXISTS', page(id)) == 1 then
    table.insert(added, 0)
  else
    local place = redis.call('INCR', P .. 'places')
    redis.call('HSET', page(id), 'group', ARGV[1], 'batch', ARGV[2], 'place', place,
      'page', ARGV[i + 1], 'failures', 0)
    if ARGV[2] == '' then redis.call('ZADD', P .. 'pages', place, id) end
    wait(id)
    table.insert(added, 1)
  end
end
return added
