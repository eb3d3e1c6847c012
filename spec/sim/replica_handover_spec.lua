-- Leadership handed over on whole nodes (replica/handover.c): asked for, or because the leader ends.
local W = require 'spec.support.replicas'

local function ask(w, node, to, timeout)
  return w:ask(node, { timeout = timeout or 5000 }, 'tidelock.transfer', to and to + 1 or nil)
end

describe('tidelock.transfer', function()
  it('makes the node lead that is named, asked at whatever node', function()
    local w = W.formed { election_ms = 1000, heartbeat_ms = 100 }
    for round = 1, 6 do
      local to = (w:leader() + 1 + round % 2) % 3
      local reply = w:wait(ask(w, round % 3, to))
      assert.is_true(reply.ok, reply.message)
      assert.equal(to + 1, reply.value.leader)
      assert.equal(to, w:leader())
      assert.equal(round, w:call(round % 3, 'counter.add', 'a').value)
    end
    w:equal()
  end)

  it('without a name takes whoever lacks least, and to the leader itself changes nothing', function()
    local w = W.formed { election_ms = 1000, heartbeat_ms = 100 }
    local old = w:leader()
    assert.equal(old + 1, w:wait(ask(w, old, old)).value.leader)
    local behind = (old + 1) % 3
    w:isolate(behind)
    w:call(old, 'counter.add', 'a')
    local reply = w:wait(ask(w, old))
    assert.is_true(reply.ok, reply.message)
    assert.equal((old + 2) % 3, w:leader())
  end)

  it('loses and doubles no command that comes meanwhile', function()
    for seed = 1, 10 do
      local w = W.formed { seed = seed, election_ms = 600, heartbeat_ms = 60, delay_ms_max = 8 }
      local asked = {}
      for i = 1, 120 do
        asked[i] = w:ask(i % 3, { timeout = 8000 }, 'counter.add', 'a')
        if i % 30 == 10 then w:wait(ask(w, i % 3, (w:leader() + 1) % 3)) end
        w:run(3)
      end
      local least, unknown = 0, 0
      for _, number in ipairs(asked) do
        local reply = w:wait(number)
        if reply.ok then least = least + 1 elseif not reply.definite then unknown = unknown + 1 end
      end
      local value = w:query(0, 'counter.value', 'a').value
      assert.is_true(value >= least and value <= least + unknown, ('seed %d: %d, %d ok, %d unknown'):format(seed, value, least, unknown))
      assert.is_true(least > 90, 'seed ' .. seed .. ': only ' .. least)
      w:equal()
    end
  end)

  it('gives up after an election time-out, and the old leader goes on, with what waited', function()
    local w = W.formed { election_ms = 400, heartbeat_ms = 40 }
    local old = w:leader()
    local gone = (old + 1) % 3
    w:isolate(gone)
    local number = ask(w, old, gone)
    w:run(50)
    local waits = w:ask(old, {}, 'counter.add', 'a')
    local reply = w:wait(number)
    assert.equal('CONFLICT', reply.code)
    assert.truthy(reply.message:find('did not take over within an election time-out', 1, true))
    assert.equal(old, w:leader())
    assert.equal(1, w:wait(waits).value)
  end)

  it('is refused with a sentence when it makes no sense', function()
    local w = W.formed { nodes = 1 }
    assert.equal('there is no other voter that answers: this node leads on', w:wait(ask(w, 0)).message)
    assert.equal('NOT_FOUND', w:wait(ask(w, 0, 8)).code)
    assert.equal('BAD_ARGS', w:wait(w:ask(0, {}, 'tidelock.transfer', 'x')).code)
    assert.equal('BAD_ARGS', w:wait(w:ask(0, {}, 'tidelock.transfer', 1, 2)).code)
    local three = W.formed { election_ms = 1000, heartbeat_ms = 100 }
    local old = three:leader()
    three:isolate((old + 1) % 3)
    ask(three, old, (old + 1) % 3)
    three:run(10)
    assert.equal('CONFLICT', three:wait(ask(three, old, (old + 2) % 3)).code)
  end)
end)

describe('a leader that ends', function()
  it('hands over first: another leads long before an election time-out', function()
    for seed = 1, 10 do
      local w = W.formed { seed = seed, election_ms = 2000, heartbeat_ms = 100 }
      local old = w:leader()
      assert.equal(1, w:call(old, 'counter.add', 'a').value)
      w.C.replica_world_stop(w.world, old)
      w:until_true('it is gone', function() return not w:status(old).up end, 1000)
      w:until_true('another leads', function() return w:leader() ~= old and w:leader() ~= W.NOBODY end, 200)
      assert.equal(2, w:call((old + 1) % 3, 'counter.add', 'a').value)
    end
  end)

  it('ends all the same when nobody takes over', function()
    local w = W.formed { election_ms = 300, heartbeat_ms = 40 }
    local old = w:leader()
    w:isolate(old)
    w.C.replica_world_stop(w.world, old)
    w:until_true('it is gone', function() return not w:status(old).up end, 1500)
  end)
end)
