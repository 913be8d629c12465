-- What the scripts of the state store share, between the prelude and the script itself.
--
-- Sessions, users and their seats in rooms are loaded into tables, once each. A script plans on the tables
-- first (`load_…`, `leave_…`, `settle`: these only read), then writes (`write_…`, `enter`, `exit`,
-- `announce`): nothing is read for the first time after the first write.

local WAITING, NODES, ROOMS = PREFIX .. 'waiting', PREFIX .. 'nodes', PREFIX .. 'rooms'

redis.call('EXISTS', WAITING, NODES, ROOMS)

-- As JSON, and as Python writes it.
local function quoted(text)
  return '"' .. string.gsub(text, '[%c"\\]', function(char)
    if char == '"' or char == '\\' then
      return '\\' .. char
    end
    return string.format('\\u%04x', string.byte(char))
  end) .. '"'
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

local function node_key(node)
  return PREFIX .. 'node:' .. node
end

-- Whether a node's lease has ended: what it has in the store is not, or may soon not be, its own.
local function lapsed(node)
  local ends = redis.call('ZSCORE', NODES, node)
  return not ends or tonumber(ends) < NOW
end

-- '1' if a node is dead and not swept: what is counted may be too much.
local function dead_nodes()
  return #redis.call('ZRANGEBYSCORE', NODES, '-inf', '(' .. digits(NOW), 'LIMIT', 0, 1) > 0 and '1' or ''
end

-- -- loading

local sessions, users, seats, channels = {}, {}, {}, {}

local function channel(name)
  channels[name] = channels[name] or channel_of(name)
  return channels[name]
end

-- A session's record; nil if there is none. `rooms[room]` is {number, epoch, joined}.
local function load_session(id)
  if sessions[id] ~= nil then
    return sessions[id] or nil
  end
  local key = PREFIX .. 'session:' .. id
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then
    sessions[id] = false
    return nil
  end
  local session = { id = id, key = key, rooms = {} }
  for index = 1, #flat, 2 do
    local field, value = flat[index], flat[index + 1]
    if string.sub(field, 1, 2) == 'r:' then
      local number, epoch, joined = string.match(value, '^(%d+) (%S+) ([01])$')
      session.rooms[string.sub(field, 3)] = { number = number, epoch = epoch, joined = joined == '1' }
    else
      session[field] = value
    end
  end
  if not (session.user and session.connection and session.generation and session.node and session.opened) then
    -- Somebody else's work: it is no session, and must not keep what is one from being ended.
    sessions[id] = false
    return nil
  end
  session.generation = tonumber(session.generation)
  session.suspended = tonumber(session.suspended)
  redis.call('EXISTS', node_key(session.node))
  sessions[id] = session
  return session
end

-- A user: the sessions that are present by connection, their metas {since, idle}, and the sessions
-- that wait to be taken up with the time since when.
local function load_user(name)
  if users[name] then
    return users[name]
  end
  local user = {
    name = name, key = PREFIX .. 'user:' .. name, status = 'online', changed = 0,
    sessions = {}, metas = {}, waiting = {},
  }
  local flat = redis.call('HGETALL', user.key)
  for index = 1, #flat, 2 do
    local field, value = flat[index], flat[index + 1]
    local kind, rest = string.sub(field, 1, 2), string.sub(field, 3)
    if kind == 's:' then
      user.sessions[rest] = value
    elseif kind == 'm:' then
      local since, idle = string.match(value, '^(%d+) ([01])$')
      user.metas[rest] = { since = since, idle = idle == '1' }
    elseif kind == 'w:' then
      user.waiting[rest] = tonumber(value)
    else
      user[field] = value
    end
  end
  user.changed = tonumber(user.changed)
  users[name] = user
  return user
end

-- A user's seat in a room: how many sessions are in it, and which number the user has in the order of
-- joining.
local function load_seat(room, name)
  local id = room .. ' ' .. name
  if not seats[id] then
    local key = PREFIX .. 'room:' .. room
    local got = redis.call('HGET', key, name)
    local count, order = string.match(got or '0 0', '^(%d+) (%d+)$')
    seats[id] = {
      room = room, user = name, key = key, count = tonumber(count), order = order, channel = channel(room),
    }
  end
  return seats[id]
end

-- Whether a user may enter a room; if so, the seat is taken as far as this script plans.
local taken = {}

local function has_seat(seat, limit)
  if seat.count > 0 or seat.taken then
    return true
  end
  taken[seat.room] = taken[seat.room] or redis.call('HLEN', seat.key)
  if taken[seat.room] >= limit then
    return false
  end
  taken[seat.room] = taken[seat.room] + 1
  seat.taken = true
  return true
end

-- The record, if it is still this owner's.
local function owned(id, user, connection, generation)
  local session = load_session(id)
  if
    session
    and session.user == user
    and session.connection == connection
    and session.generation == tonumber(generation)
  then
    return session
  end
