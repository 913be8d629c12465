-- End all sessions of a user as one change.
--
-- ARGV: run, user. Answers {'OK', connections that were live, …}.
-- uses state.lua

if not known() then
  return RESUME
end
local user = load_user(ARGV[2])
local answer, all, ids = { 'OK' }, {}, {}
for connection, id in pairs(user.sessions) do
  ids[id] = true
  if not user.waiting[id] then
    answer[#answer + 1] = connection
  end
end
for id in pairs(user.waiting) do
  ids[id] = true
end
for _, id in ipairs(sorted(ids)) do
  all[#all + 1] = load_session(id)
end
local change = watch(user)
local left = go(user, all)
-- also those whose record is lost
user.sessions, user.metas = {}, {}
settle(change)
write_gone(left, change)
for _, session in ipairs(all) do
  write_ended(user, session, 'ended')
end
redis.call('DEL', user.key)
return answer
