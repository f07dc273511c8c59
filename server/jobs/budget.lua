-- The budget of one credential: the generic cell rate algorithm as a bucket of calls that refills
-- evenly, by the clock of Redis, which all replicas share.
--
-- KEYS[1]  hash: level (calls left), at (when that was so), factor (share of the full rate), calm
--          (since when Bitbucket has not refused, as far as factor has been raised for it), paused
--          (until when). Times are microseconds.
-- ARGV[1]  what to do: take, seed, pause
-- ARGV[2]  calls per hour at the full rate
-- ARGV[3]  capacity
-- take:    ARGV[4] calls that this class must leave over, ARGV[5] calls to wait for when refused
--          -> {1, 0} taken; {0, microseconds to wait}; {-1, 0} unknown credential: seed it
-- seed:    ARGV[4] calls left -> {1, 0}; does nothing where the credential is known
-- pause:   ARGV[4] microseconds -> {1, 0}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local per_hour, capacity, arg = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function keep(level, factor, calm, paused)
  redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.0f', now),
    'factor', string.format('%.6f', factor), 'calm', string.format('%.0f', calm), 'paused', string.format('%.0f', paused))
  redis.call('EXPIRE', KEYS[1], 7200)
end

local state = redis.call('HMGET', KEYS[1], 'level', 'at', 'factor', 'calm', 'paused')
if not state[1] then
  if ARGV[1] == 'take' then
    return {-1, 0}
  end
  if ARGV[1] == 'seed' then
    keep(arg, 1, now, 0)
    return {1, 0}
  end
  state = {'0', tostring(now), '1', tostring(now), '0'}
elseif ARGV[1] == 'seed' then
  return {1, 0}
end
local level, at, factor = tonumber(state[1]), tonumber(state[2]), tonumber(state[3])
local calm, paused = tonumber(state[4]), tonumber(state[5])

-- Five percent more for each quiet minute, after the rate was halved.
local minutes = math.floor((now - calm) / 60000000)
if minutes > 0 then
  factor = math.min(1, factor + 0.05 * minutes)
  calm = calm + minutes * 60000000
end
local per_microsecond = per_hour * factor / 3600000000
level = math.min(capacity, level + math.max(0, now - at) * per_microsecond)

if ARGV[1] == 'pause' then
  -- Several replicas meet one refusal: it halves the rate once.
  if paused <= now then
    factor = math.max(factor / 2, 1 / 16)
  end
  keep(0, factor, now, math.max(paused, now + arg))
  return {1, 0}
end

if paused > now then
  keep(level, factor, calm, paused)
  return {0, math.ceil(paused - now)}
end
arg = math.min(arg, capacity - 1) -- else nothing could ever be taken
if level - 1 < arg then
  keep(level, factor, calm, paused)
  return {0, math.ceil((math.min(arg + tonumber(ARGV[5]), capacity) - level) / per_microsecond)}
end
keep(level - 1, factor, calm, paused)
return {1, 0}
