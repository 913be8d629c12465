-- Read who is in some rooms, each once; those who joined first first.
--
-- ARGV: run, milliseconds since when they must have changed ('' for any), rooms.
-- Answers {'OK', presence, …}, see `presence_of`.
-- uses state.lua

if not known() then
  return RESUME
end
local since = tonumber(ARGV[2])
local answer, found = { 'OK' }, {}
for index = 3, #ARGV do
  local flat = redis.call('HGETALL', PREFIX .. 'room:' .. ARGV[index])
  local members = {}
  for each = 1, #flat, 2 do
    members[#members + 1] = { name = flat[each], order = tonumber(string.match(flat[each + 1], ' (%d+)$')) }
  end
  table.sort(members, function(one, other)
    return one.order < other.order
  end)
  for _, member in ipairs(members) do
    if not found[member.name] then
      found[member.name] = true
      if not since or tonumber(redis.call('HGET', PREFIX .. 'user:' .. member.name, 'changed') or 0) >= since then
        answer[#answer + 1] = presence_of(member.name)
      end
    end
  end
end
return answer
