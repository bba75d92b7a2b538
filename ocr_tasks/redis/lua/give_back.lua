#!lua flags=allow-oom
-- include: job
-- Puts a job that runs back among those that wait, or ends it if it has cost too many workers.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 who gives it back ('': nobody, its lease has run out)  3 lane  4 meta (JSON)
--       5 losses at which the job fails, 0 if this one is no loss  6 meta of the failure (JSON)
--       7… pairs of a counter's name and what a failure adds to it
-- Returns 1 put back, 2 failed, 0 it is not to be given back
if get('state') ~= 'running' then return 0 end
if ARGV[2] ~= '' then
  if get('holder') ~= ARGV[2] then return 0 end
elseif tonumber(redis.call('ZSCORE', leases, ARGV[1]) or 0) > now() then
  return 0
end
if ARGV[5] ~= '0' then
  redis.call('HINCRBY', stats, 'takeovers', 1)
  if redis.call('HINCRBY', job, 'losses', 1) >= tonumber(ARGV[5]) then
    enter(ARGV[1], 'failed', ARGV[6], '')
    count(7)
    return 2
  end
  redis.call('HINCRBY', job, 'attempt', 1)
else
  redis.call('HINCRBY', stats, 'asides', 1)
end
redis.call('HSET', job, 'lane', ARGV[3])
enter(ARGV[1], 'queued', ARGV[4], '')
return 1
