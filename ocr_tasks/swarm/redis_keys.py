"""The swarm's keys in Redis: pattern, type, content and lifetime."""

from __future__ import annotations

#: The page queue of the swarm (`swarm.queue`). Pages of collections stay until they are purged,
#: pages of jobs as long as the run that added them renews its batch. Times are Unix times.
#:   ocr:swarm:page:<id>       hash: page (a `SwarmPage` as JSON), group, place in the queue, batch,
#:                             state (waiting, leased, done, aside), failures, reason:<n> of each;
#:                             lease and device that have the page now; given:<lease>, the device of
#:                             every lease so far; had:<device or client> for each that must not
#:                             get the page again; storing (a lease) and storing_until while a
#:                             transcript is stored; by, the lease of the last transcript;
#:                             transcribed_by, the device whose transcript is stored
#:   ocr:swarm:groups          set of groups with waiting or overdue pages; empty groups are removed
#:                             later
#:   ocr:swarm:waiting:<group> sorted set of ids of waiting pages, by place; those that another
#:                             client must check by place + 1e15
#:   ocr:swarm:leases          sorted set of ids of leased pages, by the time at which the lease
#:                             expires
#:   ocr:swarm:overdue:<group> sorted set of ids of pages that clients of docr/smd have leased, by
#:                             the time from which they can be leased by others, too
#:   ocr:swarm:overdue:<group>:<device>  the same for the pages of one device
#:   ocr:swarm:pages           sorted set of ids of all pages of collections, by place
#:   ocr:swarm:done, :aside    sorted sets of ids of pages that have a transcript, or failed too
#:                             often, by time
#:   ocr:swarm:places          counter of places
#:   ocr:swarm:batch:<run>     string: exists while a run of a job needs its pages; expires after 20
#:                             seconds unless it is renewed
#:   ocr:swarm:answer:<id>     list: the result of a page of a job; expires after ten minutes
#:   ocr:swarm:devices         sorted set of devices, by the time of their last request
#:   ocr:swarm:device:<name>   hash: first, last (times of requests); counts: open, leased, done,
#:                             failed, expired, late, checked, disagreed
#:   ocr:swarm:clients         sorted set of clients (tokens or IP addresses), by the time of their
#:                             last request
#:   ocr:swarm:client:<client> hash of counts: checked, disagreed
#:   ocr:swarm:referred:<name> string: exists if a device was sent to another server a moment ago;
#:                             expires after five seconds
#:   ocr:swarm:stats           hash of counters: transcripts, checked, unchecked
SWARM = "ocr:swarm:"
