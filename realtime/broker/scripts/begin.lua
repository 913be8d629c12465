-- Begin a session: count it, open its record, enter its rooms, be present; then the marker.
--
-- ARGV: run, node, token, and packed: user, connection, generation, session, since, the limits of
-- connections and of members, rooms, for each '1' if it is joined as a member.
-- Answers {'OK', payload}: JSON {full: [rooms], preferences}; {'TOO MANY', '1' if a node is to be swept};
-- {'SWEPT'} if the node's lease has ended.
-- uses state.lua

if not known() then
  return RESUME
end
local node, token = ARGV[2], ARGV[3]
local name, connection, generation, id, since, connections, members, rooms, joined =
  unpack(cmsgpack.unpack(ARGV[4]))
if lapsed(node) then
  return { 'SWEPT' }
end

local user = load_user(name)
local ended = {}
local earlier = load_session(id)
local former, past
if earlier then
  -- The same transport was somebody before, and its end did not come through.
  local was = load_user(earlier.user)
  former = watch(was)
  past = go(was, { earlier })
  was.waiting[id] = nil
  settle(former)
end
if live(user) >= connections then
  return { 'TOO MANY', dead_nodes() }
end
local waiting = sorted(user.waiting)
table.sort(waiting, function(one, other)
  return user.waiting[one] < user.waiting[other]
end)
for index = 1, #waiting - connections do
  ended[#ended + 1] = load_session(waiting[index]) or { id = waiting[index], gone = true }
end

local session = {
  id = id, key = PREFIX .. 'session:' .. id, user = name, connection = connection,
  generation = generation, node = node, rooms = {},
}
redis.call('EXISTS', node_key(node))
local change = watch(user)
local kept = {}
for _, one in ipairs(ended) do
  if not one.gone then
    kept[#kept + 1] = one
  end
end
local left = go(user, kept)
come(user, session, since)
local full, entered = {}, {}
for index, room in ipairs(rooms) do
  local seat = load_seat(room, name)
  if joined[index] == '1' and not has_seat(seat, members) then
    full[#full + 1] = room
  else
    session.rooms[room] = { joined = joined[index] == '1' }
    entered[#entered + 1] = seat
  end
end
sessions[id] = session
settle(change)
local preferences = preferences_of(name)

-- From here on it is written.
if earlier then
  local was = load_user(earlier.user)
  write_gone(past, former)
  write_ended(was, earlier, 'left')
  sessions[id] = session
end
session.opened = place()
write_live(user, session)
for _, seat in ipairs(entered) do
  if session.rooms[seat.room].joined then
    enter(seat)
  end
end
announce(change)
write_gone(left)
for _, one in ipairs(ended) do
  if one.gone then
    redis.call('HDEL', user.key, 'w:' .. one.id)
    redis.call('ZREM', WAITING, one.id)
  else
    write_ended(user, one)
  end
end
tell_of_socket('connect', session)
for _, seat in ipairs(entered) do
  write_membership(session, seat.room, log.number, session.rooms[seat.room].joined)
end
session.opened = place()
redis.call('HSET', session.key, 'opened', session.opened)
if preferences ~= '' then
  redis.call('PEXPIRE', PREFIX .. 'preferences:' .. name, PREFERENCES_TTL)
end
local payload = '{"full":' .. (#full > 0 and cjson.encode(full) or '[]') .. ',"preferences":' .. quoted(preferences) .. '}'
mark(node, token, payload)
return { 'OK', payload }
