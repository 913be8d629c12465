-- Read receipts.
--
-- ARGV: run, ids. Answers {'OK', and for each what its hash has, …}: nothing for one that is not kept.

if not known() then
  return RESUME
end
local answer = { 'OK' }
for index = 2, #ARGV do
  answer[index] = redis.call('HGETALL', PREFIX .. 'receipt:' .. ARGV[index])
end
return answer
