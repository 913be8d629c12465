-- Keep the places of users who are connected.
--
-- ARGV: run, ttl (ms), then event and user of each place. Answers {'OK', event, user, …}: those that are none.
-- uses queue.lua

if not known() then
  return RESUME
end
local answer, kept = { 'OK' }, {}
for at = 3, #ARGV, 2 do
  local event = load_event(ARGV[at])
  load_user(ARGV[at + 1])
  local entry = read(event.entries, ARGV[at + 1])
  if entry and entry.k == 'w' then
    kept[#kept + 1] = { event, ARGV[at + 1] }
  else
    answer[#answer + 1], answer[#answer + 2] = ARGV[at], ARGV[at + 1]
  end
end
for _, place in ipairs(kept) do
  ends(place[1], 'u ' .. place[2], NOW + tonumber(ARGV[2]))
  keep(place[1])
  redis.call('PEXPIRE', queues_of(place[2]), KEEP)
end
return answer
