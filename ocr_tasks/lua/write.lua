-- Writes a state of a job that has not ended: a progress, or its end.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 token of the writer ('' for one that needs none)  3 our state  4 meta (JSON)
--       5 progress (JSON, '' to leave it)  6… pairs of a counter's name and what to add to it
-- Returns 1 written, 0 the job has ended, -1 there is no such job, -2 the job belongs to another worker
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return -1 end
if state ~= 'queued' and state ~= 'running' then return 0 end
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return -2 end
redis.call('HSET', KEYS[1], 'meta', ARGV[4], 'state', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'progress', ARGV[5]) end
redis.call('HINCRBY', KEYS[1], 'revision', 1)
if state ~= ARGV[3] then
  local index = {queued = KEYS[3], running = KEYS[4], succeeded = KEYS[5], failed = KEYS[6], cancelled = KEYS[7]}
  local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
  for _, suffix in ipairs({'', redis.call('HGET', KEYS[1], 'suffix') or ''}) do
    redis.call('ZREM', index[state] .. suffix, ARGV[1])
    redis.call('ZADD', index[ARGV[3]] .. suffix, score, ARGV[1])
  end
  for i = 6, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[8], ARGV[i], ARGV[i + 1]) end
end
redis.call('PUBLISH', KEYS[1], ARGV[4])
return 1
