-- A worker has dealt with changes.
--
-- ARGV: run, then event, subject and number of each. Answers {'OK'}.
-- uses queue.lua

if not known() then
  return RESUME
end
local events, done = {}, {}
for at = 2, #ARGV, 3 do
  local event, subject = events[ARGV[at]], ARGV[at + 1]
  if not event then
    event = load_event(ARGV[at])
    events[ARGV[at]] = event
  end
  local name = string.sub(subject, 3)
  if string.sub(subject, 1, 1) == 'u' then
    load_user(name)
  end
  if tonumber(redis.call('ZSCORE', event.changes, subject) or -1) == tonumber(ARGV[at + 2]) then
    done[#done + 1] = { event, subject, name }
  end
end
for _, one in ipairs(done) do
  local event, subject, name = one[1], one[2], one[3]
  redis.call('ZREM', event.changes, subject)
  if string.sub(subject, 1, 1) == 'u' then
    local entry = read(event.entries, name)
    if entry and entry.k == 'l' then
      forget(event, name)
    end
  else
    local proceed = read(event.proceeds, name)
    if not proceed or tonumber(proceed.x) <= NOW then
      forget_proceed(event, name)
    end
  end
  tidy(event)
end
return { 'OK' }
