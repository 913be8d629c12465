-- In how many queues a user is.
--
-- ARGV: run, user. Answers {'OK', count}.
-- uses queue.lua

if not known() then
  return RESUME
end
return { 'OK', redis.call('SCARD', queues_of(ARGV[2])) }
