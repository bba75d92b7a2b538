#!lua flags=allow-oom
-- include: lease job
-- Puts a running job back into the state queued, or fails it if too many workers were lost with it.
-- KEYS  as returned by keys.job()
-- ARGV  1 id  2 process that holds it, '' if its lease has expired  3 lane  4 meta (JSON)
--       5 number of losses at which the job fails, 0 if no worker was lost  6 meta of the failure
--       (JSON)  7… pairs of a counter's name and its increment, in case of a failure
-- Returns 1 if queued, 2 if failed, 0 if the job does not run, has another holder, or its lease has
--         not expired
if get('state') ~= 'running' then return 0 end
if ARGV[2] ~= '' then
  if get('holder') ~= ARGV[2] then return 0 end
elseif not is_expired(leases, ARGV[1]) then
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
