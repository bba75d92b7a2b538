#!lua flags=allow-oom
-- include: lease swarm
-- Deletes a page, unless its transcript is stored or being stored.
-- KEYS  1 prefix
-- ARGV  1 page id  2 1 to delete it in any case
-- Returns 1 if it is gone, 0 if it stays
local id = ARGV[1]
if redis.call('EXISTS', page(id)) == 0 then return 1 end
if ARGV[2] ~= '1' then
  local until_ = tonumber(field(id, 'storing_until') or 0)
  if field(id, 'state') == 'done' or until_ > now() then return 0 end
end
forget(id)
return 1
