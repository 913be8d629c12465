-- Set whether a connection is idle.
--
-- ARGV: run, user, connection, generation, '1' if it is idle. Answers {'OK'}.
-- uses state.lua

if not known() then
  return RESUME
end
local user = load_user(ARGV[2])
local connection, idle = ARGV[3], ARGV[5] == '1'
local meta, id = user.metas[connection], user.sessions[connection]
if not meta or not id or not owned(id, user.name, connection, ARGV[4]) or meta.idle == idle then
  return { 'OK' }
end
local change = watch(user)
meta.idle = idle
settle(change)
redis.call('HSET', user.key, 'm:' .. connection, meta.since .. (idle and ' 1' or ' 0'))
announce(change)
return { 'OK' }
