-- Suspend sessions that a node has in the store and not in itself.
--
-- ARGV: run, node, when they were last seen (seconds), sessions. Answers {'OK'}.
-- uses state.lua

if not known() then
  return RESUME
end
local node, last_seen = ARGV[2], ARGV[3]
local found, strangers = {}, {}
for index = 4, #ARGV do
  local session = load_session(ARGV[index])
  if session and session.node == node and not session.suspended then
    load_user(session.user)
    found[#found + 1] = session
  else
    strangers[#strangers + 1] = ARGV[index]
  end
end
redis.call('EXISTS', node_key(node))
for _, session in ipairs(found) do
  write_suspended(load_user(session.user), session, last_seen, 'closed', NOW + GRACE)
end
for _, id in ipairs(strangers) do
  redis.call('SREM', node_key(node), id)
end
return { 'OK' }
