-- Read whatever some channels' logs still have after a number, whether or not that is all that they had.
--
-- ARGV: run, bytes that may be read, then per channel: name, the number after which it is wanted.
-- Answers {place}, followed by a table of texts per channel; {'TOO MUCH'} if it is more than may be
-- read.

if not known() then
  return RESUME
end
local budget = tonumber(ARGV[2])
local answer = { place() }
for index = 3, #ARGV, 2 do
  local texts = {}
  local all = read_log(channel_of(ARGV[index]), tonumber(ARGV[index + 1]), function(text)
    budget = budget - #text
    texts[#texts + 1] = text
    return budget >= 0
  end)
  if not all then
    return { 'TOO MUCH' }
  end
  answer[#answer + 1] = texts
end
return answer
