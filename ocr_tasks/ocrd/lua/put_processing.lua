#!lua
-- include: lease job
-- Creates the record of a processor job, and queues it unless it has to wait for other jobs.
-- KEYS  as returned by keys.job()
-- ARGV  1 id  2 meta (JSON)  3 job (JSON)  4 progress (JSON)  5 created (seconds since the epoch)
--       6 suffix of the owner's indexes  7 processor  8 key of the workspace  9 outputs (JSON)
--       10 pages (JSON, '' for all)  11 'end' if it has a callback URL, else ''
--       12 key of the result queue or ''  13 message for it without the state
--       14 id of the workflow run or ''  15 index  16… ids of jobs that it waits for
-- Returns 1 created, -1 the job exists, -2 a job that it waits for does not exist
local prefix = string.sub(KEYS[1], 1, -#ARGV[1] - 1)
if get('state') then return -1 end
local open, spoiled = 0, false
for i = 16, #ARGV do
  local state = redis.call('HGET', prefix .. ARGV[i], 'state')
  if not state or state == 'deleted' then return -2 end
  if state == 'failed' or state == 'cancelled' then spoiled = true end
end
for i = 16, #ARGV do
  local state = redis.call('HGET', prefix .. ARGV[i], 'state')
  if not final[state] and redis.call('SADD', ocrd .. 'dependents:' .. ARGV[i], ARGV[1]) == 1 then
    open = open + 1
  end
end
jobs = ARGV[15]
redis.call('HSET', job, 'job', ARGV[3], 'attempt', 1, 'losses', 0, 'created', ARGV[5],
  'suffix', ARGV[6], 'lane', ARGV[7], 'processor', ARGV[7], 'index', jobs, 'workspace', ARGV[8],
  'outputs', ARGV[9], 'pages', ARGV[10], 'callback', ARGV[11], 'deliveries', '[]',
  'results', ARGV[12], 'told', ARGV[13], 'workflow', ARGV[14], 'open', open)
local score = math.floor(tonumber(ARGV[5]) * 1000000)
for _, index in ipairs(indexes()) do redis.call('ZADD', index, score, ARGV[1]) end
redis.call('SADD', ocrd .. 'open:' .. ARGV[8], ARGV[1])
redis.call('HINCRBY', stats, 'processing_submitted', 1)
enter(ARGV[1], 'deferred', ARGV[2], ARGV[4])
if spoiled then
  cancel_dependent(ARGV[1])
elseif open == 0 then
  try_queue(ARGV[1])
end
return 1
