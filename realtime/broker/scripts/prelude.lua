-- What every script begins with. Before it stand `local NAME = value` lines with the constants of
-- the deployment (see scripts.py); times are milliseconds.
--
-- A script reads every key that it will write before its first write: on a slot of a Redis Cluster
-- that is being moved it then fails as a whole, and is repeated, and never does half of its work.

local RUN = ARGV[1]
local LOG = PREFIX .. 'log'
local TICKS = PREFIX .. 'ticks'
local EVERYONE = '*'

local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local NOW = milliseconds()

-- The deployment's log: where it stands, as of the last `known`.
local log = {}

-- False if the server is not in the run that the log was last used in: the data may have gone back
-- in time, and a node has to `resume` first.
local function known()
  local got = redis.call('HMGET', LOG, 'run', 'epoch', 'generation', 'number', 'tick', 'oldest', 'made')
  if got[1] ~= RUN then
    return false
  end
  log.epoch, log.generation, log.number = got[2], got[3], tonumber(got[4])
  log.tick, log.oldest, log.made = tonumber(got[5]), tonumber(got[6]), tonumber(got[7])
  if NOW - log.tick >= 1000 then
    redis.call('EXISTS', TICKS)
  end
  return true
end

local RESUME = { 'RESUME' }

-- Numbers above 10^14 would be written with an exponent otherwise.
local function digits(number)
  return string.format('%.0f', number)
end

