-- Reads by lease on whole nodes (replica/lease.c): switched on by a limit of the state, kept over restarts, never stale.
-- Numbers are those of the list in spec/README.md.
local W = require 'spec.support.replicas'

local ELECTION, DRIFT = 400, 40

-- Three nodes with leases on, past the first promises.
local function world(more)
  local o = { election_ms = ELECTION, heartbeat_ms = 40 }
  for k, v in pairs(more or {}) do o[k] = v end
  local w = W.formed(o)
  assert.equal(0, w:call(w:leader(), 'tidelock.limits', 'lease_drift_ms', DRIFT).value)
  w:equal()
  w:run(300)
  return w
end

local function ask(w, node, timeout, lease)
  return w:ask(node, { query = true, lease = lease, timeout = timeout, forward = false }, 'counter.value', 'a')
end

local function value(w, node, timeout, lease) return w:wait(ask(w, node, timeout, lease)) end

describe('a read by lease', function()
  it('needs no other node while the lease lasts; a linearizable one does (bug 88)', function()
    local w = world()
    local leader = w:leader()
    assert.equal(1, w:call(leader, 'counter.add', 'a').value)
    w:isolate(leader)
    assert.equal(1, value(w, leader, 100, true).value)
    assert.equal('TIMEOUT', value(w, leader, 100, false).code)
    w:run(ELECTION)
    assert.is_false(value(w, leader, 100, true).ok)
  end)

  it('is as a linearizable one where the limit is 0', function()
    local w = W.formed { election_ms = ELECTION, heartbeat_ms = 40 }
    local leader = w:leader()
    assert.equal(0, value(w, leader, 1000, true).value)
    w:isolate(leader)
    assert.equal('TIMEOUT', value(w, leader, 100, true).code)
  end)

  it('is none any more when the limit is 0 again', function()
    local w = world()
    local leader = w:leader()
    assert.equal(DRIFT, w:call(leader, 'tidelock.limits', 'lease_drift_ms', 0).value)
    w:isolate(leader)
    w:run(50) -- until its links are closed
    assert.equal('TIMEOUT', value(w, leader, 100, true).code)
  end)

  it('at a follower has its index from the leader at once, without a round', function()
    local w = world()
    local follower, took = (w:leader() + 1) % 3, {}
    assert.equal(1, w:call(w:leader(), 'counter.add', 'a').value)
    for _, lease in ipairs { true, false } do
      local from = tonumber(w.C.replica_world_now(w.world))
      for _ = 1, 40 do assert.equal(1, value(w, follower, 1000, lease).value) end
      took[lease] = tonumber(w.C.replica_world_now(w.world)) - from
    end
    assert.is_true(took[true] * 3 < took[false] * 2, took[true] .. ' ms, linearizable ' .. took[false])
  end)

  -- The old leader and another cannot hear each other; the third, which has promised, restarts: it has forgotten whom it hears, and the
  -- other asks it for its vote all the time. Until the old leader's lease is over nobody may lead without it.
  it('is not undone by a voter that restarts: it waits (bug 89)', function()
    for seed = 1, 10 do
      local w = world { seed = seed }
      local old = w:leader()
      local other, third = (old + 1) % 3, (old + 2) % 3
      assert.equal(1, w:call(old, 'counter.add', 'a').value)
      w:equal()
      w:cut(old, other)
      w:cut(other, old)
      w:run(3 * ELECTION) -- it campaigns from now on
      assert.equal(old, w:leader())
      w:crash(third)
      w:isolate(old)
      w:start(third)
      local reads, acknowledged, adding = 0, false, nil
      for _ = 1, 300 do
        if not adding and w:leader() == other then adding = w:ask(other, { timeout = 3000 }, 'counter.add', 'a') end
        acknowledged = acknowledged or adding and w:reply(adding).ok or false
        local before = acknowledged
        local reply = value(w, old, 5, true)
        if reply.ok then
          reads = reads + 1
          assert.equal(1, reply.value)
          assert.is_false(before, 'seed ' .. seed .. ': a read by lease misses what was acknowledged before it')
        end
      end
      assert.is_true(reads > 0)
      w:until_true('the other leads in the end', function() return w:leader() == other or w:leader() == third end)
    end
  end)

  it('is promised only when the disk remembers it', function()
    local w = W.formed { election_ms = ELECTION, heartbeat_ms = 40 }
    local leader = w:leader()
    local slow = (leader + 1) % 3
    assert.equal(0, w:call(leader, 'tidelock.limits', 'lease_drift_ms', DRIFT).value)
    w:equal()
    w:run(300)
    w:crash(slow)
    w:start(slow)
    w:run(1)
    assert.equal(ELECTION + DRIFT, tonumber(w:lease_noted(slow)))
  end)

  it('is forgotten by the disk after a restart with the limit at 0', function()
    local w = world()
    assert.equal(DRIFT, w:call(w:leader(), 'tidelock.limits', 'lease_drift_ms', 0).value)
    w:equal()
    local node = (w:leader() + 1) % 3
    assert.is_true(tonumber(w:lease_noted(node)) > 0)
    w:crash(node)
    w:start(node)
    w:equal()
    w:run(3 * ELECTION)
    assert.equal(0, tonumber(w:lease_noted(node)))
  end)
end)
