-- Ask for the relay's lease, or renew it, and say so to be a live listener; and publish the probe
-- whose return on the listening connection lets the node ask again.
--
-- The lease goes to the listener of the longest standing, for it has heard most. One is passed over by
-- whoever has asked `silent` ms after it last did, and asks again: where all fell silent at once, it was
-- Redis that stood still, and each gets its turn. If that one was, after all, only slow, and holds what the
-- holder can't have heard, it takes the lease from it. What was published under an earlier token is confirmed before
-- the probe, and nothing more is published under it.
-- ARGV: run, node, the number of its mark, the token that it holds ('' for none), a fresh token, the
-- probe's number, ms of the lease, ms of `silent`, the era of the oldest message that it holds ('' for
-- none).
-- Answers {'HOLDER', token, id of the stream's last entry that was handled}, {'LISTENER', ms for which
-- another node's lease still runs}; 0 if it is free but another's turn.

if not known() then
  return RESUME
end
local node, number, token, fresh, probe = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local period, silent, oldest = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local relay, listeners = PREFIX .. 'relay', PREFIX .. 'listeners'
local got = redis.call('HMGET', relay, 'token', 'holder', 'ends', 'entry')
local held, holder, ends, entry = got[1], got[2], tonumber(got[3] or 0), got[4] or ''
local standing = node .. ' ' .. digits(number)
local asked = redis.call('HGETALL', listeners)

-- Whether a node's listening connection is there: without it, it is no listener.
local function listens(other)
  return redis.call('PUBSUB', 'NUMSUB', relay .. ':' .. other)[2] > 0
end

-- Whether nobody who lives has been listening for longer; those long silent are forgotten.
local function eldest()
  local others, mine = {}, 0
  for index = 1, #asked, 2 do
    local other = asked[index]
    local since, at = string.match(asked[index + 1], '^(%d+) (%d+)$')
    since, at = tonumber(since), tonumber(at)
    if other == node then
      mine = since == number and at or 0
    elseif NOW - at > 10 * period then
      redis.call('HDEL', listeners, other)
    elseif since < number or (since == number and other < node) then
      others[other] = at
    end
  end
  for other, at in pairs(others) do
    if mine - at <= silent and listens(other) then
      return false
    end
  end
  return true
end

-- Whether the lease is held. A holder that listens no more has half a period to publish what it has heard.
local function taken()
  if not held or ends <= NOW then
    return false
  end
  return NOW - (ends - period) <= period / 2 or listens(string.match(holder, '^%S+'))
end

local given
if held and token ~= '' and held == token then
  given = token
elseif held and holder == standing then
  -- It does not know what became of something under way: that must not be done any more.
  given = fresh
elseif not taken() and eldest() then
  given = fresh
elseif held and oldest and oldest < tonumber(string.match(holder, '%d+$')) then
  given = fresh
end
redis.call('HSET', listeners, node, digits(number) .. ' ' .. digits(NOW))
redis.call('PEXPIRE', listeners, 10 * period)
redis.call('PUBLISH', relay .. ':' .. node, probe)
if not given then
  return { 'LISTENER', digits(held and math.max(0, ends - NOW) or 0) }
end
redis.call('HSET', relay, 'token', given, 'holder', standing, 'ends', digits(NOW + period))
redis.call('PEXPIRE', relay, LOG_TTL)
return { 'HOLDER', given, entry }
