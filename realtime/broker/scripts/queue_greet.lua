-- Tell a connection where its user stands in all their queues.
--
-- ARGV: run, user, the connection's number, and of the place where its session began number, epoch,
-- generation. Answers {'OK', event, …}: for which the user waits.
-- uses queue.lua

if not known() then
  return RESUME
end
local user = ARGV[2]
local found, answer = {}, { 'OK' }
for _, name in ipairs(redis.call('SMEMBERS', queues_of(user))) do
  local event = load_event(name)
  found[#found + 1] = { event = event, entry = read(event.entries, user) }
end
for _, one in ipairs(found) do
  local entry = one.entry
  if entry and entry.k == 'w' then
    answer[#answer + 1] = one.event.name
    if entry.d then
      say(user, 'queue:position', entry.d, nil, NOW, ',"os":[' .. ARGV[3] .. ']')
    end
  elseif entry and entry.k == 'p' then
    local proceed = read(one.event.proceeds, entry.p)
    -- What is younger than the session is in its log, and comes from there.
    local older = proceed and (proceed.e ~= ARGV[5] or tonumber(proceed.q) <= tonumber(ARGV[4]))
    if older and proceed.s == 'sent' and tonumber(proceed.x) > NOW then
      say_again(user, proceed, ARGV[3])
    end
  end
end
return answer
