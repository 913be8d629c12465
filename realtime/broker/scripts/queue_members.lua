-- Those who wait for an event.
--
-- ARGV: run, event, the number after which, at most how many.
-- Answers {'OK', how many in all, user, number, since, position or '', …}.
-- uses queue.lua

if not known() then
  return RESUME
end
local event = load_event(ARGV[2])
local answer = { 'OK', redis.call('ZCARD', event.waiting) }
local found = redis.call('ZRANGEBYSCORE', event.waiting, '(' .. ARGV[3], '+inf', 'LIMIT', 0, ARGV[4])
for _, user in ipairs(found) do
  local entry = read(event.entries, user)
  if entry then
    for _, value in ipairs({ user, entry.n, entry.s, entry.o or '' }) do
      answer[#answer + 1] = value
    end
  end
end
return answer
