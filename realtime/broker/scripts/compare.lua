-- Put the store in step with some live sessions of a node.
--
-- ARGV: run, node, '1' if the store may have lost what it had, the limit of members, and packed, for each
-- session: user, connection, generation, session, since, '1' if idle, rooms, for each '1' if joined, '1' if
-- it may be in further rooms; the epoch of the log as the node knows it.
-- Answers {'OK', for each {generation, its user's preferences, full room, …}, or {''} if it is not the
-- node's any more}; {'SWEPT'};
-- {'OTHER'} if the data was lost, and the node is yet to hear of it.
--
-- After a loss nothing is announced: others have seen no change. Else a session that was withdrawn
-- comes back for all to see, and one that has no record any more has ended.
-- uses state.lua

if not known() then
  return RESUME
end
if ARGV[6] ~= log.epoch then
  return { 'OTHER' }
end
local node, lost, members = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
if lapsed(node) then
  return { 'SWEPT' }
end
redis.call('EXISTS', node_key(node))

-- Plan one session; nil if it is not the node's any more.
local function plan_of(name, connection, generation, id, since, idle, rooms, joined, more)
  local session = load_session(id)
  if session then
    local other = session.user ~= name or session.connection ~= connection
    if other or session.generation > generation then
      return nil
    end
    if session.generation == generation and session.node ~= node and not session.suspended then
      return nil
    end
  elseif not lost then
    return nil
  end
  local user = load_user(name)
  local plan = { user = user, full = {}, enter = {}, exit = {}, add = {}, remove = {}, change = watch(user) }
  if session then
    plan.displaced = session.node ~= node and not session.suspended and session.generation
    plan.was_node = session.node
    plan.returns = session.suspended
    -- Whoever ended its turn here did so under the old generation.
    local raised = session.suspended and session.generation == generation
    session.generation = raised and generation + 1 or generation
  else
    session = {
      id = id, key = PREFIX .. 'session:' .. id, user = name, connection = connection,
      generation = generation, rooms = {},
    }
    sessions[id] = session
  end
  plan.session = session
  plan.preferences = preferences_of(name)
  local present, wanted = session.present, {}
  for index, room in ipairs(rooms) do
    local as_member = joined[index] == '1'
    local seat = load_seat(room, name)
    local had = session.rooms[room]
    if as_member and not (had and had.joined and present) then
      if has_seat(seat, members) then
        plan.enter[#plan.enter + 1] = seat
        wanted[room] = true
      else
        plan.full[#plan.full + 1] = room
      end
    else
      wanted[room] = true
    end
    if wanted[room] and not had then
      plan.add[#plan.add + 1] = room
      session.rooms[room] = { joined = as_member }
    end
  end
  for room, membership in pairs(session.rooms) do
    if not wanted[room] and more ~= '1' then
      plan.remove[#plan.remove + 1] = room
      if membership.joined and present then
        plan.exit[#plan.exit + 1] = load_seat(room, name)
      end
    end
  end
  come(user, session, since)
  user.metas[connection].idle = idle == '1'
  settle(plan.change)
  return plan
end

local plans = {}
for index, held in ipairs(cmsgpack.unpack(ARGV[5])) do
  plans[index] = plan_of(unpack(held)) or false
end

local answer = { 'OK' }
for index, plan in ipairs(plans) do
  if not plan then
    answer[index + 1] = { '' }
  else
    local user, session = plan.user, plan.session
    if plan.was_node and plan.was_node ~= node then
      redis.call('SREM', node_key(plan.was_node), session.id)
      if plan.displaced then
        displace({
          user = session.user, connection = session.connection, generation = plan.displaced, node = plan.was_node,
        })
      end
    end
    session.node = node
    session.opened = session.opened or place()
    write_live(user, session)
    for _, room in ipairs(plan.remove) do
      session.rooms[room] = nil
      redis.call('HDEL', session.key, 'r:' .. room)
    end
    for _, seat in ipairs(plan.enter) do
      enter(seat, lost)
    end
    for _, seat in ipairs(plan.exit) do
      exit(seat, lost)
    end
    for _, room in ipairs(plan.add) do
      -- The client's own offset says from where it lacks, and the log's floor what can be proved.
      write_membership(session, room, 0, session.rooms[room].joined)
    end
    if not lost then
      announce(plan.change)
      if plan.returns then
        tell_of_socket('reconnect', session)
      end
    end
    answer[index + 1] = { digits(session.generation), plan.preferences, unpack(plan.full) }
  end
end
return answer
