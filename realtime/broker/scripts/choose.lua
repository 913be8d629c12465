-- Set the status that a user chose, while present.
--
-- ARGV: run, user, status, text as JSON or ''. Answers {'OK', presence}.
-- uses state.lua

if not known() then
  return RESUME
end
local user = load_user(ARGV[2])
if next(user.sessions) == nil then
  return { 'OK', presence_of(user.name) }
end
local change = watch(user)
user.status, user.text = ARGV[3], ARGV[4] ~= '' and ARGV[4] or nil
settle(change)
redis.call('HSET', user.key, 'status', user.status)
if user.text then
  redis.call('HSET', user.key, 'text', user.text)
else
  redis.call('HDEL', user.key, 'text')
end
announce(change)
return { 'OK', presence_of(user.name) }