end

-- Whether the session can still be taken up, or is in use.
local function lasts(session)
  return session and not (session.suspended and session.suspended + WINDOW <= NOW)
end

-- How many connections the user has that count.
local function live(user)
  local count = 0
  for _, id in pairs(user.sessions) do
    if not user.waiting[id] then
      count = count + 1
    end
  end
  return count
end

-- -- presence

-- What others see of a user: invisible looks offline, idle everywhere is away.
local function seen(user)
  local shown = user.status
  if next(user.metas) == nil or shown == 'invisible' then
    shown = 'offline'
  elseif shown == 'online' then
    shown = 'away'
    for _, meta in pairs(user.metas) do
      if not meta.idle then
        shown = 'online'
      end
    end
  end
  return { shown = shown, text = user.text }
end

-- Begin to plan a change of a user's presence.
local function watch(user)
  local ids = {}
  for _, id in pairs(user.sessions) do
    ids[id] = true
  end
  return { user = user, before = seen(user), ids = ids }
end

-- End it: whether others see a difference, and who they are, by the rooms before and after.
local function settle(change)
  local user, before = change.user, change.before
  local after = seen(user)
  if after.shown == before.shown and (after.text == before.text or after.shown == 'offline') then
    return
  end
  for _, id in pairs(user.sessions) do
    change.ids[id] = true
  end
  local rooms = {}
  for id in pairs(change.ids) do
    local session = load_session(id)
    for room, membership in pairs(session and session.rooms or {}) do
      if membership.joined then
        rooms[room] = true
      end
    end
  end
  change.rooms = sorted(rooms)
  change.after = after
  change.event = 'user:status_change'
  if before.shown == 'offline' then
    change.event = 'user:online'
  elseif after.shown == 'offline' then
    change.event = 'user:offline'
  end
end

