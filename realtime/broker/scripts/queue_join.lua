-- Let a user wait.
--
-- ARGV: run, event, user, connection, its number, ttl (ms), users in a queue, queues of a user, queues.
-- Answers {'OK', number, '1' if they waited already, the position that was last said}, {'PROCEED'} if it is
-- their turn, {'FULL'} or {'TOO MANY'}.
-- uses queue.lua

if not known() then
  return RESUME
end
local user, connection = ARGV[3], ARGV[4]
local event = load_event(ARGV[2])
load_user(user)
local entry = read(event.entries, user)
if entry and entry.k == 'w' then
  ends(event, 'u ' .. user, NOW + tonumber(ARGV[6]))
  return { 'OK', entry.n, '1', entry.o or '' }
end
if entry and entry.k == 'p' then
  local proceed = read(event.proceeds, entry.p)
  if proceed and tonumber(proceed.x) > NOW then
    say_again(user, proceed, ARGV[5])
    return { 'PROCEED' }
  end
end
if redis.call('ZCARD', event.waiting) >= tonumber(ARGV[7]) then
  return { 'FULL' }
end
if redis.call('SISMEMBER', EVENTS, event.name) == 0 and redis.call('SCARD', EVENTS) >= tonumber(ARGV[9]) then
  return { 'FULL' }
end
local queues = redis.call('SCARD', queues_of(user)) - redis.call('SISMEMBER', queues_of(user), event.name)
if queues >= tonumber(ARGV[8]) then
  return { 'TOO MANY' }
end
local number = next_number()
redis.call('ZADD', event.waiting, digits(number), user)
write(event.entries, user, { k = 'w', n = digits(number), s = digits(NOW), c = connection })
redis.call('SADD', queues_of(user), event.name)
redis.call('PEXPIRE', queues_of(user), KEEP)
ends(event, 'u ' .. user, NOW + tonumber(ARGV[6]))
change(event, 'u ' .. user, number)
return { 'OK', digits(number), '', '' }
