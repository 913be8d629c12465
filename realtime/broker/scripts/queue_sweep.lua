-- End what is over.
--
-- ARGV: run, the most of it. Answers {'OK', how much that was}.
-- uses queue.lua

if not known() then
  return RESUME
end
local over = redis.call('ZRANGEBYSCORE', ENDS, '-inf', digits(NOW), 'LIMIT', 0, ARGV[2])
local events, channels, found = {}, {}, {}
for _, text in ipairs(over) do
  local name, kind, what = string.match(text, '^(%S+) (%a) (.+)$')
  local event = events[name] or load_event(name)
  events[name] = event
  local one = { event = event, kind = kind, what = what, text = text }
  local user = what
  if kind == 'u' then
    one.entry = read(event.entries, what)
  else
    one.proceed = read(event.proceeds, what)
    user = one.proceed and one.proceed.u
    one.entry = user and read(event.entries, user)
  end
  if user then
    load_user(user)
    channels[user] = channels[user] or channel_of('user:' .. user)
  end
  found[#found + 1] = one
end
for _, one in ipairs(found) do
  local event, entry, proceed = one.event, one.entry, one.proceed
  redis.call('ZREM', ENDS, one.text)
  if one.kind == 'u' and entry and entry.k == 'w' then
    go(event, one.what, entry, 'absent', channels[one.what])
  elseif one.kind == 'u' and entry and entry.k == 'l' then
    redis.call('ZREM', event.changes, 'u ' .. one.what)
    forget(event, one.what)
  elseif one.kind == 'p' and proceed then
    if entry and entry.k == 'p' and entry.p == one.what then
      forget(event, proceed.u)
    end
    if proceed.s == 'sent' then
      proceed.s, proceed.t = 'expired', digits(NOW)
      write(event.proceeds, one.what, proceed)
      change(event, 'p ' .. one.what, next_number())
    end
    if tonumber(proceed.x) + OVER > NOW and redis.call('ZSCORE', event.changes, 'p ' .. one.what) then
      ends(event, 'p ' .. one.what, tonumber(proceed.x) + OVER)
    else
      forget_proceed(event, one.what)
    end
  end
  tidy(event)
end
return { 'OK', #over }
