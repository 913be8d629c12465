-- What a worker has not heard; it renews its lease, and takes its share of the queues without leader.
--
-- ARGV: run, worker, session, '1' if it wants to hear all who wait, 'first' for the session's first pull and
-- 'anew' if the last may not have come through, lease (ms), the most queues to take, the most changes.
-- Answers {'OK', '1' if it begins, '1' if there is more, change, …}, or {'REPLACED'}.
-- uses queue.lua
-- uses queue_leaders.lua

if not known() then
  return RESUME
end
local worker, session, replay, limit = ARGV[2], ARGV[3], ARGV[4] == '1', tonumber(ARGV[8])
redis.call('EXISTS', EVENTS, ORPHANS)
local live = redis.call('HGET', LIVES, worker)
local lease = redis.call('ZSCORE', WORKERS, worker)
if live and live ~= session and ARGV[5] ~= 'first' then
  return { 'REPLACED' }
end
local begins = not lease or live ~= session or ARGV[5] ~= ''

-- who leads no more
local gone, orphans = {}, {}
local function goes(name)
  gone[#gone + 1] = { name, load_led(name) }
  for _, event in ipairs(gone[#gone][2]) do
    orphans[event] = true
  end
end
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', digits(NOW), 'LIMIT', 0, 10)) do
  if dead ~= worker then
    goes(dead)
  end
end
local others = #gone
if begins then
  goes(worker)
end
-- its share
local workers = redis.call('ZCARD', WORKERS) - others + (lease and 0 or 1)
local share = math.ceil(redis.call('SCARD', EVENTS) / workers)
local leads = begins and 0 or redis.call('SCARD', Q .. 'led:' .. worker)
load_leader(worker)
for _, name in ipairs(redis.call('SMEMBERS', ORPHANS)) do
  orphans[name] = true
end
local taken = {}
local names = {}
for name in pairs(orphans) do
  names[#names + 1] = name
end
table.sort(names)
for _, name in ipairs(names) do
  if #taken < tonumber(ARGV[7]) and leads + #taken < share then
    taken[#taken + 1] = load_event(name)
  end
end
-- what it has not heard
local ready = {}
if not begins then
  for _, name in ipairs(redis.call('SMEMBERS', Q .. 'ready:' .. worker)) do
    ready[#ready + 1] = load_event(name)
  end
end
for _, event in ipairs(taken) do
  event.leader, event.cursor, event.replay, event.until_ = worker, 0, replay and '0' or '', 0
  ready[#ready + 1] = event
end

for _, one in ipairs(gone) do
  dismiss(one[1], one[2])
  redis.call('ZREM', WORKERS, one[1])
  redis.call('HDEL', LIVES, one[1])
end
redis.call('ZADD', WORKERS, digits(NOW + tonumber(ARGV[6])), worker)
redis.call('HSET', LIVES, worker, session)
redis.call('PEXPIRE', WORKERS, KEEP)
redis.call('PEXPIRE', LIVES, KEEP)
for _, event in ipairs(taken) do
  redis.call('SREM', ORPHANS, event.name)
  redis.call('SADD', Q .. 'led:' .. worker, event.name)
  redis.call('SADD', Q .. 'ready:' .. worker, event.name)
end
local answer, more = { 'OK', begins and '1' or '', '' }, false
for _, event in ipairs(ready) do
  local left = limit - (#answer - 3)
  local done = left > 0
  if left > 0 and event.replay ~= '' then
    local found = redis.call('ZRANGEBYSCORE', event.waiting, '(' .. event.replay, '+inf', 'WITHSCORES', 'LIMIT', 0, left)
    for at = 1, #found, 2 do
      answer[#answer + 1] = told(event, 'u ' .. found[at], tonumber(found[at + 1]))
      event.replay = digits(tonumber(found[at + 1]))
      event.told = math.max(event.told, tonumber(event.replay))
    end
    done = #found / 2 < left
    if done then
      event.replay, event.until_ = '', tonumber(redis.call('GET', NUMBER) or 0)
    end
  end
  left = limit - (#answer - 3)
  if done then
    local found = redis.call(
      'ZRANGEBYSCORE', event.changes, '(' .. digits(event.cursor), '+inf', 'WITHSCORES', 'LIMIT', 0, math.max(left, 1)
    )
    for at = 1, left > 0 and #found or 0, 2 do
      local number = tonumber(found[at + 1])
      local text = told(event, found[at], number)
      if text and not (number <= event.until_ and string.find(text, '"kind":"joined"', 1, true)) then
        answer[#answer + 1] = text
      end
      event.cursor = number
    end
    event.told = math.max(event.told, event.cursor)
    done = (left > 0 and #found / 2 < left) or (left <= 0 and #found == 0)
  end
  redis.call(
    'HSET', event.event, 'leader', worker, 'cursor', digits(event.cursor), 'replay', event.replay,
    'until', digits(event.until_), 'told', digits(event.told)
  )
  if done then
    redis.call('SREM', Q .. 'ready:' .. worker, event.name)
  else
    more = true
  end
  keep(event)
end
redis.call('PEXPIRE', Q .. 'led:' .. worker, KEEP)
redis.call('PEXPIRE', Q .. 'ready:' .. worker, KEEP)
answer[3] = more and '1' or ''
return answer
