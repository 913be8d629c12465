-- Let a user wait no more, or give up their turn.
--
-- ARGV: run, event, user, reason. Answers {'OK', '1' if they were there, else ''}.
-- uses queue.lua

if not known() then
  return RESUME
end
local user = ARGV[3]
local event = load_event(ARGV[2])
load_user(user)
local channel = channel_of('user:' .. user)
local went = go(event, user, read(event.entries, user), ARGV[4], channel)
if went then
  tidy(event)
end
return { 'OK', went and '1' or '' }
