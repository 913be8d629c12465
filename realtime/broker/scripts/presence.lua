-- Read the presence of a user.
--
-- ARGV: run, user. Answers {'OK', presence}, see `presence_of`.
-- uses state.lua

if not known() then
  return RESUME
end
return { 'OK', presence_of(ARGV[2]) }
