-- Take the entry with an offset, or all, out of what users see of a channel's log. The log itself keeps them.
--
-- ARGV: run, channel, offset ('' for all). Answers {'OK', how many that were}.

if not known() then
  return RESUME
end
local channel = channel_of(ARGV[2])
local from, to = '-', '+'
if ARGV[3] ~= '' then
  from, to = ARGV[3] .. '-0', ARGV[3] .. '-0'
end
local entries = redis.call('XRANGE', channel.history, from, to)
for _, entry in ipairs(entries) do
  redis.call('XDEL', channel.history, entry[1])
  channel.history_bytes = channel.history_bytes - #entry[2][2]
end
if #entries > 0 then
  redis.call('HSET', channel.key, 'history_bytes', digits(math.max(channel.history_bytes, 0)))
end
return { 'OK', digits(#entries) }
