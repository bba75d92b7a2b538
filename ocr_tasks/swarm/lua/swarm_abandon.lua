#!lua flags=allow-oom
-- include: swarm
-- Takes note that a transcript that was accepted is not stored after all.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret
if field(ARGV[1], 'storing') == ARGV[2] then
  redis.call('HDEL', page(ARGV[1]), 'storing', 'storing_until')
end