local function announce(change)
  if not change.event then
    return
  end
  local user, after = change.user, change.after
  local parts = { '{"userId":', quoted(user.name), ',"status":"', after.shown, '"' }
  if after.text and after.shown ~= 'offline' then
    parts[#parts + 1] = ',"text":' .. after.text
  end
  parts[#parts + 1] = ',"timestamp":' .. digits(NOW) .. '}'
  local data = table.concat(parts)
  if #change.rooms > 0 then
    -- Who is about to be closed for good has no other connection left that should hear of it.
    local gone = next(user.sessions) == nil and user.name or nil
    emit({ event = change.event, data = data, rooms = change.rooms, except_user = gone })
  end
  tell_services(change.event, data)
  if next(user.sessions) ~= nil then
    redis.call('HSET', user.key, 'changed', digits(NOW))
  end
end

local function tell_of_socket(event, session, reason)
  local data = '{"userId":' .. quoted(session.user) .. ',"connectionId":' .. quoted(session.connection)
  if reason then
    data = data .. ',"reason":"' .. reason .. '"'
  end
  tell_services('socket:' .. event, data .. ',"timestamp":' .. digits(NOW) .. '}')
end

-- -- rooms

local function tell_of_seat(event, seat)
  local data = '{"roomId":' .. quoted(seat.room) .. ',"userId":' .. quoted(seat.user)
  emit({
    event = event, data = data .. ',"timestamp":' .. digits(NOW) .. '}', rooms = { seat.room },
    except_user = seat.user, logged = true,
  }, seat.channel)
end

local function write_seat(seat)
  redis.call('HSET', seat.key, seat.user, seat.count .. ' ' .. seat.order)
  redis.call('PEXPIRE', seat.key, SESSION_TTL)
  redis.call('SADD', ROOMS, seat.room)
  redis.call('PEXPIRE', ROOMS, SESSION_TTL)
end

-- One more session of the user is in the room; true if it is the first.
local function enter(seat, quiet)
  seat.count = seat.count + 1
  if seat.count > 1 then
    write_seat(seat)
    return false
  end
  log.made = log.made + 1
  redis.call('HSET', LOG, 'made', digits(log.made))
  seat.order = digits(log.made)
  write_seat(seat)
  if not quiet then
    tell_of_seat('room:user_joined', seat)
  end
  return true
end

local function exit(seat, quiet)
  if seat.count == 0 then
    return
  end
  seat.count = seat.count - 1
  if seat.count > 0 then
    write_seat(seat)
    return
  end
  redis.call('HDEL', seat.key, seat.user)
  if redis.call('EXISTS', seat.key) == 0 then
    redis.call('SREM', ROOMS, seat.room)
  end
  if not quiet then
    tell_of_seat('room:user_left', seat)
  end
end

-- Note a room in the session's record; `number` is that of the point of joining.
local function write_membership(session, room, number, joined)
  bear(channel(room))
  local membership = { number = digits(number), epoch = epoch_of(channel(room)), joined = joined }
  session.rooms[room] = membership
  redis.call(
    'HSET', session.key, 'r:' .. room, membership.number .. ' ' .. membership.epoch .. (joined and ' 1' or ' 0')
  )
end

-- -- sessions that come

-- Plan that a session is present, since then if it was not.
local function come(user, session, since)
  local connection = session.connection
  user.sessions[connection] = session.id
  local meta = user.metas[connection]
  user.metas[connection] = { since = meta and meta.since or since, idle = false }
  if user.changed == 0 then
    user.changed = NOW
  end
end

-- Write what belongs to a session that is live on its node.
local function write_live(user, session)
  local connection = session.connection
  local meta = user.metas[connection]
  session.present, session.suspended, session.last_seen = '1', nil, nil
  redis.call(
    'HSET', session.key, 'user', session.user, 'connection', connection, 'generation', session.generation,
    'node', session.node, 'opened', session.opened, 'present', '1'
  )
  redis.call('HDEL', session.key, 'suspended', 'last_seen')
  redis.call('PEXPIRE', session.key, SESSION_TTL)
  redis.call('SADD', node_key(session.node), session.id)
  redis.call('PEXPIRE', node_key(session.node), SESSION_TTL)
  redis.call(
    'HSET', user.key, 's:' .. connection, session.id, 'm:' .. connection,
    meta.since .. (meta.idle and ' 1' or ' 0'), 'changed', digits(user.changed)
  )
  if user.waiting[session.id] then
    user.waiting[session.id] = nil
    redis.call('HDEL', user.key, 'w:' .. session.id)
    redis.call('ZREM', WAITING, session.id)
  end
  redis.call('PEXPIRE', user.key, SESSION_TTL)
end

-- -- sessions that go

-- Plan that some sessions of a user are present no more.
local function go(user, going)
  local left = { user = user, sessions = {}, seats = {} }
  for _, session in ipairs(going) do
    if session.present then
      left.sessions[#left.sessions + 1] = session
      user.sessions[session.connection] = nil
      user.metas[session.connection] = nil
      for room, membership in pairs(session.rooms) do
        if membership.joined then
          left.seats[#left.seats + 1] = load_seat(room, user.name)
        end
      end
    end
  end
  table.sort(left.seats, function(one, other)
    return one.room < other.room
  end)
  return left
end

-- Write it, and the change of presence that comes with it.
local function write_gone(left, change)
  local user = left.user
  for _, session in ipairs(left.sessions) do
    session.present = nil
    redis.call('HDEL', user.key, 's:' .. session.connection, 'm:' .. session.connection)
    redis.call('HDEL', session.key, 'present')
  end
  if next(user.sessions) == nil then
    redis.call('HDEL', user.key, 'status', 'text', 'changed')
  end
  if change then
    announce(change)
  end
  for _, seat in ipairs(left.seats) do
    exit(seat)
  end
end

-- From now on the session waits to be taken up. `looked_at` is when the sweep has to look at it.
local function write_suspended(user, session, last_seen, reason, looked_at)
  session.suspended, session.last_seen = NOW, last_seen
  user.waiting[session.id] = NOW
  redis.call('HSET', session.key, 'suspended', digits(NOW), 'last_seen', last_seen)
  redis.call('PEXPIRE', session.key, WINDOW + SPARE)
  redis.call('HSET', user.key, 'w:' .. session.id, digits(NOW))
  redis.call('PEXPIRE', user.key, SESSION_TTL)
  redis.call('ZADD', WAITING, digits(looked_at), session.id)
  redis.call('PEXPIRE', WAITING, SESSION_TTL)
  redis.call('SREM', node_key(session.node), session.id)
  tell_of_socket('disconnect', session, reason)
end

-- Nothing stays of the session. It is present no more.
local function write_ended(user, session, reason)
  if not session.suspended then
    tell_of_socket('disconnect', session, reason)
  end
  user.waiting[session.id] = nil
  redis.call('HDEL', user.key, 'w:' .. session.id)
  redis.call('ZREM', WAITING, session.id)
  redis.call('SREM', node_key(session.node), session.id)
  redis.call('DEL', session.key)
  sessions[session.id] = false
end

-- Another node has a connection of a session that is not its own any more.
local function displace(session)
  local told = '[' .. quoted(session.user) .. ',' .. quoted(session.connection) .. ',' .. session.generation .. ']'
  redis.call(PUBLISH, PREFIX .. 'inbox:' .. session.node, 'd ' .. told)
end

-- -- answers

local function preferences_of(name)
  return redis.call('GET', PREFIX .. 'preferences:' .. name) or ''
end

-- {user, fields of its hash}: what the presence is made of.
local function presence_of(name)
  return { name, redis.call('HGETALL', PREFIX .. 'user:' .. name) }
end
