-- A worker has gone.
--
-- ARGV: run, worker, session. Answers {'OK'}.
-- uses queue.lua
-- uses queue_leaders.lua

if not known() then
  return RESUME
end
redis.call('EXISTS', WORKERS, ORPHANS)
if redis.call('HGET', LIVES, ARGV[2]) == ARGV[3] then
  local led = load_led(ARGV[2])
  dismiss(ARGV[2], led)
  redis.call('ZREM', WORKERS, ARGV[2])
  redis.call('HDEL', LIVES, ARGV[2])
  redis.call(PUBLISH, PREFIX .. 'signals', 'queued\nnull')
end
return { 'OK' }
