-- A user has a proceed.
--
-- ARGV: run, event, user, proceed. Answers {'OK', '1' if it was confirmed now, else ''}, or {'UNKNOWN'}.
-- uses queue.lua

if not known() then
  return RESUME
end
local event = load_event(ARGV[2])
local proceed = read(event.proceeds, ARGV[4])
if not proceed or proceed.u ~= ARGV[3] then
  return { 'UNKNOWN' }
end
if proceed.s == 'acknowledged' then
  return { 'OK', '' }
end
if proceed.s ~= 'sent' or tonumber(proceed.x) <= NOW then
  return { 'UNKNOWN' }
end
proceed.s, proceed.t = 'acknowledged', digits(NOW)
write(event.proceeds, ARGV[4], proceed)
change(event, 'p ' .. ARGV[4], next_number())
return { 'OK', '1' }
