-- The booking queue (queues/interface.py). Of each event:
--   event     hash: its leader, and how far that was told: `cursor` among changes, `replay` among those who
--             wait ('' if it is not to hear them), `until` from which joins are in both, `told` ever
--   waiting   zset: users, by the number of their joining
--   entries   hash: of each user k (w waits, p may proceed, l has left), n number, s since (ms), …
--   changes   zset: what no worker has acknowledged, 'u USER' or 'p PROCEED', by number
--   proceeds  hash: of each proceed u user, s state, x its end (ms), d payload, q e its place in the log, …
-- Numbers are texts: cjson keeps 14 digits only.

local Q = PREFIX .. 'queue:'
local NUMBER, EVENTS, ENDS = Q .. 'number', Q .. 'events', Q .. 'ends'
local WORKERS, LIVES, ORPHANS = Q .. 'workers', Q .. 'lives', Q .. 'orphans'
-- How long what is over is kept for workers that are away; how long anything outlives its last use.
local OVER, KEEP = 86400000, 8 * 86400000

local function load_leader(name)
  redis.call('EXISTS', Q .. 'led:' .. name, Q .. 'ready:' .. name)
end

local function load_event(name)
  local event = { name = name }
  for _, kind in ipairs({ 'event', 'waiting', 'entries', 'changes', 'proceeds' }) do
    event[kind] = Q .. kind .. ':' .. name
  end
  redis.call('EXISTS', event.waiting, event.entries, event.changes, event.proceeds)
  redis.call('EXISTS', NUMBER, EVENTS, ENDS, WORKERS, LIVES, ORPHANS)
  local got = redis.call('HMGET', event.event, 'leader', 'cursor', 'replay', 'until', 'told')
  event.leader, event.cursor, event.replay = got[1] or '', tonumber(got[2] or 0), got[3] or ''
  event.until_, event.told = tonumber(got[4] or 0), tonumber(got[5] or 0)
  if event.leader ~= '' then
    load_leader(event.leader)
  end
  return event
end

local function queues_of(user)
  return Q .. 'user:' .. user
end

local function load_user(user)
  redis.call('EXISTS', queues_of(user))
end

-- What is kept of somebody, and of a proceed; nil for nothing.
local function read(key, field)
  local text = redis.call('HGET', key, field)
  return text and cjson.decode(text) or nil
end

local function write(key, field, value)
  redis.call('HSET', key, field, cjson.encode(value))
end

-- Numbers go on where they were even if the store has lost where that was: they begin with the time (µs).
local function next_number()
  local number = math.max(tonumber(redis.call('GET', NUMBER) or 0) + 1, NOW * 1000)
  redis.call('SET', NUMBER, digits(number), 'PX', KEEP)
  return number
end

local function keep(event)
  for _, kind in ipairs({ 'event', 'waiting', 'entries', 'changes', 'proceeds' }) do
    redis.call('PEXPIRE', event[kind], KEEP)
  end
  redis.call('PEXPIRE', EVENTS, KEEP)
  redis.call('PEXPIRE', ENDS, KEEP)
end

-- Let an event's leader, or who becomes it, hear of changes.
local function make_ready(event)
  redis.call('SADD', EVENTS, event.name)
  if event.leader == '' then
    redis.call('SADD', ORPHANS, event.name)
    redis.call('PEXPIRE', ORPHANS, KEEP)
  else
    redis.call('SADD', Q .. 'ready:' .. event.leader, event.name)
    redis.call('PEXPIRE', Q .. 'ready:' .. event.leader, KEEP)
  end
  keep(event)
end

-- One change as workers hear it, in JSON; nil if there is nothing to say.
local function told(event, subject, number)
  local name = string.sub(subject, 3)
  local head = '{"id":' .. digits(number) .. ',"eventId":' .. cjson.encode(event.name)
  if string.sub(subject, 1, 1) == 'p' then
    local proceed = read(event.proceeds, name)
    return proceed and head .. ',"kind":"receipt","userId":' .. cjson.encode(proceed.u) .. ',"proceedId":'
      .. cjson.encode(name) .. ',"state":"' .. proceed.s .. '","time":' .. proceed.t .. '}'
  end
  local entry = read(event.entries, name)
  if not entry or entry.k == 'p' then
    return nil
  end
  head = head .. ',"userId":' .. cjson.encode(name) .. ',"time":' .. entry.s
  if entry.k == 'l' then
    return head .. ',"kind":"left","reason":"' .. entry.r .. '"}'
  end
  local position = entry.o and ',"position":' .. entry.o or ''
  return head .. ',"kind":"joined","connectionId":' .. cjson.encode(entry.c) .. position .. '}'
