-- Let a user proceed: once for each id.
--
-- ARGV: run, event, user, proceed ('' for the number of the join), when it ends (ms), the publication's id
-- and time, and of its payload what stands before and after the proceed's id as JSON.
-- Answers {'OK' or 'REPEATED', proceed, state, since}, {'NOT WAITING'}, {'PAST'}, or {'CONFLICT'} if the id is
-- another user's.
-- uses queue.lua

if not known() then
  return RESUME
end
local user, id = ARGV[3], ARGV[4]
local event = load_event(ARGV[2])
load_user(user)
local channel = channel_of('user:' .. user)
local entry = read(event.entries, user)
if id == '' and entry then
  id = entry.k == 'p' and entry.j or entry.n
end
local proceed = read(event.proceeds, id)
if proceed then
  if proceed.u ~= user then
    return { 'CONFLICT' }
  end
  return { 'REPEATED', id, proceed.s, proceed.j }
end
if not entry or entry.k ~= 'w' then
  return { 'NOT WAITING' }
end
if tonumber(ARGV[5]) <= NOW then
  return { 'PAST' }
end
redis.call('ZREM', event.waiting, user)
redis.call('ZREM', event.changes, 'u ' .. user)
redis.call('ZREM', ENDS, event.name .. ' u ' .. user)
write(event.entries, user, { k = 'p', n = entry.n, s = entry.s, p = id, j = entry.n })
local data = ARGV[8] .. cjson.encode(id) .. ARGV[9]
say(user, 'queue:proceed', data, ARGV[6], tonumber(ARGV[7]), ',"x":' .. ARGV[5], channel)
write(event.proceeds, id, {
  u = user, s = 'sent', x = ARGV[5], d = data, i = ARGV[6], m = ARGV[7], t = digits(NOW), j = entry.s,
  q = digits(log.number), e = log.epoch,
})
ends(event, 'p ' .. id, tonumber(ARGV[5]))
keep(event)
return { 'OK', id, 'sent', entry.s }
