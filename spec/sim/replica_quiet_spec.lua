-- Replicas with nothing wrong: forming, serving, forwarding, reading.
local W = require 'spec.support.replicas'

describe('three quiet replicas', function()
  it('form one cluster, and serve', function()
    local w = W.formed()
    assert.equal(1, w:call(w:leader(), 'counter.add', 'a').value)
    w:equal()
    for i = 1, 2 do assert.equal(w:status(0).cluster_id, w:status(i).cluster_id) end
    for i = 0, 2 do assert.equal(2, w:status(i).formation) end
  end)

  it('do the same for the same seed', function()
    local function hash(seed)
      local w = W.formed { seed = seed }
      for i = 0, 2 do w:call(i, 'counter.add', 'a') end
      return tostring(W.C.replica_world_hash(w.world))
    end
    assert.equal(hash(3), hash(3))
    assert.not_equal(hash(3), hash(4))
  end)

  it('answer a command at any node', function()
    local w = W.formed()
    for i = 0, 2 do assert.equal(i + 1, w:call(i, 'counter.add', 'a').value) end
  end)

  it('answer a linearizable query at any node, with what was acknowledged before (bug 87)', function()
    local w = W.formed { delay_ms_max = 20 }
    for i = 0, 2 do
      w:call(i, 'counter.add', 'a')
      assert.equal(i + 1, w:query((i + 1) % 3, 'counter.value', 'a').value)
    end
  end)

  it('answer a stale query without asking anyone', function()
    local w = W.formed()
    w:call(0, 'counter.add', 'a')
    w:equal()
    for i = 0, 2 do w:isolate(i) end
    w:run(1000)
    for i = 0, 2 do
      local reply = w:wait(w:ask(i, { stale = true, query = true, timeout = 100 }, 'counter.value', 'a'))
      assert.equal(1, reply.value)
    end
  end)

  it('give every command of one turn its own answer', function()
    local w = W.formed()
    local leader, asked, seen = w:leader(), {}, {}
    for i = 1, 500 do asked[i] = w:ask(i % 2 == 0 and leader or (leader + 1) % 3, {}, 'counter.add', 'a') end
    for i = 1, 500 do
      local reply = w:wait(asked[i])
      assert.is_nil(seen[reply.value])
      seen[reply.value] = true
    end
    assert.equal(500, w:query(0, 'counter.value', 'a').value)
  end)

  it('refuse what there is not, and go on alike (bug 110)', function()
    local w = W.formed()
    for i = 0, 2 do
      local reply = w:call(i, 'counter.none')
      assert.same({ 'UNKNOWN_COMMAND', true }, { reply.code, reply.definite })
    end
    assert.equal(1, w:call(0, 'counter.add', 'a').value)
    w:equal()
  end)

  it('say that a command must be called, where a query was asked for', function()
    local w = W.formed()
    for i = 0, 2 do
      local reply = w:query(i, 'counter.add', 'a')
      assert.equal('BAD_REQUEST', reply.code)
      assert.truthy(reply.message:find('call'))
    end
  end)

  it('refuse arguments beyond 1 MiB', function()
    local w = W.formed()
    local reply = w:call(0, 'counter.add', ('x'):rep(1024 * 1024 + 5000))
    assert.same({ 'TOO_LARGE', true }, { reply.code, reply.definite })
  end)

  it('name the leader to a client that wants no forwarding', function()
    local w = W.formed()
    local leader = w:leader()
    local reply = w:wait(w:ask((leader + 1) % 3, { forward = false }, 'counter.add', 'a'))
    assert.same({ 'NOT_LEADER', true, leader + 1, 'h:730' .. leader },
      { reply.code, reply.definite, reply.data.leader, reply.data.address })
  end)

  it('make a batch at any node one entry', function()
    local w = W.formed()
    local machine = require 'spec.support.machine'
    local core = require 'spec.support.core'
    for i = 0, 2 do
      local list = machine.pack { { 'counter.add', { 'a' } }, { 'counter.add', { 'b' } } }
      local before = w:status(w:leader()).last
      local number = W.C.replica_world_request(w.world, i, core.slice('tidelock.batch'), core.slice(list), 2000, i == 1,
        true, false)
      assert.same({ i + 1, i + 1 }, w:wait(number).value)
      assert.equal(tonumber(before) + 1, tonumber(w:status(w:leader()).last))
    end
  end)
end)

describe('one replica', function()
  it('forms and serves alone', function()
    local w = W.formed { nodes = 1 }
    assert.equal(1, w:call(0, 'counter.add', 'a').value)
    assert.equal(1, w:query(0, 'counter.value', 'a').value)
  end)
end)

describe('two modules', function()
  it('are both there before anything is served', function()
    local w = W.formed { bundles = W.bundles { counter = W.counter, other = W.counter:gsub("'counter'", "'other'") } }
    assert.equal(1, w:call(0, 'counter.add', 'a').value)
    assert.equal(1, w:call(1, 'other.add', 'a').value)
  end)
end)
