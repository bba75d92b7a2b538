-- Leases: members of a sorted set, by the second of Redis's clock at which they expire.

-- Returns the time in seconds since the epoch.
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Acquires or renews a lease for a number of seconds, 0 for no limit.
local function hold(leases, member, seconds)
  redis.call('ZADD', leases, tonumber(seconds) == 0 and '+inf' or now() + tonumber(seconds), member)
end

-- Ends a lease. Returns whether there was one.
local function release(leases, member)
  return redis.call('ZREM', leases, member) == 1
end

-- Returns whether a lease has expired, or does not exist.
local function is_expired(leases, member)
  return tonumber(redis.call('ZSCORE', leases, member) or 0) <= now()
end

-- Returns members whose leases have expired, the earliest first.
local function expired(leases, most)
  return redis.call('ZRANGEBYSCORE', leases, '-inf', now(), 'LIMIT', 0, most)
end
