-- A node ends: give up its lease, if nothing is in its name any more.
--
-- ARGV: run, node. Answers {'OK', '1' if sessions are left for others to sweep, else ''}.
-- uses state.lua

if not known() then
  return RESUME
end
local left = redis.call('EXISTS', node_key(ARGV[2])) == 1
if not left then
  redis.call('ZREM', NODES, ARGV[2])
end
return { 'OK', left and '1' or '' }
