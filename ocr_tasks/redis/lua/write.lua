#!lua flags=allow-oom
-- include: job
-- Writes a state of a job that has not ended: a progress, or its end.
-- KEYS  as keys.job() gives them
-- ARGV  1 id  2 token of the writer ('' for one that needs none)  3 our state  4 meta (JSON)
--       5 progress (JSON, '' to leave it)  6… pairs of a counter's name and what to add to it
-- Returns 1 written, 0 the job has ended, -1 there is no such job, -2 the job belongs to another worker
local state = get('state')
if not state then return -1 end
if final[state] or state == 'deleted' then return 0 end
if ARGV[2] ~= '' and get('token') ~= ARGV[2] then return -2 end
enter(ARGV[1], ARGV[3], ARGV[4], ARGV[5])
if state ~= ARGV[3] then count(6) end
return 1
