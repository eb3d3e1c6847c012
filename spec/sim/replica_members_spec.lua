-- Nodes that join and leave, on whole nodes (replica/members.c, change.c, observe.c): numbers are those of the list in spec/README.md.
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'
local membership = require 'spec.support.membership'

local function value(w, node, key) return w:query(node, 'counter.value', key).value end

local function grown(nodes, options)
  local how = { nodes = nodes, founders = 1 }
  for k, v in pairs(options or {}) do how[k] = v end
  local w = W.formed(how)
  for node = 1, nodes - 1 do
    w:change(0, { { op = 'add', id = node + 1, address = 'h:730' .. node } })
    w:until_true('node ' .. node .. ' is let in', function() return w:status(node).up or w:join(node, 0).ok end)
    w:until_true('it is a learner', function()
      local all = w:members(0)
      return all and #all.members == node + 1 and not all.decision
    end)
  end
  w:until_true('all caught up', function()
    for _, m in ipairs(w:members(0).members) do if not m.caught_up then return false end end
    return true
  end)
  return w
end

-- Those of 2..nodes vote, by one change.
local function all_vote(w, nodes)
  local changes, roles = {}, { 'voter' }
  for id = 2, nodes do changes[#changes + 1], roles[id] = { op = 'promote', id = id }, 'voter' end
  for id = nodes + 1, w.nodes do roles[id] = 'learner' end
  assert.truthy(w:change(0, changes).value.decision)
  return w:until_members(0, roles)
end

local function not_led_by(w, old)
  w:until_true('another leads', function() return w:leader() ~= W.NOBODY and w:leader() ~= old end)
  return w:leader()
end

-- Cuts one of the first three nodes from the other two alone.
local function apart(w, node, on)
  for i = 0, 2 do
    if i ~= node then
      w:cut(i, node, on)
      w:cut(node, i, on)
    end
  end
end

describe('a cluster of one', function()
  it('lets in whom an operator invited, as a learner, and makes a voter of it', function()
    local w = W.formed { nodes = 3, founders = 1 }
    assert.equal(1, w:call(0, 'counter.add', 'a').value)
    local denied = w:join(1, 0)
    assert.equal('DENIED', denied.code)
    assert.truthy(denied.message:find('tidelock members add 2=h:7301', 1, true))
    assert.same({ invited = 2 }, w:change(0, { { op = 'add', id = 2, address = 'h:7301' } }).value)
    assert.truthy(w:join(1, 0).value.decision)
    w:until_members(0, { 'voter', 'learner' })
    w:until_true('it caught up', function() return w:members(0).members[2].caught_up end)
    assert.truthy(w:change(0, { { op = 'promote', id = 2 } }).value.decision)
    w:until_members(0, { 'voter', 'voter' })
    assert.equal(2, w:call(1, 'counter.add', 'a').value)
    w:equal()
    local lines = w:history(1)
    assert.same({ true, true }, { lines[1].done, lines[2].done })
    assert.same({ 'join', 'operator' }, { lines[1].by, lines[2].by })
  end)

  -- As async-raft documents it: one node, four more, all of them voters in one change, and then the first one is gone.
  it('grows to five in one change; what it acknowledges afterwards, cut off, is nothing (defect S2)', function()
    local w = grown(5)
    all_vote(w, 5)
    for i = 1, 10 do assert.equal(i, w:call(i % 5, 'counter.add', 'a').value) end
    local old = w:leader()
    w:isolate(old)
    w:run(50) -- until its links are closed
    local lost = w:ask(old, { timeout = 300, forward = false }, 'counter.add', 'a')
    local new = not_led_by(w, old)
    assert.equal(11, w:call(new, 'counter.add', 'a').value)
    assert.is_false(w:wait(lost).ok)
    w:isolate(old, false)
    w:equal()
    assert.equal(11, value(w, old, 'a'))
  end)
end)

describe('a member that is removed', function()
  it('ends and says so; a leader leads to the end and hands over (stepdown; bugs 60, 61)', function()
    local w = grown(3)
    all_vote(w, 3)
    local leader = w:leader()
    assert.truthy(w:change(leader, { { op = 'remove', id = leader + 1 } }).value.decision)
    w:until_true('it ended', function() return not w:status(leader).up end)
    assert.truthy(w:fatal(leader):find('this node was removed from the cluster by the configuration at entry', 1, true))
    local new = not_led_by(w, leader)
    assert.equal(1, w:call(new, 'counter.add', 'a').value)
    assert.equal(2, #w:members(new).members)
  end)

  it('and was down is told when it comes back, and ends (bug 66)', function()
    local w = grown(3)
    all_vote(w, 3)
    local gone = (w:leader() + 1) % 3
    w:crash(gone)
    assert.truthy(w:change(w:leader(), { { op = 'remove', id = gone + 1 } }).value.decision)
    w:until_true('it is removed', function() return #w:members(w:leader()).members == 2 end)
    local term = tonumber(w:status(w:leader()).term)
    w:start(gone)
    w:until_true('it was told', function() return not w:status(gone).up end)
    assert.truthy(w:fatal(gone):find('removed', 1, true), w:fatal(gone))
    assert.equal(term, tonumber(w:status(w:leader()).term)) -- and disturbed nobody
  end)
end)

describe('a node that was removed and let in again', function()
  -- A member that lagged behind its return told it that it was removed, and it ended (seed 4327 with churn).
  it('is not ended by a member that has yet to hear of that', function()
    local w = grown(4)
    all_vote(w, 3)
    local leader = w:leader()
    w:crash(3)
    assert.truthy(w:change(leader, { { op = 'remove', id = 4 } }).ok)
    w:until_true('removed', function() return #w:members(leader).members == 3 end)
    local lags = (leader + 1) % 3
    w:run(500)
    apart(w, lags)
    w:run(1000)
    assert.truthy(w:change(leader, { { op = 'add', id = 4, address = 'h:7303' } }).ok)
    local incarnation = tonumber(w.C.replica_world_joiner(w.world, 3, 0))
    assert.truthy(w:call(leader, 'tidelock.join', { id = 4, incarnation = incarnation, address = 'h:7303' }).ok)
    w:run(300)
    w:start(3)
    w:run(1000)
    assert.is_true(w:status(3).up, w:fatal(3))
    apart(w, lags, false)
    w:equal()
  end)
end)

describe('a directory', function()
  it('that is lost is another node: its id is refused, and the new one takes its place (bugs 66, 67)', function()
    local w = grown(4)
    all_vote(w, 3)
    local lost = (w:leader() + 1) % 3
    w:anew(lost, lost + 1)
    local refused = w:join(lost, w:leader())
    assert.equal('EXISTS', refused.code)
    assert.truthy(refused.message:find(('tidelock members replace %d NEW=h:730%d'):format(lost + 1, lost), 1, true), refused.message)
    w:anew(lost, 9)
    local replaced = w:change(w:leader(), { { op = 'replace', id = lost + 1, with = 9, address = 'h:730' .. lost } })
    assert.same({ invited = 9 }, replaced.value or replaced)
    w:until_true('it is let in', function() return w:status(lost).up or w:join(lost, w:leader()).ok end)
    local wanted = { 'voter', 'voter', 'voter', 'learner' }
    wanted[lost + 1], wanted[9] = nil, 'voter'
    w:until_members(w:leader(), wanted)
    assert.equal(1, w:call(lost, 'counter.add', 'a').value)
  end)

  it('that joined and lost its log does not begin anew: what it acknowledged would be gone', function()
    local w = grown(3)
    all_vote(w, 3)
    w:crash(2)
    local identity, disk = core.ffi.new('struct identity[1]'), w.C.replica_world_disk(w.world, 2)
    assert.equal(0, tonumber(w.C.identity_load(disk, identity, core.buffer())))
    w.C.replica_world_wipe(w.world, 2)
    assert.equal(0, tonumber(w.C.identity_save(disk, identity)))
    w:start(2)
    w:run(10)
    assert.is_false(w:status(2).up)
    assert.truthy(w:fatal(2):find('its log is gone', 1, true), w:fatal(2))
  end)

  -- Of a node that was let in again within an election time-out its leader knew what the lost directory had held, and sent it nothing.
  it('that is lost, under the same id at once, is filled from the beginning', function()
    local w = W.formed { nodes = 4, founders = 3, election_ms = 300, heartbeat_ms = 30 }
    local leader = w:leader()
    for _ = 1, 20 do w:call(leader, 'counter.add', 'a') end
    local gone = (leader + 1) % 3
    w:crash(gone)
    assert.truthy(w:change(leader, { { op = 'remove', id = gone + 1 } }, { force = true }).ok)
    w:until_true('removed', function()
      local all = w:members(leader)
      return #all.members == 2 and not all.joint and not all.decision
    end)
    w:anew(gone, gone + 1)
    w:change(leader, { { op = 'add', id = gone + 1, address = 'h:730' .. gone } })
    assert.truthy(w:join(gone, leader).ok)
    w:until_true('it has the log', function() return w:status(gone).applied >= 20 end, 3000)
  end)

  it('that was not let in yet does not start; asked again, it is the same node', function()
    local w = W.formed { nodes = 2, founders = 1 }
    local first = w.C.replica_world_joiner(w.world, 1, 0)
    assert.is_false(w:start(1))
    assert.equal(first, w.C.replica_world_joiner(w.world, 1, 0))
  end)
end)

describe('a learner', function()
  it('that starts again goes on from where it was, and is no voter (non_voter_restart)', function()
    local w = grown(3)
    w:call(0, 'counter.add', 'a')
    w:crash(2)
    for _ = 1, 20 do w:call(0, 'counter.add', 'a') end
    w:start(2)
    w:equal()
    assert.equal(21, value(w, 2, 'a'))
    w:crash(1)
    w:crash(2)
    assert.equal(22, w:call(0, 'counter.add', 'a').value) -- one vote is a majority
    w:start(1)
    w:crash(0)
    w:run(3000)
    assert.equal(W.NOBODY, w:leader())
    w:start(0)
    w:start(2)
    w:equal()
  end)

  it('that is silent is said to be, for as long as it is', function()
    local w = grown(3)
    assert.equal(0, w:members(0).members[3].silent_ms)
    w:crash(2)
    w:run(2000)
    local silent = w:members(0).members[3].silent_ms
    assert.is_true(silent > 1500 and silent < 2500, silent)
    w:start(2)
    w:until_true('it is heard', function() return w:members(0).members[3].silent_ms == 0 end)
  end)

  it('that comes late takes a snapshot, and the members with it', function()
    local w = W.formed { nodes = 4, founders = 3, snapshots = { entries = 20, keep = 5 }, segment_bytes = 65536 }
    for i = 1, 120 do assert.equal(i, w:call(i % 3, 'counter.add', 'a').value) end
    w:until_true('the log begins after a snapshot', function() return w:status(w:leader()).base > 20 end)
    w:change(0, { { op = 'add', id = 4, address = 'h:7303' } })
    w:until_true('it is let in', function() return w:status(3).up or w:join(3, w:leader()).ok end)
    w:equal()
    assert.equal(120, value(w, 3, 'a'))
    assert.is_true(w:status(3).received > 0)
    assert.equal('learner', w:members(3).members[4].role)
  end)
end)

describe('a change', function()
  it('that a leader was lost over is carried out by the next one, once', function()
    local w = grown(5)
    all_vote(w, 3)
    local leader = w:leader()
    local asked = w:ask(leader, {}, 'tidelock.members_change', { { op = 'promote', id = 4 }, { op = 'promote', id = 5 } })
    w:until_true('decided', function() return w:reply(asked).replies > 0 or w:members(leader).decision end)
    w:crash(leader)
    not_led_by(w, leader)
    w:start(leader)
    w:until_members(w:leader(), { 'voter', 'voter', 'voter', 'voter', 'voter' })
    local count = 0
    for _, line in ipairs(w:history(w:leader())) do
      if line.changes[1][1] == 'promote' and line.changes[1][2] == 4 then count = count + 1 end
    end
    assert.equal(1, count)
  end)

  it('that cannot finish is given up, and the history says so', function()
    local w = grown(3)
    w:crash(1)
    w:crash(2)
    assert.truthy(w:change(0, { { op = 'promote', id = 2 }, { op = 'promote', id = 3 } }, { force = true }).value.decision)
    w:until_true('the old members are in force', function()
      local all = w:query(0, 'tidelock.members', {}).value
      return all and not all.joint and not all.decision and all.members[2].role == 'learner'
    end)
    assert.equal(1, w:call(0, 'counter.add', 'a').value)
    local lines = w:history(0)
    assert.truthy(tostring(lines[#lines].done):find('undone', 1, true), tostring(lines[#lines].done))
  end)

  it('is refused for another configuration than the one in force, of who lags, and of everybody (bug 111)', function()
    local w = grown(3)
    local id = w:members(0).configuration
    assert.equal('STALE_CONFIG', w:change(0, { { op = 'promote', id = 2 } }, { expected = id - 1 }).code)
    assert.equal('CONFLICT', w:change(0, { { op = 'remove', id = 1 } }).code)
    assert.equal('NOT_FOUND', w:change(0, { { op = 'remove', id = 7 } }).code)
    assert.equal('BAD_ARGS', w:change(0, { { op = 'marry', id = 7 } }).code)
    assert.equal('BAD_ARGS', w:call(0, 'tidelock.members_change', 7).code)
    w:isolate(2)
    w:run(1000)
    assert.equal('CONFLICT', w:change(0, { { op = 'promote', id = 3 } }).code)
  end)

  it('of an address is followed by whoever dials it', function()
    local w = grown(2)
    local reply = w:change(0, { { op = 'address', id = 2, address = 'h:7302' } })
    assert.truthy(reply.value.decision)
    w:until_true('it has that address', function() return w:members(0).members[2].address == 'h:7302' end)
    w:run(500)
    assert.truthy(w:change(0, { { op = 'address', id = 2, address = 'h:7301' } }).value.decision)
    w:call(0, 'counter.add', 'a')
    w:equal()
  end)
end)

describe('a policy', function()
  local function governed(text, nodes)
    local bundle = assert(membership.bundle(text))
    return W.formed { nodes = nodes or 3, founders = 3, bundles = W.pack { assert(W.bundle('counter', W.counter)), bundle } }
  end

  for what, text in pairs {
    ['has a bug'] = "return { name = 'p', version = 1, every = 200, review = function() local x = nil; return x.y end }",
    ['loops'] = "return { name = 'p', version = 1, every = 200, review = function() while true do end end }",
    ['asks to remove everyone'] = [[return { name = 'p', version = 1, every = 200, review = function(_, view)
      local list = { why = 'away with them' }
      for i, m in ipairs(view.members) do list[i] = { op = 'remove', id = m.id } end
      return list end }]],
  } do
    it('that ' .. what .. ' changes nothing, and the operator sees why', function()
      local w = governed(text)
      w:until_true('the alarm', function()
        local all = w:query(0, 'tidelock.members').value
        return all and all.alarm
      end)
      assert.equal(3, #w:members(1).members)
      assert.equal(1, w:call(2, 'counter.add', 'a').value)
      w:equal()
      local invited = w:change(0, { { op = 'demote', id = 3 } }) -- as under manual
      assert.truthy(invited.value.decision)
    end)
  end

  it('is asked as often as it wants, and its decision is carried out', function()
    local w = governed [[return { name = 'p', version = 1, every = 300, state = { seen = 'map' }, review = function(ctx)
      if ctx.db.seen:add('reviews', 1) == 4 then return { op = 'demote', id = 3, why = 'the fourth time' } end end }]]
    w:until_members(0, { 'voter', 'voter', 'learner' })
    local lines = w:history(1)
    assert.same({ 'policy', 'the fourth time', true }, { lines[#lines].by, lines[#lines].why, lines[#lines].done })
  end)

  it('is asked by observations alone: an idle group stays idle', function()
    local w = governed "return { name = 'p', version = 1, review = function() end, admit = function() return true end }"
    w:run(3000)
    local last = tonumber(w:status(w:leader()).last)
    w:run(5000)
    assert.equal(last, tonumber(w:status(w:leader()).last))
  end)
end)
