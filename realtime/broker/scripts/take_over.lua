-- Take up a session: raise its generation, count it, be in its rooms and present again, read what its
-- logs have after what was read of them; then the marker.
--
-- ARGV: run, node, token, and packed: user, connection, generation, session, since, the limits of
-- connections and of members, number, epoch and generation of the place up to which the logs were read,
-- the bytes that may be read, rooms and for each its membership, as they were read, and '1' if this is
-- the same taking up once more.
-- Answers {'OK', payload}: a line of JSON {number, preferences, sizes: [bytes of each text]}, then the
-- texts; `number` is the marker's;
-- {'GONE'} if the record is not as it was read; {'LOST'} if the logs can't prove the rest;
-- {'AGAIN'} if that is too much; {'TOO MANY', …}, {'FULL', …} and {'SWEPT'} as for begin and join.
-- uses state.lua

if not known() then
  return RESUME
end
local node, token = ARGV[2], ARGV[3]
local name, connection, generation, id, since, connections, members, number, epoch, read_generation, budget, rooms, read, again =
  unpack(cmsgpack.unpack(ARGV[4]))
if lapsed(node) then
  return { 'SWEPT' }
end
local session = owned(id, name, connection, generation)
if not lasts(session) then
  return { 'GONE' }
end
local as_read = {}
for index, room in ipairs(rooms) do
  as_read[room] = read[index]
end
for room, membership in pairs(session.rooms) do
  local text = membership.number .. ' ' .. membership.epoch .. (membership.joined and ' 1' or ' 0')
  if as_read[room] ~= text then
    return { 'GONE' }
  end
  as_read[room] = nil
end
if next(as_read) ~= nil then
  return { 'GONE' }
end

local user = load_user(name)
local was_live = not session.suspended
if not was_live and live(user) >= connections then
  return { 'TOO MANY', dead_nodes() }
end
local entered = {}
if not session.present then
  for room, membership in pairs(session.rooms) do
    if membership.joined then
      local seat = load_seat(room, name)
      if not has_seat(seat, members) then
        return { 'FULL', dead_nodes() }
      end
      entered[#entered + 1] = seat
    end
  end
  table.sort(entered, function(one, other)
    return one.room < other.room
  end)
end

-- What came since the logs were read.
if not had(epoch, read_generation, number) then
  return { 'LOST' }
end
local first = { [EVERYONE] = math.max(number, tonumber(string.match(session.opened, '^%d+'))) }
for room, membership in pairs(session.rooms) do
  first[room] = math.max(number, tonumber(membership.number))
end
local texts, sizes = {}, {}
for room, after in pairs(first) do
  local read_of, membership = channel(room), session.rooms[room]
  local other = read_of.born and membership and epoch_of(read_of) ~= membership.epoch
  if not read_of.born or other or floor_of(read_of) > after then
    return { 'LOST' }
  end
  local all = read_of.last <= after or read_log(read_of, after, function(text)
    texts[#texts + 1], sizes[#sizes + 1] = text, #text
    budget = budget - #text
    return budget >= 0
  end)
  if not all then
    return { 'AGAIN' }
  end
end

local change = watch(user)
come(user, session, since)
settle(change)
local preferences = preferences_of(name)
redis.call('EXISTS', node_key(node))

-- From here on it is written.
if was_live and again ~= '1' then
  if session.node ~= node then
    displace(session)
  end
  tell_of_socket('disconnect', session, 'replaced')
end
redis.call('SREM', node_key(session.node), id)
session.generation = session.generation + 1
session.node = node
write_live(user, session)
for _, seat in ipairs(entered) do
  enter(seat)
end
announce(change)
if again ~= '1' then
  tell_of_socket('reconnect', session)
end
local payload = '{"number":' .. digits(log.number) .. ',"preferences":' .. quoted(preferences) .. ',"sizes":['
  .. table.concat(sizes, ',') .. ']}\n' .. table.concat(texts)
mark(node, token, payload)
return { 'OK', payload }
