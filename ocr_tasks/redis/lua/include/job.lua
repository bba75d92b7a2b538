-- Functions of the scripts that change a job. Prepended to each of them, followed by the files of
-- this name of extensions. Jobs of an extension have their own index (field `index`).
-- KEYS  as returned by keys.job(): 1 the job, 2 the index of all jobs, 3 counters, 4 leases,
--       5 queued jobs by the time of their message, 6 to 8 ended jobs that still have their input,
--       their results, a record, 9 webhook outbox
local job, stats, leases, awaited = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
local final = {succeeded = true, failed = true, cancelled = true}

local function get(field)
  return redis.call('HGET', job, field)
end

local jobs = get('index') or KEYS[2]

-- Returns the indexes of jobs in a state, or of all jobs: the index of all owners, and the owner's.
local function indexes(state)
  local name = state and jobs .. ':' .. state or jobs
  return {name, name .. get('suffix')}
end

-- Queues a webhook if the client requested one: for a final state, or for a new stage.
local function queue_webhook(id, state, progress)
  local events = get('callback')
  if not events or events == '' then return end
  local event = final[state] and state
  if events == 'stages' and state == 'running' and progress ~= '' then
    local stage = cjson.decode(progress).stage
    if stage ~= 'queued' and stage ~= get('stage') then event = stage end
    redis.call('HSET', job, 'stage', stage)
  end
  if event then
    redis.call('ZADD', KEYS[9], now(), id .. ' ' .. get('attempt') .. ' ' .. event)
  end
end

-- Defined by at most one extension: follow(id, from, state) updates jobs that depend on this one.
local follow

-- Writes a state, and updates the indexes, leases and the outbox accordingly.
local function enter(id, state, meta, progress)
  local from = get('state')
  redis.call('HSET', job, 'state', state, 'meta', meta)
  if progress ~= '' then redis.call('HSET', job, 'progress', progress) end
  redis.call('HINCRBY', job, 'revision', 1)
  local own_index = get('index')
  if from ~= state then
    local score = redis.call('ZSCORE', jobs, id)
    for _, index in ipairs(from and indexes(from) or {}) do redis.call('ZREM', index, id) end
    for _, index in ipairs(indexes(state)) do redis.call('ZADD', index, score, id) end
    if state ~= 'running' then
      redis.call('HSET', job, 'token', '', 'holder', '')
      release(leases, id)
    end
    if state == 'queued' then
      redis.call('ZADD', awaited, now(), id)
    else
      redis.call('ZREM', awaited, id)
    end
    for i = own_index and 8 or 6, 8 do
      if final[state] then redis.call('ZADD', KEYS[i], now(), id) else redis.call('ZREM', KEYS[i], id) end
    end
  end
  queue_webhook(id, state, progress)
  redis.call('PUBLISH', job, meta)
  if follow and own_index and from ~= state then follow(id, from, state) end
end

-- Increments counters, given as pairs of a name and a number in ARGV from position `first` on.
local function count(first)
  if get('index') then return end
  for i = first, #ARGV, 2 do redis.call('HINCRBYFLOAT', stats, ARGV[i], ARGV[i + 1]) end
end
