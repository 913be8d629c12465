-- Enter a session into a room and its record; then the marker.
--
-- ARGV: run, node, token, user, connection, generation, session, room, '1' if as a member, the limit.
-- Answers {'OK', payload}: "<number> <channel's epoch> <offset> <1 if the user's first> <1 if joined>
-- <number of the marker's place>";
-- {'REPLACED'}; {'FULL', '1' if a node is to be swept}; {'SWEPT'} if the node's lease has ended.
-- uses state.lua

if not known() then
  return RESUME
end
local node, token = ARGV[2], ARGV[3]
local room, joined, limit = ARGV[8], ARGV[9] == '1', tonumber(ARGV[10])
local session = owned(ARGV[7], ARGV[4], ARGV[5], ARGV[6])
if not session then
  return { 'REPLACED' }
end
if lapsed(node) then
  return { 'SWEPT' }
end
local seat = load_seat(room, session.user)
local first = false
if not session.rooms[room] then
  if joined and not has_seat(seat, limit) then
    return { 'FULL', dead_nodes() }
  end
  if joined and session.present then
    first = enter(seat)
  end
  write_membership(session, room, log.number, joined)
end
local membership = session.rooms[room]
local payload = table.concat({
  membership.number, membership.epoch, digits(seat.channel.offset), first and '1' or '0',
  membership.joined and '1' or '0', digits(log.number),
}, ' ')
mark(node, token, payload)
return { 'OK', payload }
