-- Say that a message is dealt with although nothing is published of it.
--
-- ARGV: run, the lease's token, what is confirmed ('' for nothing), the stream's entry ('' for none;
-- '0-0' to begin anew).
-- Answers {'OK'}, or {'FENCED'} if another node holds the lease.

if not known() then
  return RESUME
end
local relay = PREFIX .. 'relay'
if redis.call('HGET', relay, 'token') ~= ARGV[2] then
  return { 'FENCED' }
end
if ARGV[4] ~= '' then
  redis.call('HSET', relay, 'entry', ARGV[4])
end
if ARGV[3] ~= '' then
  redis.call('PUBLISH', relay, ARGV[3])
end
return { 'OK' }
