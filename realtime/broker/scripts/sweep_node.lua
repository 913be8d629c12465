-- Suspend some sessions of a node whose lease has ended, and withdraw those whose grace is over too.
--
-- ARGV: run, node, the most sessions, the most rooms. Answers {'OK', '1' if there may be more, else ''}.
-- uses state.lua

if not known() then
  return RESUME
end
local node = ARGV[2]
local ends = redis.call('ZSCORE', NODES, node)
if not ends or tonumber(ends) >= NOW then
  return { 'OK', '' }
end
-- When it was surely there the last time.
local seen_last = tonumber(ends) - LEASE
local over = seen_last + GRACE <= NOW
local ids = redis.call('SRANDMEMBER', node_key(node), ARGV[3])
local rooms, strangers, plans, ordered = 0, {}, {}, {}
for _, id in ipairs(ids) do
  local session = load_session(id)
  if not session or session.node ~= node or session.suspended then
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
    if rooms > tonumber(ARGV[4]) then
      break
    end
  end
end
for _, plan in ipairs(ordered) do
  if over then
    plan.left = go(plan.user, plan.sessions)
    settle(plan.change)
  end
end

for _, id in ipairs(strangers) do
  redis.call('SREM', node_key(node), id)
end
local last_seen = string.format('%.3f', (seen_last - DEAD) / 1000)
for _, plan in ipairs(ordered) do
  for _, session in ipairs(plan.sessions) do
    local looked_at = over and NOW + WINDOW or seen_last + GRACE
    write_suspended(plan.user, session, last_seen, 'node_lost', looked_at)
  end
  if over then
    write_gone(plan.left, plan.change)
  end
end
if redis.call('EXISTS', node_key(node)) == 1 then
  return { 'OK', '1' }
end
redis.call('ZREM', NODES, node)
return { 'OK', '' }
