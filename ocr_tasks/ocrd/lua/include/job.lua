-- Dependencies of processor jobs, locks on the pages that they write, and counts of workflow runs.
local ocrd = 'ocr:ocrd:'  -- redis_keys.OCRD

-- Calls act(id) with `job` set to the record of another job, and returns its result.
local function with_job(id, act)
  local saved = job
  job = string.sub(KEYS[1], 1, -#ARGV[1] - 1) .. id
  local result = act(id)
  job = saved
  return result
end

-- Returns the file groups that the job writes, and its page ids, or nil for all pages.
local function outputs()
  local groups, pages = cjson.decode(get('outputs')), get('pages')
  if pages == '' then return groups, nil end
  return groups, cjson.decode(pages)
end

-- Acquires all locks of a job and returns true, or returns false and acquires none.
local function lock(id)
  local locks = ocrd .. 'locks:' .. get('workspace')
  local groups, pages = outputs()
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

-- Releases the locks of a job.
local function unlock(id)
  if not get('locked') then return end
  local locks = ocrd .. 'locks:' .. get('workspace')
  local groups, pages = outputs()
  for _, group in ipairs(groups) do
    if not pages then redis.call('HDEL', locks, group .. ' *') end
    for _, page in ipairs(pages or {}) do
      redis.call('HDEL', locks, group .. ' ' .. page)
      redis.call('HINCRBY', locks, group .. ' #', -1)
    end
  end
  redis.call('HDEL', job, 'locked')
end

-- Queues a job whose dependencies have succeeded, and returns true. If other jobs hold its locks,
-- the job waits for them, and this returns false. publish_ready sends the message; with `first`,
-- the job comes before the other ready jobs of its workspace for this processor.
local function try_queue(id, first)
  local waiting = ocrd .. 'waiting:' .. get('workspace')
  if not lock(id) then
    redis.call('ZADD', waiting, get('created'), id)
    return false
  end
  redis.call('ZREM', waiting, id)
  enter(id, 'queued', get('meta'), '')
  redis.call('ZREM', awaited, id)
  local ready, list = ocrd .. 'ready', get('workspace') .. ' ' .. get('processor')
  redis.call(first and 'LPUSH' or 'RPUSH', ready .. ':' .. list, id)
  if not redis.call('ZSCORE', ready, list) then
    redis.call('ZADD', ready, redis.call('INCR', ready .. ':turn'), list)
  end
  return true
end

-- Removes the jobs from the start of a list of ready jobs that are no longer queued, after one of
-- them has ended. take_ready does not inspect lists whose processor has a long queue.
local function trim_ready(list)
  local ready = ocrd .. 'ready'
  local id = redis.call('LINDEX', ready .. ':' .. list, 0)
  while id and with_job(id, function() return get('state') ~= 'queued' end) do
    redis.call('LPOP', ready .. ':' .. list)
    id = redis.call('LINDEX', ready .. ':' .. list, 0)
  end
  if not id then redis.call('ZREM', ready, list) end
end

-- Cancels a job because one that it depends on did not succeed.
local function cancel_dependent(id)
  if get('state') ~= 'deferred' then return end
  local result = {exc_type = 'DependencyFailed', exc_message = {''}, exc_module = 'ocr_tasks.ocrd.errors',
    code = 'dependency_failed', retryable = false, page = cjson.null}
  local meta = {status = 'REVOKED', result = result, traceback = cjson.null, task_id = id}
  enter(id, 'cancelled', cjson.encode(meta), '')
end

-- Updates the counts of a job's workflow run; after its last job, adds the notification to the
-- outbox and sets the lifetime of the run.
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

-- The hook of redis/lua/include/job.lua, called when the state of a processor job changes.
function follow(id, from, state)
  local processor = get('processor')
  local workflow = get('workflow')
  if workflow ~= '' then count_in_workflow(id, workflow, processor, from, state) end
  if from == 'running' and get('secret') then
    redis.call('DEL', get('secret'))
    redis.call('HDEL', job, 'secret')
  end
  if not final[state] then return end
  redis.call('HSET', job, 'ended', now())
  redis.call('HINCRBY', stats, 'processing_' .. state, 1)
  local workspace, results = get('workspace'), get('results')
  if from == 'queued' then trim_ready(workspace .. ' ' .. processor) end
  redis.call('SREM', ocrd .. 'open:' .. workspace, id)
  redis.call('ZREM', ocrd .. 'waiting:' .. workspace, id)
  if results ~= '' then
    local word = ({succeeded = 'SUCCESS', failed = 'FAILED', cancelled = 'CANCELLED'})[state]
    redis.call('RPUSH', results, get('told') .. 'state: ' .. word .. '\nstatus: ' .. word .. '\n')
    redis.call('LTRIM', results, -10000, -1)
    redis.call('EXPIRE', results, 7 * 24 * 3600)
  end
  unlock(id)
  local dependents = ocrd .. 'dependents:' .. id
  for _, other in ipairs(redis.call('SMEMBERS', dependents)) do
    with_job(other, function()
      if state ~= 'succeeded' then return cancel_dependent(other) end
      if redis.call('HINCRBY', job, 'open', -1) == 0 and get('state') == 'deferred' then try_queue(other, true) end
    end)
  end
  redis.call('DEL', dependents)
  for _, other in ipairs(redis.call('ZRANGE', ocrd .. 'waiting:' .. workspace, 0, -1)) do
    with_job(other, try_queue)
  end
end
