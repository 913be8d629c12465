-- Go on with the data of a server that a node has (again) connected to.
--
-- The first node of a run begins a new generation from the number that the data has; a node that has
-- heard of numbers above that knows that the data went back in time, and begins a new epoch.
-- ARGV: run, the epoch and generation that the node goes by ('' and 0 for none), the highest number
-- that it has heard, a fresh epoch.
-- Answers {number, epoch, generation}.

redis.call('EXISTS', PREFIX .. 'meta:' .. EVERYONE, TICKS)
local got = redis.call('HMGET', LOG, 'run', 'epoch', 'generation', 'number', 'made')
local run, epoch, generation, number = got[1], got[2], tonumber(got[3]), tonumber(got[4])
local heard_epoch, heard_generation, highest, fresh = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local function begin()
  -- Numbers go on from the highest that anyone may know, so that none is ever used twice.
  number = math.max(number or 0, highest)
  epoch, generation = fresh, 1
  redis.call('DEL', LOG)
  redis.call(
    'HSET', LOG, 'epoch', epoch, 'generation', 1, 'number', digits(number), 'run', RUN,
    'made', got[5] or 0, 'tick', 0, 'oldest', 0
  )
  redis.call(PUBLISH, PREFIX .. 'epochs', epoch)
end

if not epoch then
  begin()
elseif run ~= RUN then
  generation = generation + 1
  redis.call('HSET', LOG, 'run', RUN, 'generation', generation, 'base:' .. generation, digits(number))
  if generation > 100 then
    redis.call('HDEL', LOG, 'base:' .. (generation - 100))
  end
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
return { digits(number), epoch, tostring(generation) }