-- `oldest` is the newest number that is older than RETENTION: what is not above it may go.
local function keep_time()
  if NOW - log.tick < 1000 then
    return
  end
  redis.call('ZADD', TICKS, NOW, digits(log.number))
  local found = redis.call('ZREVRANGEBYSCORE', TICKS, NOW - RETENTION, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if found[1] then
    log.oldest = tonumber(found[1])
    redis.call('ZREMRANGEBYSCORE', TICKS, '-inf', '(' .. found[2])
  end
  redis.call('PEXPIRE', TICKS, META_TTL)
  log.tick = NOW
  redis.call('HSET', LOG, 'tick', digits(NOW), 'oldest', digits(log.oldest))
end

-- One channel as its meta has it; made when it is first used. `changes` are yet to be written.
local function channel_of(name)
  local key = PREFIX .. 'meta:' .. name
  local got = redis.call(
    'HMGET', key, 'offset', 'born', 'floor', 'last', 'tick', 'bytes', 'history_floor', 'history_bytes', 'gone'
  )
  local channel = {
    name = name, key = key, log = PREFIX .. 'log:' .. name, history = PREFIX .. 'history:' .. name,
    offset = tonumber(got[1] or 0), born = got[2], floor = tonumber(got[3] or 0),
    last = tonumber(got[4] or 0), tick = tonumber(got[5] or 0), bytes = tonumber(got[6] or 0),
    history_floor = tonumber(got[7] or 0), history_bytes = tonumber(got[8] or 0), gone = tonumber(got[9] or 0),
  }
  redis.call('EXISTS', channel.log, channel.history)
  return channel
end

-- A channel that comes back after its meta was gone counts from 1 again, under another epoch: what
-- somebody knows of the old one can't be taken for a place in the new one.
local function bear(channel)
  if channel.born then
    return
  end
  log.made = log.made + 1
  redis.call('HSET', LOG, 'made', digits(log.made))
  channel.born = digits(log.made)
  redis.call('HSET', channel.key, 'offset', 0, 'born', channel.born)
  redis.call('PEXPIRE', channel.key, META_TTL)
end

local function epoch_of(channel)
  return log.epoch .. '.' .. channel.born
end

-- The number up to which a channel's log may lack something: what is above it is surely there. Each offset
-- has one entry: where there are fewer than were logged and not trimmed, somebody else took some away.
local function floor_of(channel)
  if redis.call('XLEN', channel.log) ~= channel.offset - channel.gone then
    return channel.last
  end
  return channel.floor
end

-- Whether a client that has everything up to this place can lack only what the log has had since.
local function had(epoch, generation, number)
  local last = log.number
  if generation < tonumber(log.generation) then
    last = tonumber(redis.call('HGET', LOG, 'base:' .. digits(generation + 1)) or -1)
  end
  return epoch == log.epoch and generation <= tonumber(log.generation) and number <= last
end

-- Hand each text that a channel's log has after a number to `take`, until that answers false; false then.
local function read_log(channel, after, take)
  local from = digits(after + 1)
  while true do
    local entries = redis.call('XRANGE', channel.log, from, '+', 'COUNT', 200)
    for _, entry in ipairs(entries) do
      if not take(entry[2][2]) then
        return false
      end
    end
    if #entries < 200 then
      return true
    end
    from = '(' .. entries[#entries][1]
  end
end

-- Take entries off the front of a stream that has `left` of them and `size` bytes: those over `limit` or
-- MAX_BYTES, and if `aged` those that are not above `oldest`.
-- Returns the number of the newest that went (0 for none), the bytes that went, and the newest's offset.
local function shorten(stream, left, size, limit, aged)
  local newest, bytes, offset = 0, 0, 0
  while left > 0 and (aged or left > limit or size - bytes > MAX_BYTES) do
    local count = aged and 16 or math.min(16, math.max(1, left - limit))
    local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', count)
    local gone = 0
    for _, entry in ipairs(entries) do
      local number = tonumber(string.match(entry[1], '^%d+'))
      local old = aged and number <= log.oldest
      if not old and left <= limit and size - bytes <= MAX_BYTES then
        break
      end
      gone, left, newest, bytes = gone + 1, left - 1, number, bytes + #entry[2][2]
      offset = tonumber(string.match(entry[2][2], '^%d+ (%d+)'))
    end
    if gone == 0 then
      break
    end
    redis.call('XTRIM', stream, 'MINID', '=', digits(newest + 1))
    aged = aged and gone == count
  end
  return newest, bytes, offset
end

local function trim_log(channel, left, aged)
  local newest, bytes, offset = shorten(channel.log, left, channel.bytes, MAX_MESSAGES, aged)
  if newest > 0 then
    channel.floor, channel.gone, channel.bytes = newest, offset, channel.bytes - bytes
  end
end

local function trim_history(channel)
  local left = redis.call('XLEN', channel.history)
  local newest, bytes = shorten(channel.history, left, channel.history_bytes, HISTORY)
  if newest > 0 then
    channel.history_floor, channel.history_bytes = newest, channel.history_bytes - bytes
  end
end

-- Add an entry to a stream. Where that is left over from a channel whose meta is lost, or a log whose place
-- is, and would not take it, it is begun anew: true then.
local function append(stream, id, text)
  local added = redis.pcall('XADD', stream, id, 'm', text)
  if type(added) ~= 'table' then
    return false
  end
  if string.find(added.err, 'equal or smaller', 1, true) then
    redis.call('DEL', stream)
  end
  redis.call('XADD', stream, id, 'm', text)
  return true
end

-- Log one publication and hand it to the nodes. `head` is the header line, `data` the payload.
local function log_and_publish(channel, head, data, shown)
  keep_time()
  bear(channel)
  if channel.bytes > 0 and redis.call('EXISTS', channel.log) == 0 then
    -- the log has outlived its time while the channel was silent
    channel.floor, channel.gone, channel.bytes = channel.last, channel.offset, 0
  end
  log.number = log.number + 1
  channel.offset = channel.offset + 1
  redis.call('HSET', LOG, 'number', digits(log.number))
  local number, offset = digits(log.number), digits(channel.offset)
  local text = table.concat({
    number, ' ', offset, ' ', channel.born, ' ', log.epoch, ' ', log.generation, '\n', head, '\n', data,
  })
  if append(channel.log, number .. '-0', text) then
    channel.floor, channel.gone, channel.bytes, channel.tick = log.number - 1, channel.offset - 1, 0, 0
  end
  channel.bytes, channel.last = channel.bytes + #text, log.number
  local due = NOW - channel.tick >= 1000
  trim_log(channel, redis.call('XLEN', channel.log), due)
  if shown and HISTORY > 0 then
    if channel.history_bytes > 0 and redis.call('EXISTS', channel.history) == 0 then
      channel.history_floor, channel.history_bytes = channel.offset - 1, 0
    end
    if append(channel.history, offset .. '-0', text) then
      channel.history_floor, channel.history_bytes = channel.offset - 1, 0
    end
    channel.history_bytes = channel.history_bytes + #text
    trim_history(channel)
  elseif shown then
    channel.history_floor = channel.offset
  end
  redis.call(
    'HSET', channel.key, 'offset', offset, 'floor', digits(channel.floor), 'gone', digits(channel.gone),
    'last', number,
    'bytes', digits(channel.bytes), 'history_floor', digits(channel.history_floor),
    'history_bytes', digits(channel.history_bytes)
  )
  if due then
    channel.tick = NOW
    redis.call('HSET', channel.key, 'tick', digits(NOW))
    redis.call('PEXPIRE', channel.key, META_TTL)
    redis.call('PEXPIRE', channel.log, RETENTION + 2000)
    redis.call('PEXPIRE', LOG, LOG_TTL)
  end
  if shown and HISTORY > 0 then
    redis.call('PEXPIRE', channel.history, HISTORY_TTL)
  end
  redis.call(PUBLISH, PREFIX .. 'channel:' .. channel.name, text)
end

local function publish_only(name, head, data)
  redis.call(PUBLISH, PREFIX .. 'channel:' .. name, '\n' .. head .. '\n' .. data)
end

-- A publication of a script's own: {event, data, rooms, except_user?, logged}. `channel` is what
-- `channel_of` answered for its channel, and only needed for one that is logged.
local function emit(publication, channel)
  log.made = log.made + 1
  redis.call('HSET', LOG, 'made', digits(log.made))
  local head = {
    e = publication.event,
    i = string.format('%012x', NOW) .. string.format('%016x', log.made),
    t = NOW,
    r = publication.rooms,
  }
  if publication.except_user then
    head.xu = { publication.except_user }
  end
  if publication.logged then
    log_and_publish(channel, cjson.encode(head), publication.data, false)
  else
    local rooms = publication.rooms
    publish_only(#rooms == 1 and rooms[1] or EVERYONE, cjson.encode(head), publication.data)
  end
end

-- Tell other services, by a plain PUBLISH that our own nodes know from the source.
local function tell_services(channel, payload)
  redis.call('PUBLISH', channel, string.sub(payload, 1, -2) .. ',"source":"realtime"}')
end

-- The place in the log, for `Sequence`.
local function place()
  return digits(log.number) .. ' ' .. log.epoch .. ' ' .. log.generation
end

-- Mark the present place in the order in which a node hears everything: what its Deferred waits for.
local function mark(node, token, payload)
  redis.call(PUBLISH, PREFIX .. 'inbox:' .. node, 'm ' .. token .. ' ' .. place() .. '\n' .. payload)
end
