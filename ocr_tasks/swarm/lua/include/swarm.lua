-- The page queue of the swarm. KEYS[1] is the prefix of its keys, which swarm/redis_keys.py lists.
local P = KEYS[1]

local function page(id) return P .. 'page:' .. id end

local function field(id, name) return redis.call('HGET', page(id), name) end

-- Returns the client (token or IP address) of a device; see `devices.client_of`.
local function client_of(device) return string.match(device, '^(.*)/') or device end

-- Increments a counter of a device.
local function count(device, name, by)
  if device and device ~= '' then redis.call('HINCRBY', P .. 'device:' .. device, name, by or 1) end
end

-- Returns whether a device must not get a page again: it failed, or its client has sent a transcript.
local function has_had(id, device)
  local names = {'had:' .. device, 'had:' .. client_of(device)}
  local own, of_client = unpack(redis.call('HMGET', page(id), unpack(names)))
  return own or of_client
end

-- Maximum number of devices and of clients with a record.
local MOST_RECORDS = 10000

-- Pages that are to be checked wait in places from this number on, so that they are found apart from
-- the others: a device cannot get those whose transcript is its own.
local CHECKS = 1e15

-- Adds a page to the waiting pages of its group, in its original place.
local function wait(id)
  local group, place, by = unpack(redis.call('HMGET', page(id), 'group', 'place', 'by'))
  redis.call('HSET', page(id), 'state', 'waiting')
  redis.call('ZADD', P .. 'waiting:' .. group, by and CHECKS + place or place, id)
  redis.call('SADD', P .. 'groups', group)
end

-- Removes a page from the waiting pages.
local function stop_waiting(id)
  local group = field(id, 'group')
  if group then redis.call('ZREM', P .. 'waiting:' .. group, id) end
end

-- Ends the lease of a page, if it has one.
local function end_lease(id)
  if release(P .. 'leases', id) then count(field(id, 'device'), 'open', -1) end
  local overdue = P .. 'overdue:' .. (field(id, 'group') or '')
  release(overdue, id)
  release(overdue .. ':' .. (field(id, 'device') or ''), id)
  redis.call('HDEL', page(id), 'lease', 'device')
end

-- Sends the result of a page of a job to the worker that waits for it.
local function send_result(id, result)
  redis.call('RPUSH', P .. 'answer:' .. id, result)
  redis.call('EXPIRE', P .. 'answer:' .. id, 600)
end

-- Deletes a page.
local function forget(id)
  end_lease(id)
  stop_waiting(id)
  for _, set in ipairs({'pages', 'done', 'aside'}) do redis.call('ZREM', P .. set, id) end
  redis.call('DEL', page(id))
end

-- Returns whether a page belongs to a run of a job that does not need it any more.
local function is_orphan(id)
  local batch = field(id, 'batch')
  return not batch or batch ~= '' and redis.call('EXISTS', P .. 'batch:' .. batch) == 0
end

-- Counts a failure of a page. After `most` failures it is not handed out any more.
local function failed(id, reason, most)
  local failures = redis.call('HINCRBY', page(id), 'failures', 1)
  redis.call('HSET', page(id), 'reason:' .. failures, reason)
  if failures < tonumber(most) then return wait(id) end
  redis.call('HSET', page(id), 'state', 'aside')
  if field(id, 'batch') == '' then
    redis.call('ZADD', P .. 'aside', now(), id)
  else
    send_result(id, 'aside')
  end
end