end

-- A change, for the event's leader to hear, and at once for who watches.
local function change(event, subject, number)
  redis.call('ZADD', event.changes, digits(number), subject)
  make_ready(event)
  redis.call(PUBLISH, PREFIX .. 'signals', 'queued\n' .. (told(event, subject, number) or 'null'))
end

local function ends(event, what, time)
  redis.call('ZADD', ENDS, digits(time), event.name .. ' ' .. what)
end

-- Forget what a user was in a queue.
local function forget(event, user)
  redis.call('HDEL', event.entries, user)
  redis.call('SREM', queues_of(user), event.name)
  redis.call('ZREM', ENDS, event.name .. ' u ' .. user)
end

local function forget_proceed(event, id)
  redis.call('HDEL', event.proceeds, id)
  redis.call('ZREM', event.changes, 'p ' .. id)
  redis.call('ZREM', ENDS, event.name .. ' p ' .. id)
end

-- An event of which nothing is left goes.
local function tidy(event)
  local left = redis.call('HLEN', event.entries) + redis.call('HLEN', event.proceeds)
  if left + redis.call('ZCARD', event.waiting) + redis.call('ZCARD', event.changes) > 0 then
    return
  end
  redis.call('DEL', event.event, event.waiting, event.entries, event.changes, event.proceeds)
  redis.call('SREM', EVENTS, event.name)
  redis.call('SREM', ORPHANS, event.name)
  if event.leader ~= '' then
    redis.call('SREM', Q .. 'led:' .. event.leader, event.name)
    redis.call('SREM', Q .. 'ready:' .. event.leader, event.name)
  end
end

-- Publish to the connections of a user. `more` is what stands in the head beside the usual; `channel`, what
-- `channel_of` answered for the user's room, is given for what is logged.
local function say(user, name, data, id, time, more, channel)
  if not id then
    log.made = log.made + 1
    redis.call('HSET', LOG, 'made', digits(log.made))
    id = string.format('%012x', NOW) .. string.format('%016x', log.made)
  end
  local head = '{"e":"' .. name .. '","i":"' .. id .. '","t":' .. digits(time) .. ',"r":['
    .. cjson.encode('user:' .. user) .. ']' .. more .. '}'
  if channel then
    log_and_publish(channel, head, data, false)
  else
    publish_only('user:' .. user, head, data)
  end
end

-- Once more to a connection alone: a proceed that was not confirmed.
local function say_again(user, proceed, connection)
  say(user, 'queue:proceed', proceed.d, proceed.i, tonumber(proceed.m), ',"os":[' .. connection .. '],"x":' .. proceed.x)
end

-- A user goes: for a reason of theirs, a service's, or their absence. Returns whether they were there.
-- `channel` is what `channel_of` answered for the user's room.
local function go(event, user, entry, reason, channel)
  if not entry or entry.k == 'l' then
    return false
  end
  local number = next_number()
  local subject = 'u ' .. user
  if entry.k == 'p' then
    local proceed = read(event.proceeds, entry.p)
    forget(event, user)
    if proceed and (proceed.s == 'sent' or proceed.s == 'acknowledged') then
      proceed.s, proceed.t = reason == 'left' and 'declined' or 'removed', digits(NOW)
      write(event.proceeds, entry.p, proceed)
      change(event, 'p ' .. entry.p, number)
    end
  else
    redis.call('ZREM', event.waiting, user)
    local unheard = redis.call('ZSCORE', event.changes, subject)
    if unheard and tonumber(unheard) > event.told then
      -- no worker has heard that they came
      redis.call('ZREM', event.changes, subject)
      forget(event, user)
      redis.call(PUBLISH, PREFIX .. 'signals', 'queued\n{"id":' .. digits(number) .. ',"eventId":'
        .. cjson.encode(event.name) .. ',"userId":' .. cjson.encode(user) .. ',"time":' .. digits(NOW)
        .. ',"kind":"left","reason":"' .. reason .. '"}')
    else
      write(event.entries, user, { k = 'l', n = digits(number), s = digits(NOW), r = reason })
      ends(event, subject, NOW + OVER)
      change(event, subject, number)
    end
  end
  local data = '{"eventId":' .. cjson.encode(event.name) .. ',"reason":"' .. reason .. '","timestamp":' .. digits(NOW) .. '}'
  say(user, 'queue:left', data, nil, NOW, '', channel)
  return true
end
