-- A session is present no more; its record keeps its rooms.
--
-- ARGV: run, user, connection, generation, session. Answers {'OK'}.
-- uses state.lua

if not known() then
  return RESUME
end
local session = owned(ARGV[5], ARGV[2], ARGV[3], ARGV[4])
if not session or not session.present then
  return { 'OK' }
end
local user = load_user(session.user)
local change = watch(user)
local left = go(user, { session })
settle(change)
write_gone(left, change)
if session.suspended then
  redis.call('ZADD', WAITING, digits(session.suspended + WINDOW), session.id)
end
return { 'OK' }
