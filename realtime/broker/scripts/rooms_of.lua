-- Read the rooms that a user has joined, over all connections.
--
-- ARGV: run, user. Answers {'OK', room, …}.
-- uses state.lua

if not known() then
  return RESUME
end
local answer, found = { 'OK' }, {}
for _, id in pairs(load_user(ARGV[2]).sessions) do
  local session = load_session(id)
  for room, membership in pairs(session and session.rooms or {}) do
    if membership.joined and not found[room] then
      found[room] = true
      answer[#answer + 1] = room
    end
  end
end
return answer
