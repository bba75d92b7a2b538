-- Gives a job to a worker: from now on only writes with its token count.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 token  3 meta (JSON)  4 progress (JSON)
-- Returns 1 claimed, 0 the job has ended, -1 there is no such job
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return -1 end
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'state', 'running', 'meta', ARGV[3], 'progress', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'revision', 1)
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
for _, suffix in ipairs({'', redis.call('HGET', KEYS[1], 'suffix') or ''}) do
  redis.call('ZREM', KEYS[3] .. suffix, ARGV[1])
  redis.call('ZADD', KEYS[4] .. suffix, score, ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[3])
return 1
