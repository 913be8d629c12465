-- Take all sessions of a user out of a room, and it out of their records.
--
-- ARGV: run, user, room. Answers {'OK', connections that were live in it, …}.
-- uses state.lua

if not known() then
  return RESUME
end
local user, room = load_user(ARGV[2]), ARGV[3]
local ids, inside, answer = {}, {}, { 'OK' }
for _, id in pairs(user.sessions) do
  ids[id] = true
end
for id in pairs(user.waiting) do
  ids[id] = true
end
for _, id in ipairs(sorted(ids)) do
  local session = load_session(id)
  if session and session.rooms[room] then
    inside[#inside + 1] = session
  end
end
local seat = load_seat(room, user.name)
for _, session in ipairs(inside) do
  if not session.suspended then
    answer[#answer + 1] = session.connection
  end
  redis.call('HDEL', session.key, 'r:' .. room)
  if session.rooms[room].joined and session.present then
    exit(seat)
  end
end
return answer
