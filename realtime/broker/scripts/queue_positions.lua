-- Tell users their position.
--
-- ARGV: run, event, then of each user: user, position, payload. Answers {'OK', user, …}: who does not wait.
-- uses queue.lua

if not known() then
  return RESUME
end
local event = load_event(ARGV[2])
local answer, found = { 'OK' }, {}
for at = 3, #ARGV, 3 do
  local entry = read(event.entries, ARGV[at])
  if entry and entry.k == 'w' then
    entry.o, entry.d = ARGV[at + 1], ARGV[at + 2]
    found[#found + 1] = { ARGV[at], entry }
  else
    answer[#answer + 1] = ARGV[at]
  end
end
for _, one in ipairs(found) do
  write(event.entries, one[1], one[2])
  say(one[1], 'queue:position', one[2].d, nil, NOW, '')
end
keep(event)
return answer
