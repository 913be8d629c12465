-- All bans, if they are not those of a version that the node knows.
--
-- ARGV: run, version. Answers {version}, or {version, bans as JSON}.
-- uses bans_version.lua

begin_version()
local version = redis.call('GET', VERSION)
if version == ARGV[2] then
  return { version }
end
return { version, redis.call('HVALS', BANS) }
