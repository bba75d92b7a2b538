-- What the scripts that change a job have in common; put in front of each of them.
-- KEYS  as keys.job() gives them: 1 the job, 2 the index of all jobs, 3 counters, 4 leases,
--       5 awaited messages, 6 to 8 ended jobs that still have their input, their results, a record,
--       9 what is to be told, 10 prefix of what is there for jobs of processors
local job, stats, leases, awaited, ocrd = KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[10]
local final = {succeeded = true, failed = true, cancelled = true}

local function get(field)
  return redis.call('HGET', job, field)
end

local jobs = get('index') or KEYS[2]

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- The indexes of the jobs in a state, or of all jobs: everybody's and its owner's.
local function indexes(state)
  local name = state and jobs .. ':' .. state or jobs
  return {name, name .. get('suffix')}
end

-- Puts on the list what those who asked for it are to be told: a final state, or a new stage.
local function tell(id, state, progress)
  local wanted = get('callback')
  if not wanted or wanted == '' then return end
  if state == 'cancelled' and get('processor') then return end  -- OCR-D does not tell of that
  local event = final[state] and state
  if wanted == 'stages' and state == 'running' and progress ~= '' then
    local stage = cjson.decode(progress).stage
    if stage ~= 'queued' and stage ~= get('stage') then event = stage end
    redis.call('HSET', job, 'stage', stage)
  end
  if event then
    redis.call('ZADD', KEYS[9], now(), id .. ' ' .. get('attempt') .. ' ' .. event)
  end
end

-- What follows for other jobs, of those of processors.
local follow

-- Writes a state, and keeps everything that follows from it in step.
local function enter(id, state, meta, progress)
  local from = get('state')
  redis.call('HSET', job, 'state', state, 'meta', meta)
  if progress ~= '' then redis.call('HSET', job, 'progress', progress) end
  redis.call('HINCRBY', job, 'revision', 1)
  local processor = get('processor')
  if from ~= state then
    local score = redis.call('ZSCORE', jobs, id)
    for _, index in ipairs(from and indexes(from) or {}) do redis.call('ZREM', index, id) end
    for _, index in ipairs(indexes(state)) do redis.call('ZADD', index, score, id) end
    if state ~= 'running' then
      redis.call('HSET', job, 'token', '', 'holder', '')
      redis.call('ZREM', leases, id)
    end
    if state == 'queued' then
      redis.call('ZADD', awaited, now(), id)
    else
      redis.call('ZREM', awaited, id)
    end
    for i = processor and 8 or 6, 8 do
      if final[state] then redis.call('ZADD', KEYS[i], now(), id) else redis.call('ZREM', KEYS[i], id) end
    end
  end
  tell(id, state, progress)
  redis.call('PUBLISH', job, meta)
  if processor and from ~= state then follow(id, processor, from, state) end
end

-- Adds to counters: pairs of a name and a number in ARGV, from a position on.
local function count(first)
  if get('processor') then return end
  for i = first, #ARGV, 2 do redis.call('HINCRBYFLOAT', stats, ARGV[i], ARGV[i + 1]) end
end

-- Jobs of processors: they wait for each other, and for pages that others write

