-- A session's transport is gone: it waits to be taken up, and stays present until withdrawn.
--
-- ARGV: run, node, user, connection, generation, session, when it was last seen (seconds).
-- Answers {'OK'}.
-- uses state.lua

if not known() then
  return RESUME
end
local session = owned(ARGV[6], ARGV[3], ARGV[4], ARGV[5])
if not session or session.suspended then
  return { 'OK' }
end
local user = load_user(session.user)
local reason = 'closed'
if session.node ~= ARGV[2] then
  reason = 'replaced'
  displace(session)
end
write_suspended(user, session, ARGV[7], reason, NOW + GRACE + MARGIN)
return { 'OK' }
