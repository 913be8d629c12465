-- Mark the place in the order of plain messages from which a node counts as a listener.
--
-- Each mark begins an era: all who hear it name what they hear after it by the era's number, so that
-- a confirmation says of which of two equal messages it is. Numbers rise, and come from the clock:
-- they go on rising where the data was lost.
-- ARGV: run, node, a word of the node's own for this mark.

if not known() then
  return RESUME
end
local relay = PREFIX .. 'relay'
local last = tonumber(redis.call('HGET', relay, 'mark') or 0)
local number = digits(math.max(last + 1, NOW))
redis.call('HSET', relay, 'mark', number)
redis.call('PEXPIRE', relay, LOG_TTL)
redis.call('PUBLISH', relay, 'k ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. number)
return { 'OK', number }
