-- Keep a ban, and tell all nodes.
--
-- ARGV: run, field, ban as JSON, its end (ms, 0 for never), the change as JSON, bans at most.
-- Answers {'OK'}, or {'FULL'}.
-- uses bans_version.lua

local over = redis.call('ZRANGEBYSCORE', ENDS, '-inf', NOW, 'LIMIT', 0, 1000)
local known = redis.call('HEXISTS', BANS, ARGV[2])
local bans = redis.call('HLEN', BANS)
redis.call('EXISTS', VERSION)
for _, field in ipairs(over) do
  redis.call('HDEL', BANS, field)
  redis.call('ZREM', ENDS, field)
end
if known == 0 and bans - #over >= tonumber(ARGV[6]) then
  return { 'FULL' }
end
redis.call('HSET', BANS, ARGV[2], ARGV[3])
if ARGV[4] == '0' then
  redis.call('ZREM', ENDS, ARGV[2])
else
  redis.call('ZADD', ENDS, ARGV[4], ARGV[2])
end
count(ARGV[5])
return { 'OK' }
