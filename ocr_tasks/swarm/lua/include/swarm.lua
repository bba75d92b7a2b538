-- The page queue of the swarm. KEYS[1] is the prefix of all its keys; `keys.SWARM` lists them.
local P = KEYS[1]

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function page(id) return P .. 'page:' .. id end

local function field(id, name) return redis.call('HGET', page(id), name) end

local function count(device, what, by)
  if device and device ~= '' then redis.call('HINCRBY', P .. 'device:' .. device, what, by or 1) end
end

-- Has a page wait, in its old place.
local function wait(id)
  local group, place = unpack(redis.call('HMGET', page(id), 'group', 'place'))
  redis.call('HSET', page(id), 'state', 'waiting')
  redis.call('ZADD', P .. 'waiting:' .. group, place, id)
  redis.call('SADD', P .. 'groups', group)
end

-- Takes a page from those that wait.
local function wait_no_more(id)
  local group = field(id, 'group')
  if group then redis.call('ZREM', P .. 'waiting:' .. group, id) end
end

-- Ends the lease of a page, if there is one.
local function end_lease(id)
  if redis.call('ZREM', P .. 'leases', id) == 1 then count(field(id, 'device'), 'open', -1) end
  redis.call('HDEL', page(id), 'lease', 'device')
end

-- Tells whoever waits for a page of a job what has become of it.
local function tell(id, what)
  redis.call('RPUSH', P .. 'answer:' .. id, what)
  redis.call('EXPIRE', P .. 'answer:' .. id, 600)
end

-- Forgets a page.
local function forget(id)
  end_lease(id)
  wait_no_more(id)
  for _, set in ipairs({'pages', 'done', 'aside'}) do redis.call('ZREM', P .. set, id) end
  redis.call('DEL', page(id))
end

-- Whether a page of a job is wanted by nobody any more.
local function is_orphan(id)
  local batch = field(id, 'batch')
  return not batch or batch ~= '' and redis.call('EXISTS', P .. 'batch:' .. batch) == 0
end

-- Notes that a page was not read; one that was not too often is given to nobody any more.
local function failed(id, reason, most)
  local failures = redis.call('HINCRBY', page(id), 'failures', 1)
  redis.call('HSET', page(id), 'reason:' .. failures, reason)
  if failures < tonumber(most) then return wait(id) end
  redis.call('HSET', page(id), 'state', 'aside')
  if field(id, 'batch') == '' then
    redis.call('ZADD', P .. 'aside', now(), id)
  else
    tell(id, 'aside')
  end
end
