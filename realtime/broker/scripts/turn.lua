-- Use a refresh token: the turn of a family, whose next turn is kept until its last token expires.
--
-- ARGV: run, family, turn, when the token expires (ms), families at most.
-- Answers {'OK'}, {'USED'} (none of the family can be used any more), or {'FULL'}.

local FAMILIES = PREFIX .. 'families'
local FAMILY = PREFIX .. 'family:' .. ARGV[2]
local VOID = 2 ^ 53

local known = redis.call('GET', FAMILY)
redis.call('PTTL', FAMILIES)
redis.call('ZREMRANGEBYSCORE', FAMILIES, '-inf', NOW)
local turn, expires = tonumber(ARGV[3]), math.max(tonumber(ARGV[4]), NOW + 1)
local answer = { 'OK' }
local following = turn + 1
if known then
  if turn < tonumber(known) then
    following = VOID
    expires = math.max(expires, NOW + redis.call('PTTL', FAMILY))
    answer = { 'USED' }
  end
elseif redis.call('ZCARD', FAMILIES) >= tonumber(ARGV[5]) then
  return { 'FULL' }
end
redis.call('SET', FAMILY, digits(following), 'PX', digits(expires - NOW))
redis.call('ZADD', FAMILIES, expires, ARGV[2])
if redis.call('PTTL', FAMILIES) < expires - NOW then
  redis.call('PEXPIRE', FAMILIES, digits(expires - NOW))
end
return answer
