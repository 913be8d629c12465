-- Take a session out of a room and its record.
--
-- ARGV: run, user, connection, generation, session, room. Answers {'OK', '1' if it was in it, else '0'}.
-- uses state.lua

if not known() then
  return RESUME
end
local session = owned(ARGV[5], ARGV[2], ARGV[3], ARGV[4])
local room = ARGV[6]
local membership = session and session.rooms[room]
if not membership then
  return { 'OK', '0' }
end
local seat = load_seat(room, session.user)
redis.call('HDEL', session.key, 'r:' .. room)
if membership.joined and session.present then
  exit(seat)
end
return { 'OK', '1' }
