-- End a ban, and tell all nodes.
--
-- ARGV: run, field, what to tell before and after the ban as JSON. Answers {'OK', the ban as JSON or ''}.
-- uses bans_version.lua

local ban = redis.call('HGET', BANS, ARGV[2])
local ends = redis.call('ZSCORE', ENDS, ARGV[2])
redis.call('EXISTS', VERSION)
if not ban then
  return { 'OK', '' }
end
redis.call('HDEL', BANS, ARGV[2])
redis.call('ZREM', ENDS, ARGV[2])
count(ARGV[3] .. ban .. ARGV[4])
if ends and tonumber(ends) <= NOW then
  ban = ''
end
return { 'OK', ban }
