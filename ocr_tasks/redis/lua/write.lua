#!lua flags=allow-oom
-- include: lease job
-- Writes progress or a final state of a job that has not ended.
-- KEYS  as returned by keys.job()
-- ARGV  1 id  2 token of the writer, '' to write without one  3 state (model.State)
--       4 meta (JSON)  5 progress (JSON), '' to keep it  6… pairs of a counter's name and its
--       increment, in case the state changes
-- Returns 1 if written, 0 if the job has ended, -1 if there is no such job, -2 if the token is not
--         that of the run that holds the job
local state = get('state')
if not state then return -1 end
if final[state] or state == 'deleted' then return 0 end
if ARGV[2] ~= '' and get('token') ~= ARGV[2] then return -2 end
enter(ARGV[1], ARGV[3], ARGV[4], ARGV[5])
if state ~= ARGV[3] then count(6) end
return 1
