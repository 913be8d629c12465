-- Renew a node's lease.
--
-- ARGV: run, node. Answers {'OK' or 'SWEPT', place, '1' if a session waits to be looked at, else '', dead
-- node, …}; SWEPT if the lease had ended, so that others may have ended what the node has in the store.
-- uses state.lua

if not known() then
  return RESUME
end
local node = ARGV[2]
local ends = tonumber(redis.call('ZSCORE', NODES, node) or nil)
local late = ends and ends < NOW
local answer = { (late or not ends) and 'SWEPT' or 'OK', place() }
answer[3] = #redis.call('ZRANGEBYSCORE', WAITING, '-inf', digits(NOW), 'LIMIT', 0, 1) > 0 and '1' or ''
local before = ends and math.floor(ends) - LEASE
if before and NOW - before > LEASE / 2 then
  -- This node could not renew its lease in time, and nor could others if it was the store that was away:
  -- who lived then gets time to come back. The fraction says that it has been given once.
  local lived = redis.call('ZRANGEBYSCORE', NODES, digits(before), digits(NOW + LEASE), 'WITHSCORES', 'LIMIT', 0, 1000)
  for index = 1, #lived, 2 do
    if tonumber(lived[index + 1]) % 1 == 0 then
      redis.call('ZADD', NODES, digits(NOW + LEASE) .. '.5', lived[index])
    end
  end
end
-- No lease ends later than one that begins now: where one does, the server's clock was set back.
local latest = digits(NOW + LEASE)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', NODES, digits(NOW + LEASE + 1), '+inf', 'LIMIT', 0, 1000)) do
  redis.call('ZADD', NODES, latest, other)
end
redis.call('ZADD', NODES, latest, node)
redis.call('PEXPIRE', NODES, SESSION_TTL)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', NODES, '-inf', '(' .. digits(NOW), 'LIMIT', 0, 10)) do
  answer[#answer + 1] = dead
end
return answer