-- Does something with another job as if this script were about it.
local function with(id, act)
  local kept = job
  job = string.sub(KEYS[1], 1, -#ARGV[1] - 1) .. id
  local answer = act(id)
  job = kept
  return answer
end

-- The fields of locks of what a job writes: of pages, or of whole groups.
local function written()
  local groups, pages = cjson.decode(get('outputs')), get('pages')
  if pages == '' then return groups, nil end
  return groups, cjson.decode(pages)
end

-- Takes the locks of a job, all or none.
local function lock(id)
  local locks = ocrd .. 'locks:' .. get('workspace')
  local groups, pages = written()
  for _, group in ipairs(groups) do
    if redis.call('HEXISTS', locks, group .. ' *') == 1 then return false end
    if not pages and tonumber(redis.call('HGET', locks, group .. ' #') or 0) > 0 then return false end
    for _, page in ipairs(pages or {}) do
      if redis.call('HEXISTS', locks, group .. ' ' .. page) == 1 then return false end
    end
  end
  for _, group in ipairs(groups) do
    if not pages then redis.call('HSET', locks, group .. ' *', id) end
    for _, page in ipairs(pages or {}) do
      redis.call('HSET', locks, group .. ' ' .. page, id)
      redis.call('HINCRBY', locks, group .. ' #', 1)
    end
  end
  redis.call('HSET', job, 'locked', 1)
  return true
end

local function unlock(id)
  if not get('locked') then return end
  local locks = ocrd .. 'locks:' .. get('workspace')
  local groups, pages = written()
  for _, group in ipairs(groups) do
    if not pages then redis.call('HDEL', locks, group .. ' *') end
    for _, page in ipairs(pages or {}) do
      redis.call('HDEL', locks, group .. ' ' .. page)
      redis.call('HINCRBY', locks, group .. ' #', -1)
    end
  end
  redis.call('HDEL', job, 'locked')
end

-- Queues a job that waits for no other; false: others write what it would. Its message is sent
-- when it is its turn: one that others have been waiting for goes first.
local function begin(id, first)
  local waiting = ocrd .. 'waiting:' .. get('workspace')
  if not lock(id) then
    redis.call('ZADD', waiting, get('created'), id)
    return false
  end
  redis.call('ZREM', waiting, id)
  enter(id, 'queued', get('meta'), '')
  redis.call('ZREM', awaited, id)
  local ready, workspace = ocrd .. 'ready', get('workspace')
  redis.call(first and 'LPUSH' or 'RPUSH', ready .. ':' .. workspace, id)
  if not redis.call('ZSCORE', ready, workspace) then
    redis.call('ZADD', ready, redis.call('INCR', ready .. ':turn'), workspace)
  end
  return true
end

-- Ends a job that waits for one that did not succeed.
local function give_up(id)
  if get('state') ~= 'deferred' then return end
  local result = {exc_type = 'DependencyFailed', exc_message = {''}, exc_module = 'ocr_tasks.errors',
    code = 'dependency_failed', retryable = false, page = cjson.null}
  local meta = {status = 'REVOKED', result = result, traceback = cjson.null, task_id = id}
  enter(id, 'cancelled', cjson.encode(meta), '')
end

-- Counts a job among those of its run of a workflow, whose end is told.
local function count_in_workflow(id, workflow, processor, from, state)
  local name = ocrd .. 'workflow-job:' .. workflow
  if from then redis.call('HINCRBY', name, processor .. ' ' .. from, -1) end
  redis.call('HINCRBY', name, processor .. ' ' .. state, 1)
  if state == 'failed' then redis.call('RPUSH', ocrd .. 'failed:' .. workflow, id) end
  if state ~= 'succeeded' and final[state] then redis.call('HSET', name, 'spoiled', 1) end
  if not final[state] or redis.call('HINCRBY', name, 'left', -1) > 0 then return end
  if redis.call('HGET', name, 'callback') ~= '' then
    local event = redis.call('HGET', name, 'spoiled') and 'failed' or 'succeeded'
    redis.call('ZADD', KEYS[9], now(), workflow .. ' 1 ' .. event)
  end
  local keep = tonumber(redis.call('HGET', name, 'keep'))
  if keep > 0 then
    redis.call('EXPIRE', name, keep)
    redis.call('EXPIRE', ocrd .. 'failed:' .. workflow, keep)
  end
end

function follow(id, processor, from, state)
  local workflow = get('workflow')
  if workflow ~= '' then count_in_workflow(id, workflow, processor, from, state) end
  if not final[state] then return end
  redis.call('HSET', job, 'ended', now())
  redis.call('HINCRBY', stats, 'processing_' .. state, 1)
  local workspace, results = get('workspace'), get('results')
  redis.call('SREM', ocrd .. 'open:' .. workspace, id)
  redis.call('ZREM', ocrd .. 'waiting:' .. workspace, id)
  if results ~= '' and state ~= 'cancelled' then
    local word = state == 'succeeded' and 'SUCCESS' or 'FAILED'
    redis.call('RPUSH', results, get('told') .. 'state: ' .. word .. '\nstatus: ' .. word .. '\n')
    redis.call('LTRIM', results, -10000, -1)
    redis.call('EXPIRE', results, 7 * 24 * 3600)
  end
  unlock(id)
  local dependents = ocrd .. 'dependents:' .. id
  for _, other in ipairs(redis.call('SMEMBERS', dependents)) do
    with(other, function()
      if state ~= 'succeeded' then return give_up(other) end
      if redis.call('HINCRBY', job, 'open', -1) == 0 and get('state') == 'deferred' then begin(other, true) end
    end)
  end
  redis.call('DEL', dependents)
  for _, other in ipairs(redis.call('ZRANGE', ocrd .. 'waiting:' .. workspace, 0, -1)) do
    with(other, begin)
  end
end
