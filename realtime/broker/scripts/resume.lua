-- Go on with the data of a server that a node has (again) connected to.
--
-- The first node of a run begins a new generation from the number that the data has; a node that has
-- heard of numbers above that knows that the data went back in time, and begins a new epoch.
-- ARGV: run, the epoch and generation that the node goes by ('' and 0 for none), the highest number
-- that it has heard, a fresh epoch.
-- Answers {number, epoch, generation, start, parted}: the number from which on a node of another epoch has to
-- hear this one, and that up to which the data is what it has heard ('' if that is not known).

redis.call('EXISTS', PREFIX .. 'meta:' .. EVERYONE, TICKS)
local got = redis.call('HMGET', LOG, 'run', 'epoch', 'generation', 'number', 'made', 'begun')
local run, epoch, generation, number, begun = got[1], got[2], tonumber(got[3]), tonumber(got[4]), tonumber(got[6])
local heard_epoch, heard_generation, highest, fresh = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local function next_generation()
  generation = (generation or 0) + 1
  redis.call('HSET', LOG, 'run', RUN, 'generation', generation, 'base:' .. generation, digits(number))
  if generation > 100 then
    redis.call('HDEL', LOG, 'base:' .. (generation - 100))
  end
end

-- Generations go on: a node of the epoch before finds where it parted from what there is now.
local function begin()
  -- Numbers go on from the highest that anyone may know, so that none is ever used twice.
  number = math.max(number or 0, highest)
  epoch, begun = fresh, number
  redis.call(
    'HSET', LOG, 'epoch', epoch, 'begun', digits(begun), 'number', digits(number),
    'made', got[5] or 0, 'tick', 0, 'oldest', 0
  )
  next_generation()
  redis.call(PUBLISH, PREFIX .. 'epochs', epoch)
end

if not epoch then
  redis.call('DEL', LOG)
  begin()
elseif run ~= RUN then
  next_generation()
end
if heard_epoch == epoch then
  local base = number
  if heard_generation < generation then
    base = tonumber(redis.call('HGET', LOG, 'base:' .. (heard_generation + 1)) or 0)
  end
  if highest > base then
    begin()
  end
end
redis.call('PEXPIRE', LOG, LOG_TTL)
-- Made later, the log of everyone would begin after what a session has to prove.
known()
bear(channel_of(EVERYONE))

local start, parted = number, tonumber(redis.call('HGET', LOG, 'base:' .. (heard_generation + 1)) or '')
if heard_epoch ~= '' and parted then
  start = math.max(begun or 0, parted)
elseif heard_epoch ~= '' then
  -- Older data may be of an epoch that the node has heard long ago.
  start = tonumber(redis.call('HGET', LOG, 'base:' .. generation) or number)
end
return { digits(number), epoch, tostring(generation), digits(start), parted and digits(parted) or '' }
