-- Withdraw sessions whose grace is over, and end those whose time to be taken up is.
--
-- ARGV: run, the most sessions, the most rooms. Answers {'OK', '1' if there may be more, else ''}.
-- uses state.lua

if not known() then
  return RESUME
end
local ids = redis.call('ZRANGEBYSCORE', WAITING, '-inf', digits(NOW), 'LIMIT', 0, ARGV[2])
local rooms, strangers, plans, ordered, more = 0, {}, {}, {}, #ids == tonumber(ARGV[2])
for _, id in ipairs(ids) do
  local session = load_session(id)
  if not session or not session.suspended then
    strangers[#strangers + 1] = id
  else
    local user = load_user(session.user)
    if not plans[user.name] then
      plans[user.name] = { user = user, sessions = {}, change = watch(user) }
      ordered[#ordered + 1] = plans[user.name]
    end
    table.insert(plans[user.name].sessions, session)
    for _ in pairs(session.rooms) do
      rooms = rooms + 1
    end
    if rooms > tonumber(ARGV[3]) then
      more = true
      break
    end
  end
end
for _, plan in ipairs(ordered) do
  plan.left = go(plan.user, plan.sessions)
  settle(plan.change)
end

for _, id in ipairs(strangers) do
  redis.call('ZREM', WAITING, id)
end
for _, plan in ipairs(ordered) do
  write_gone(plan.left, plan.change)
  for _, session in ipairs(plan.sessions) do
    if lasts(session) then
      redis.call('ZADD', WAITING, digits(session.suspended + WINDOW), session.id)
    else
      write_ended(plan.user, session)
    end
  end
end
return { 'OK', more and '1' or '' }
