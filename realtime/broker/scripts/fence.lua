-- Mark a place for its own sake: each node does it every second, and so keeps the log alive.
-- ARGV: run, node, token.

if not known() then
  return RESUME
end
redis.call('EXISTS', PREFIX .. 'meta:' .. EVERYONE)
redis.call('PEXPIRE', LOG, LOG_TTL)
redis.call('PEXPIRE', PREFIX .. 'meta:' .. EVERYONE, META_TTL)
mark(ARGV[2], ARGV[3], '')
return { 'OK', '' }
