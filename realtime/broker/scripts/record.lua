-- Read the record of a session that can be taken up.
--
-- ARGV: run, session. Answers {'OK'} if there is none, else {'OK', user, connection, generation, opened,
-- last seen or '', then room and its membership, …}.
-- uses state.lua

if not known() then
  return RESUME
end
local session = load_session(ARGV[2])
if not lasts(session) then
  return { 'OK' }
end
local answer = {
  'OK', session.user, session.connection, digits(session.generation), session.opened, session.last_seen or '',
}
for _, room in ipairs(sorted(session.rooms)) do
  local membership = session.rooms[room]
  answer[#answer + 1] = room
  answer[#answer + 1] = membership.number .. ' ' .. membership.epoch .. (membership.joined and ' 1' or ' 0')
end
return answer
