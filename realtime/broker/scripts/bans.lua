-- All bans, if they are not those of a version that the node knows.
--
-- ARGV: run, version. Answers {version}, or {version, bans as JSON}.

local version = tonumber(redis.call('GET', PREFIX .. 'bans:version') or '0')
if version == tonumber(ARGV[2]) then
  return { version }
end
return { version, redis.call('HVALS', PREFIX .. 'bans') }
