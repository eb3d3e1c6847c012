-- Linearizable queries at a follower (replica/read.c): it asks the leader for an index, and answers itself.
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

local function value(w, node, how)
  how.query = true
  return w:wait(w:ask(node, how, 'counter.value', 'a'))
end

describe('a query at a follower', function()
  it('is answered there, and sees all that was acknowledged, at whatever node', function()
    local w = W.formed()
    for i = 1, 30 do
      assert.equal(i, w:call(i % 3, 'counter.add', 'a').value)
      for node = 0, 2 do assert.equal(i, value(w, node, { forward = false }).value) end
    end
  end)

  it('waits until it has applied what the leader had committed (bug 87)', function()
    local w = W.formed()
    local leader = w:leader()
    local node = (leader + 1) % 3
    w.C.replica_world_slow(w.world, node, 2, 400)
    for i = 1, 10 do
      local done -- more jobs than are at a machine at once
      for _ = 1, 5 do done = w:call(leader, 'counter.add', 'a') end
      local reply = value(w, node, { timeout = 9000, forward = false })
      assert.equal(5 * i, reply.value)
      assert.is_true(reply.index >= done.index)
    end
  end)

  it('has the time that it is at the leader', function()
    local w = W.formed()
    local leader = w:leader()
    w:run(5000)
    local reply = w:wait(w:ask((leader + 1) % 3, { query = true, forward = false }, 'counter.now'))
    assert.is_true(reply.value >= tonumber(w:status(leader).stamp_ms) + 4000)
  end)

  it('is not answered with the word of a leader that others have replaced (bugs 84, 85)', function()
    for seed = 1, 6 do
      local w = W.formed { nodes = 5, seed = seed }
      local old = w:leader()
      local with = (old + 1) % 5
      assert.equal(1, w:call(old, 'counter.add', 'a').value)
      w:equal()
      for i = 0, 4 do -- these two on one side
        for _, n in ipairs { old, with } do
          if i ~= old and i ~= with then
            w:cut(n, i)
            w:cut(i, n)
          end
        end
      end
      local early = w:ask(with, { query = true, timeout = 3000, forward = false }, 'counter.value', 'a')
      w:until_true('others lead', function() return w:leader() ~= old and w:leader() ~= W.NOBODY end)
      assert.equal(2, w:call(w:leader(), 'counter.add', 'a').value)
      local late = w:ask(with, { query = true, timeout = 3000, forward = false }, 'counter.value', 'a')
      local reply = w:wait(late)
      assert.is_false(reply.ok)
      assert.is_true(reply.definite)
      reply = w:wait(early)
      assert.is_true(not reply.ok or reply.value == 1)
    end
  end)

  it('takes no answer to a question of its last life', function()
    local w = W.formed { nodes = 5, election_ms = 3000 }
    local leader = w:leader()
    local node = (leader + 1) % 5
    local function others(cut)
      for i = 2, 4 do
        w:cut(leader, (leader + i) % 5, cut)
        w:cut((leader + i) % 5, leader, cut)
      end
    end
    w:call(leader, 'counter.add', 'a')
    w:equal()
    others(true)
    w:ask(node, { query = true, forward = false }, 'counter.value', 'a') -- too few say that the leader leads
    w:run(20)
    w:crash(node)
    w:start(node)
    w:until_true('it follows', function() return w:status(node).leader == leader + 1 and w:status(node).applied == w:status(leader).applied end)
    w.C.replica_world_stall(w.world, leader, node, true)
    others(false)
    assert.equal(2, w:call(leader, 'counter.add', 'a').value)
    local number = w:ask(node, { query = true, forward = false, timeout = 5000 }, 'counter.value', 'a')
    w:run(50)
    w.C.replica_world_stall(w.world, leader, node, false)
    assert.equal(2, w:wait(number).value)
  end)

  it('finds the next leader when this one is lost', function()
    local w = W.formed()
    local leader = w:leader()
    local node = (leader + 1) % 3
    w:call(leader, 'counter.add', 'a')
    w:crash(leader)
    assert.equal(1, value(w, node, { timeout = 9000 }).value)
  end)

  it('is asked for with one message a turn, whatever there is to ask', function()
    local w = W.formed()
    local node = (w:leader() + 1) % 3
    local asked = {}
    for i = 1, 500 do asked[i] = w:ask(node, { query = true, forward = false }, 'counter.value', 'a') end
    for i = 1, 500 do assert.is_true(w:wait(asked[i]).ok) end
  end)

  it('is answered by the leader when the follower is far behind', function()
    local w = W.formed()
    local leader = w:leader()
    local node = (leader + 1) % 3
    w.C.replica_world_slow(w.world, node, 2, 60000)
    for _ = 1, 11 do
      for _ = 1, 1000 do w:ask(leader, { timeout = 9000 }, 'counter.add', 'a') end
      w:run(50)
    end
    w:until_true('the leader has applied all', function() return w:status(leader).applied > 11000 end)
    assert.equal(11000, value(w, node, { timeout = 2000 }).value)
    assert.equal('TIMEOUT', value(w, node, { timeout = 200, forward = false }).code)
  end)

  it('is right under random faults', function()
    for seed = 1, 8 do
      local w, random, known = W.formed { seed = seed }, core.random(seed), 0
      for _ = 1, 60 do
        local fault = random(1, 6)
        if fault == 1 then w:crash(random(0, 2)) elseif fault == 2 then w:isolate(random(0, 2))
        elseif fault == 3 then
          for i = 0, 2 do w:isolate(i, false) end
          w:start_all()
        end
        local add = w:ask(random(0, 2), { timeout = 300 }, 'counter.add', 'a')
        local before, asked = known, {}
        for i = 0, 2 do asked[i] = w:ask(i, { query = true, timeout = 400, forward = random(2) == 1 }, 'counter.value', 'a') end
        w:run(random(1, 60))
        for i = 0, 2 do
          local reply = w:wait(asked[i])
          assert.is_true(not reply.ok or reply.value >= before)
          if reply.ok then known = math.max(known, reply.value) end
        end
        local reply = w:wait(add)
        if reply.ok then known = math.max(known, reply.value) end
      end
    end
  end)
end)
