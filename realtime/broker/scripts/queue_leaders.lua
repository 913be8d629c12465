-- Which worker leads which queues. What uses this uses queue.lua, too, and before it.

-- A worker leads no more: its queues are without leader. `led` are their names.
local function dismiss(worker, led)
  for _, name in ipairs(led) do
    redis.call('HDEL', Q .. 'event:' .. name, 'leader')
    redis.call('SADD', ORPHANS, name)
  end
  redis.call('PEXPIRE', ORPHANS, KEEP)
  redis.call('DEL', Q .. 'led:' .. worker, Q .. 'ready:' .. worker)
end

local function load_led(worker)
  load_leader(worker)
  local led = redis.call('SMEMBERS', Q .. 'led:' .. worker)
  for _, name in ipairs(led) do
    load_event(name)
  end
  return led
end
