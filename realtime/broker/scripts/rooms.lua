-- Read some of the joined rooms, and how many users each has.
--
-- ARGV: run, cursor. Answers {'OK', next cursor, room, users, …}.
-- uses state.lua

if not known() then
  return RESUME
end
local found = redis.call('SSCAN', ROOMS, ARGV[2], 'COUNT', 200)
local answer = { 'OK', found[1] }
for _, room in ipairs(found[2]) do
  answer[#answer + 1] = room
  answer[#answer + 1] = redis.call('HLEN', PREFIX .. 'room:' .. room)
end
return answer
