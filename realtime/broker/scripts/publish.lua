-- Take one publication: idempotency key, offset and sequence, log and history, PUBLISH, as one step.
--
-- ARGV: run, channel, idempotency key ('' for none), '1' if it is logged, '1' if history shows it,
-- its id, its time, header line, payload, '1' if there is to be a receipt (else ''), and for the relay
-- (else ''): the lease's token, what is confirmed, the id of the stream's entry.
-- Answers {'OK' or 'REPEATED', id, time, number, offset, born, epoch, generation}, the last five ''
-- for what is not logged, and behind them how many receipts had to go for a new one, if some had;
-- {'FENCED'} if another node holds the relay's lease.

if not known() then
  return RESUME
end
local name, key, logged, shown = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local id, time, head, data = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local receipt, token, confirmed, entry = ARGV[10] ~= '', ARGV[11], ARGV[12], ARGV[13]
local relay = PREFIX .. 'relay'
local receipts = PREFIX .. 'receipts'

-- The keys of the receipts that have to go for a new one; those after them are read, too.
local function oldest_receipts()
  local gone = redis.call('ZRANGEBYSCORE', receipts, '-inf', NOW - RECEIPT_TTL, 'LIMIT', 0, 100)
  local over = math.min(redis.call('ZCARD', receipts) - #gone + 1 - MAX_RECEIPTS, 100)
  if over > 0 then
    gone = redis.call('ZRANGE', receipts, 0, #gone + over - 1)
  end
  local keys = {}
  for index, other in ipairs(gone) do
    keys[index] = PREFIX .. 'receipt:' .. other
    redis.call('EXISTS', keys[index])
  end
  redis.call('EXISTS', PREFIX .. 'receipt:' .. id)
  return gone, keys, math.max(over, 0)
end

local function open_receipt(gone, keys)
  for index, key in ipairs(keys) do
    redis.call('ZREM', receipts, gone[index])
    redis.call('DEL', key)
  end
  local key = PREFIX .. 'receipt:' .. id
  redis.call('HSET', key, '#', digits(NOW) .. ' ' .. digits(NOW + RECEIPT_TIMEOUT))
  redis.call('PEXPIRE', key, RECEIPT_TTL)
  redis.call('ZADD', receipts, NOW, id)
  redis.call('PEXPIRE', receipts, RECEIPT_TTL)
end

local function confirm()
  if entry ~= '' then
    redis.call('HSET', relay, 'entry', entry)
  end
  if confirmed ~= '' then
    redis.call('PUBLISH', PREFIX .. 'relay', confirmed)
  end
end

if token ~= '' then
  local held = redis.call('HMGET', relay, 'token', 'entry')
  if held[1] ~= token then
    return { 'FENCED' }
  end
  if entry ~= '' and held[2] then
    local ms, n = string.match(entry, '^(%d+)-(%d+)$')
    local last_ms, last_n = string.match(held[2], '^(%d+)-(%d+)$')
    ms, n, last_ms, last_n = tonumber(ms), tonumber(n), tonumber(last_ms), tonumber(last_n)
    if ms < last_ms or (ms == last_ms and n <= last_n) then
      return { 'REPEATED', id, time, '', '', '', '', '' }
    end
  end
end
local remembered = key ~= '' and PREFIX .. 'key:' .. key
if remembered then
  local first = redis.call('GET', remembered)
  if first then
    confirm()
    local answer = cjson.decode(first)
    table.insert(answer, 1, 'REPEATED')
    return answer
  end
end
local answer = { id, time, '', '', '', '', '' }
local forgotten = 0
if logged then
  local channel = channel_of(name)
  if receipt then
    local gone, keys, over = oldest_receipts()
    open_receipt(gone, keys)
    forgotten = over
  end
  log_and_publish(channel, head, data, shown)
  answer = { id, time, digits(log.number), digits(channel.offset), channel.born, log.epoch, log.generation }
else
  publish_only(name, head, data)
end
if remembered then
  redis.call('SET', remembered, cjson.encode(answer), 'PX', KEY_TTL)
end
confirm()
table.insert(answer, 1, 'OK')
if forgotten > 0 then
  answer[#answer + 1] = digits(forgotten)
end
return answer
