-- A node listens no more; if it held the relay's lease, it is free at once, and the others hear so.
--
-- ARGV: run, node, the token that it held ('' for none).

if not known() then
  return RESUME
end
local relay, listeners = PREFIX .. 'relay', PREFIX .. 'listeners'
local held = redis.call('HGET', relay, 'token')
redis.call('HDEL', listeners, ARGV[2])
if held and held == ARGV[3] then
  redis.call('HDEL', relay, 'token', 'holder', 'ends')
  redis.call('PUBLISH', relay, 'r')
end
return { 'OK' }
