-- Nodes whose runtimes are not the same (replica/runtime.c): no cluster forms of them, and who differs from its leader waits.
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

local function restart(w, node, version)
  w:crash(node)
  w.C.replica_world_runtime(w.world, node, version)
  w:start(node)
end

describe('a runtime of another version', function()
  it('is refused while a cluster forms', function()
    local w = W.new()
    w.C.replica_world_runtime(w.world, 2, 7)
    w:start_all()
    w:run(3000)
    for i = 0, 2 do assert.is_false(w:status(i).raft) end
    w:crash(2)
    w.C.replica_world_runtime(w.world, 2, 0)
    w:start(2)
    w:ready()
  end)

  it('of a follower makes it wait: it stores, acknowledges and votes, and answers nothing', function()
    local w = W.formed()
    local leader = w:leader()
    local other, third = (leader + 1) % 3, (leader + 2) % 3
    assert.equal(1, w:call(leader, 'counter.add', 'a').value)
    w:equal()
    restart(w, other, 7)
    w:until_true('it waits', function() return w:status(other).parked end)
    local why = core.ffi.string(w:status(other).parked_why)
    assert.truthy(why:find('its runtime (0000000000000008) is not that of node ' .. leader + 1, 1, true), why)
    local before = tonumber(w:status(other).applied)
    w:crash(third)
    for i = 2, 20 do assert.equal(i, w:call(leader, 'counter.add', 'a').value) end -- it takes two disks
    assert.equal(before, tonumber(w:status(other).applied))
    for _, stale in ipairs { true, false } do -- by itself; it passes on what it is asked
      assert.is_false(w:wait(w:ask(other, { query = true, stale = stale, forward = false }, 'counter.value', 'a')).ok)
    end
    assert.equal(20, w:query(other, 'counter.value', 'a').value)
    assert.is_false(w:snapshot(other, 500).ok)
    w:start(third)
    restart(w, other, 0)
    w:equal()
    assert.equal(20, w:wait(w:ask(other, { query = true, forward = false }, 'counter.value', 'a')).value)
  end)

  it('node by node takes over, and the service goes on (a rolling upgrade)', function()
    for seed = 1, 8 do
      local w = W.formed { seed = seed }
      local count = 0
      local function add()
        local reply
        for _ = 1, 40 do
          reply = w:wait(w:ask(count % 3, { timeout = 1500 }, 'counter.add', 'a'))
          if reply.ok then break end
          w:run(50)
        end
        assert.is_true(reply.ok, reply.message)
        count = reply.value
      end
      for step = 1, 3 do
        add()
        local leader = w:leader()
        -- The leader comes last.
        local node
        for i = 0, 2 do
          if tonumber(w:status(i).cluster_id) and not (i == leader and step < 3) and not w['new' .. i] then node = i end
        end
        w['new' .. node] = true
        restart(w, node, 7)
        w:until_true('it is back', function() return w:status(node).up end)
        w:run(400)
      end
      add()
      w:equal(30000)
      for i = 0, 2 do assert.is_false(w:status(i).parked) end
      assert.is_true(count >= 4)
    end
  end)
end)
