-- Jobs of processors: they wait for each other, and for pages that others write.
local ocrd = 'ocr:ocrd:'  -- redis_keys.OCRD

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

function follow(id, from, state)
  local processor = get('processor')
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
