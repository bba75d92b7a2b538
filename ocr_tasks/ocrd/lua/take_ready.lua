#!lua flags=allow-oom
-- include: lease
-- Removes and returns the next ready processor jobs, whose messages the caller sends. The lists of
-- a workspace and a processor take turns, and a long one does not delay the others. Jobs whose queue
-- is long enough stay, e.g. if no worker offers their processor, and do not delay the others.
-- KEYS  1 prefix of OCR-D's keys (redis_keys.OCRD)  2 sorted set of sent messages (keys.AWAITED)
--       3 prefix of job records (keys.TASK_PREFIX)
-- ARGV  1 queue length that is long enough  2 maximum number of jobs
-- Returns ids, each followed by its processor
local ready, rows, lengths = KEYS[1] .. 'ready', {}, {}

local function is_long(processor)
  lengths[processor] = lengths[processor] or redis.call('LLEN', processor)
  return lengths[processor] >= tonumber(ARGV[1])
end

-- Removes and returns the next job of a workspace and processor that is still queued, with its
-- processor; nil if there is none, or if its queue is long enough, in which case it stays.
local function next_of(name)
  local list = ready .. ':' .. name
  while true do
    local id = redis.call('LINDEX', list, 0)
    if not id then
      redis.call('ZREM', ready, name)
      return nil
    end
    local state, processor = unpack(redis.call('HMGET', KEYS[3] .. id, 'state', 'processor'))
    if state == 'queued' and is_long(processor) then return nil end
    redis.call('LPOP', list)
    if state == 'queued' then return id, processor end
  end
end

-- Redis is called only for lists whose queue is short, and again only for those that had a job:
-- thousands may wait for a processor that no worker offers.
local left = redis.call('ZRANGE', ready, 0, -1)
while #left > 0 and #rows < 2 * tonumber(ARGV[2]) do
  local names = left
  left = {}
  for _, name in ipairs(names) do
    local own = string.match(name, ' (.*)$')  -- nil in lists of earlier versions
    local id, processor
    if not own or not is_long(own) then id, processor = next_of(name) end
    if id then
      table.insert(left, name)
      lengths[processor] = lengths[processor] + 1
      redis.call('ZADD', KEYS[2], now(), id)
      redis.call('ZADD', ready, redis.call('INCR', ready .. ':turn'), name)
      table.insert(rows, id)
      table.insert(rows, processor)
      if #rows >= 2 * tonumber(ARGV[2]) then break end
    end
  end
end
return rows
