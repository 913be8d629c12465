-- Add what users have used up of their limits, and tell what they have in all.
--
-- Of each user the time is kept at which nothing is used up any more.
--
-- ARGV: run, the most that is counted (ms), then for each user its name and an amount (ms).
-- Answers the debt of each (ms), as text.

local clear = {}
for at = 3, #ARGV, 2 do
  clear[at] = redis.call('GET', PREFIX .. 'debt:' .. ARGV[at])
end
local debts = {}
for at = 3, #ARGV, 2 do
  local debt = math.max(tonumber(clear[at] or '0') - NOW, 0) + tonumber(ARGV[at + 1])
  debt = math.min(debt, tonumber(ARGV[2]))
  if debt >= 1 then
    redis.call('SET', PREFIX .. 'debt:' .. ARGV[at], string.format('%.3f', NOW + debt), 'PX', digits(math.ceil(debt)))
  end
  debts[#debts + 1] = string.format('%.3f', debt)
end
return debts
