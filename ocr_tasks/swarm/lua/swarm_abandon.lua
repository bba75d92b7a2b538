#!lua flags=allow-oom
-- include: lease swarm
-- Records that an accepted transcript is not stored, so that another one can be accepted.
-- KEYS  1 prefix
-- ARGV  1 page id  2 the lease's secret
if field(ARGV[1], 'storing') == ARGV[2] then
  redis.call('HDEL', page(ARGV[1]), 'storing', 'storing_until')
end
