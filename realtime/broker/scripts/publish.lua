-- Take one publication: idempotency key, offset and sequence, log and history, PUBLISH, as one step.
--
-- ARGV: run, channel, idempotency key ('' for none), '1' if it is logged, '1' if history shows it,
-- its id, its time, header line, payload, and for the relay (else ''): the lease's token, what is
-- confirmed, the id of the stream's entry.
-- Answers {'OK' or 'REPEATED', id, time, number, offset, born, epoch, generation}, the last five ''
-- for what is not logged; {'FENCED'} if another node holds the relay's lease.

if not known() then
  return RESUME
end
local name, key, logged, shown = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local id, time, head, data = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local token, confirmed, entry = ARGV[10], ARGV[11], ARGV[12]
local relay = PREFIX .. 'relay'

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
if logged then
  local channel = channel_of(name)
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
return answer
