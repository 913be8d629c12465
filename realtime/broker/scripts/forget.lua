-- End a session: nobody can take it up.
--
-- ARGV: run, node, user, connection, generation, session. Answers {'OK'}.
-- uses state.lua

if not known() then
  return RESUME
end
local session = owned(ARGV[6], ARGV[3], ARGV[4], ARGV[5])
if not session then
  return { 'OK' }
end
local user = load_user(session.user)
local change = watch(user)
local left = go(user, { session })
settle(change)
local reason = 'left'
if session.node ~= ARGV[2] and not session.suspended then
  reason = 'replaced'
  displace(session)
end
write_gone(left, change)
write_ended(user, session, reason)
return { 'OK' }
