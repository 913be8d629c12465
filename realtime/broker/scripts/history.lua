-- Read what users see of a channel's log, and where the log ends.
--
-- ARGV: run, channel, the offset after which and the one before which it is wanted ('' for none),
-- the most entries, 'oldest' or 'newest' of them.
-- Answers {offset, epoch, floor, texts}, oldest first; epoch '' for a channel that has nothing.

if not known() then
  return RESUME
end
local channel = channel_of(ARGV[2])
if not channel.born then
  return { '0', '', '0', {} }
end
local low = ARGV[3] == '' and '-' or digits(tonumber(ARGV[3]) + 1)
local high = ARGV[4] == '' and '+' or '(' .. ARGV[4] .. '-0'
local limit = tonumber(ARGV[5])
local texts = {}
if limit > 0 and ARGV[4] ~= '0' then
  local newest = ARGV[6] == 'newest'
  local entries
  if newest then
    entries = redis.call('XREVRANGE', channel.history, high, low, 'COUNT', limit)
  else
    entries = redis.call('XRANGE', channel.history, low, high, 'COUNT', limit)
  end
  for index, entry in ipairs(entries) do
    texts[newest and #entries + 1 - index or index] = entry[2][2]
  end
end
local floor = channel.history_floor
if redis.call('EXISTS', channel.history) == 0 and channel.history_bytes > 0 then
  floor = channel.offset
end
return { digits(channel.offset), epoch_of(channel), digits(floor), texts }
