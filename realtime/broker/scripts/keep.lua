-- Keep some of what a node's live sessions need from expiring.
--
-- ARGV: run, node, cursor. Answers {'OK', next cursor}.
-- uses state.lua

if not known() then
  return RESUME
end
local found = redis.call('SSCAN', node_key(ARGV[2]), ARGV[3], 'COUNT', 100)
local keys = { [node_key(ARGV[2])] = SESSION_TTL, [ROOMS] = SESSION_TTL, [WAITING] = SESSION_TTL }
-- That of everyone is every session's; born anew it would prove nothing of what was before.
keys[PREFIX .. 'meta:' .. EVERYONE] = META_TTL
for _, id in ipairs(found[2]) do
  local session = load_session(id)
  if session then
    keys[session.key] = session.suspended and WINDOW + SPARE or SESSION_TTL
    keys[PREFIX .. 'user:' .. session.user] = SESSION_TTL
    for room, membership in pairs(session.rooms) do
      keys[PREFIX .. 'meta:' .. room] = META_TTL
      if membership.joined then
        keys[PREFIX .. 'room:' .. room] = SESSION_TTL
      end
    end
  end
end
for key in pairs(keys) do
  redis.call('EXISTS', key)
end
for key, ttl in pairs(keys) do
  redis.call('PEXPIRE', key, ttl)
end
return { 'OK', found[1] }
