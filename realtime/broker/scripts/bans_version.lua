-- Bans: a hash by kind and key, and a set of those that end by themselves, by their end. The version
-- counts changes: who hears of one that does not follow on what is known there has missed some. It is
-- a count within an epoch, which begins when there is none: so a node can tell a count that goes on
-- from one that was lost and begun anew.

local BANS = PREFIX .. 'bans'
local ENDS = PREFIX .. 'bans:ends'
local VERSION = PREFIX .. 'bans:version'

local function begin_version()
  if redis.call('EXISTS', VERSION) == 0 then
    redis.call('SET', VERSION, digits((math.floor(NOW / 1000) % 1000000 + 1) * 2 ^ 32))
  end
end

-- Count a change, and tell all nodes.
local function count(change)
  begin_version()
  local version = digits(redis.call('INCR', VERSION))
  redis.call(PUBLISH, PREFIX .. 'signals', 'banned\n{"version":' .. version .. ',"change":' .. change .. '}')
end
