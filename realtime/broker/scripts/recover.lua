-- Read what some channels' logs have after a number.
--
-- ARGV: run, bytes that may be read, the epoch, generation and number up to which a client has
-- everything ('' '' '' for none that could be wrong), then per channel: name, the number after which it
-- is wanted, the epoch that the log must have ('' for any, also for a channel that has no log yet).
-- Answers {'OK', place, …}, followed by a table of texts per channel, or `false` for one that can't
-- prove that it has all; {'GAP'} for a client whose place this log did not have, {'TOO MUCH'} if it is
-- more than may be read.

if not known() then
  return RESUME
end
local budget = tonumber(ARGV[2])
local answer = { 'OK', place() }
if ARGV[3] ~= '' and not had(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])) then
  return { 'GAP' }
end
for index = 6, #ARGV, 3 do
  local name, since, epoch = ARGV[index], tonumber(ARGV[index + 1]), ARGV[index + 2]
  local channel = channel_of(name)
  local floor = floor_of(channel)
  local texts = {}
  if not channel.born and epoch == '' then
    floor = 0
  elseif not channel.born or (epoch ~= '' and epoch ~= epoch_of(channel)) then
    floor = since + 1
  end
  if floor > since then
    texts = false
  elseif channel.born then
    local all = read_log(channel, since, function(text)
      budget = budget - #text
      texts[#texts + 1] = text
      return budget >= 0
    end)
    if not all then
      return { 'TOO MUCH' }
    end
  end
  answer[#answer + 1] = texts
end
return answer
