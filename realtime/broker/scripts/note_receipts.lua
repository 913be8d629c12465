-- Keep what a node says of receipts.
--
-- ARGV: run, node, and packed: for each receipt its id, {connection, rank, user, …}, and the counts of the
-- connections beyond those, or ''. Answers {'OK', ids of receipts that are kept no more, …}.

if not known() then
  return RESUME
end
local node = ARGV[2]
local answer, changed, writes = { 'OK' }, {}, {}
for _, told in ipairs(cmsgpack.unpack(ARGV[3])) do
  local id, marks, beyond = unpack(told)
  local key = PREFIX .. 'receipt:' .. id
  if redis.call('EXISTS', key) == 0 then
    answer[#answer + 1] = id
  else
    local fields = {}
    for index = 1, #marks, 3 do
      local connection, rank, user = marks[index], marks[index + 1], marks[index + 2]
      local had = redis.call('HGET', key, connection)
      if not had or tonumber(string.match(had, '^%d+')) < rank then
        fields[#fields + 1], fields[#fields + 2] = connection, rank .. ' ' .. user
      end
    end
    if beyond ~= '' then
      fields[#fields + 1], fields[#fields + 2] = '+' .. node, beyond
    end
    if #fields > 0 then
      changed[#changed + 1] = id
      writes[#writes + 1] = { key, fields }
    end
  end
end
local watched = redis.call('EXISTS', PREFIX .. 'receipts:watched') == 1
for _, write in ipairs(writes) do
  local key, fields = unpack(write)
  for index = 1, #fields, 1000 do
    redis.call('HSET', key, unpack(fields, index, math.min(index + 999, #fields)))
  end
end
if watched and #changed > 0 then
  redis.call(PUBLISH, PREFIX .. 'signals', 'receipts\n' .. table.concat(changed, ' '))
end
return answer
