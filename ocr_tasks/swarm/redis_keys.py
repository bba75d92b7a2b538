"""The swarm's keys in Redis: pattern, type, meaning and lifetime."""

from __future__ import annotations

#: The page queue of the swarm (`swarm.queue`). Pages of collections stay until they are purged,
#: those of jobs for as long as the run that put them there keeps its batch.
#:   ocr:swarm:page:<id>       hash: page (what it is, as JSON), group, place in the queue, batch,
#:                             state (waiting, leased, done, aside), failures, reason:<n> of each;
#:                             lease and device that have it; given:<lease> the device of each lease
#:                             that there was; had:<device> for those that are not to have it again;
#:                             storing, storing_until while a transcript
#:                             is stored; by, the lease whose transcript came last
#:   ocr:swarm:groups          set of groups that have had pages lately: who can read them
#:   ocr:swarm:waiting:<group> sorted set of ids of pages that wait, by their place
#:   ocr:swarm:leases          sorted set of ids of leased pages by the second of the lease's end
#:   ocr:swarm:pages           sorted set of ids of all pages of collections, by place
#:   ocr:swarm:done, :aside    sorted sets of those that are read, or given up, by the second
#:   ocr:swarm:places          counter of places
#:   ocr:swarm:batch:<run>     string: the pages of a run of a job are wanted; lives a minute
#:   ocr:swarm:answer:<id>     list: what became of a page of a job; lives ten minutes
#:   ocr:swarm:devices         sorted set of devices by the second in which they were last seen
#:   ocr:swarm:device:<name>   hash: first, last seen; counts: open, leased, done, failed, expired,
#:                             late, checked, disagreed
#:   ocr:swarm:stats           hash of counters for /metrics
SWARM = "ocr:swarm:"
