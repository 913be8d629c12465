-- Let nodes be told of changes of receipts for a while.
--
-- ARGV: run, milliseconds. Answers {'OK'}.

if not known() then
  return RESUME
end
local key = PREFIX .. 'receipts:watched'
redis.call('EXISTS', key)
redis.call('SET', key, '1', 'PX', ARGV[2])
return { 'OK' }
