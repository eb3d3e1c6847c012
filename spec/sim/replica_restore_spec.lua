-- A cluster that begins with a restored snapshot (replica/restore.h): formed in any order, with a crash at any step; its state
-- goes on; and directories that do not belong together find out.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local R = require 'spec.support.restored'
local W = require 'spec.support.replicas'

local STEP = 50 -- a real one is 2^32; the world's witness counts every entry

-- The state of an older cluster.
local function old(adds, name)
  local m = machine.new { counter = W.counter }
  for i = 1, adds or 7 do m:call('counter.add', name or 'old', i) end
  return m
end

local function restore(w, m, nodes)
  local index
  for _, node in ipairs(nodes or { 0, 1, 2 }) do index = R.near(m, w.C.replica_world_disk(w.world, node), STEP) end
  return index
end

describe('a restored cluster', function()
  it('waits for every listed node, and goes on where the old one was', function()
    local w, m = W.new(), old()
    local index = restore(w, m)
    w:start(0)
    w:start(1)
    w:run(5000)
    assert.is_false(w:status(0).raft)
    w:start(2)
    w:ready()
    assert.equal(28, w:query(0, 'counter.value', 'old').value)
    local reply = w:call(1, 'counter.add', 'old', 2)
    assert.equal(30, reply.value)
    assert.is_true(reply.index > index + 1)
    w:equal()
    assert.is_true(w:query(2, 'counter.now').value >= 1700000000000)
  end)

  it('lets a node join: it gets a snapshot that says who the members are', function()
    local w = W.new { nodes = 4, founders = 3 }
    restore(w, old())
    w:start_all()
    w:ready()
    assert.same({ invited = 4 }, w:change(0, { { op = 'add', id = 4, address = 'h:7303' } }).value)
    w:until_true('it is let in', function() return w:status(3).up or w:join(3, 1).ok end)
    w:until_members(0, { 'voter', 'voter', 'voter', 'learner' })
    w:equal()
    assert.equal(28, w:query(3, 'counter.value', 'old').value)
    w:crash(3)
    w:start(3)
    w:call(0, 'counter.add', 'old', 1)
    w:equal()
  end)

  it('of one node is formed alone', function()
    local w = W.new { nodes = 1 }
    restore(w, old(), { 0 })
    w:start(0)
    w:ready()
    assert.equal(28, w:query(0, 'counter.value', 'old').value)
    w:crash(0)
    w:start(0)
    w:ready()
    assert.equal(28, w:query(0, 'counter.value', 'old').value)
  end)

  it('ends alike when nodes crash and come back while it forms, in any order (40 seeds)', function()
    for seed = 1, 40 do
      local random = core.random(seed)
      local w, m = W.new { seed = seed, delay_ms_max = random(30), write_ms_max = random(30) }, old(seed % 9)
      restore(w, m)
      for _ = 1, 40 do
        local at = random(3) - 1
        if not w:status(at).up then w:start(at) elseif random(2) == 1 then w:crash(at) end
        w:run(random(60))
      end
      w:start_all()
      w:ready()
      w:equal()
      assert.equal((seed % 9) * (seed % 9 + 1) / 2, w:query(seed % 3, 'counter.value', 'old').value)
      assert.equal(w:status(0).cluster_id, w:status(1).cluster_id)
      assert.equal(w:status(0).cluster_id, w:status(2).cluster_id)
    end
  end)

  it('survives a disk that dies at any of its first 60 steps', function()
    for steps = 0, 60 do
      local w, m = W.new { seed = 7 + steps }, old()
      restore(w, m)
      w.C.replica_world_fail_disk(w.world, 1, steps)
      w:start_all()
      w:run(1500)
      w:crash(1)
      w.C.replica_world_fail_disk(w.world, 1, 0xFFFFFFFFFFFFFFFFULL)
      w:start_all()
      w:ready()
      w:equal()
      assert.equal(28, w:query(1, 'counter.value', 'old').value)
    end
  end)

  it('takes snapshots of its own, gives the log back, and sends them to whoever was away', function()
    local w, m = W.new { snapshots = { entries = 60, keep = 5 }, write_ms_max = 1 }, old()
    local index = restore(w, m)
    w:start_all()
    w:ready()
    w:crash(2)
    for i = 1, 400 do w:call(i % 2, 'counter.add', 'new', 1) end
    assert.is_true(tonumber(w.C.replica_world_taken(w.world)) > 2)
    w:start(2)
    w:equal(60000)
    assert.is_true(tonumber(w.C.replica_world_installed(w.world)) > 0)
    assert.equal(400, w:query(2, 'counter.value', 'new').value)
    for node = 0, 2 do w:crash(node) end
    w:start_all()
    w:ready()
    w:equal()
    assert.equal(28, w:query(0, 'counter.value', 'old').value)
    assert.is_true(tonumber(w:status(0).commit) > index + 400)
  end)

  describe('refuses', function()
    local function stays_apart(prepare)
      local w = W.new()
      prepare(w)
      w:start_all()
      w:run(4000)
      for node = 0, 2 do assert.is_false(w:status(node).raft) end
    end

    it('to form with a node that was not restored', function()
      stays_apart(function(w) restore(w, old(), { 0, 1 }) end)
    end)

    -- What node 0, which waits for the others, says to a HELLO of node 2 whose directory was restored from `file`.
    local function says(restored, file)
      local w = W.new()
      if restored then restore(w, old(), { 0 }) end
      w:start(0)
      w:run(50)
      local mine = assert(R.identity(w.C.replica_world_disk(w.world, 0)))
      local connection = w:say(0, '\193' .. W.frame(function(message)
        message.type = W.C.MESSAGE_HELLO
        local hello = message.hello
        hello.protocol_min, hello.protocol_max, hello.from, hello.to, hello.incarnation = 1, 1, 2, 1, 99
        hello.line_hash, hello.code_hash, hello.fingerprint = mine.line_hash, mine.code_hash, 1
        hello.restored = file == 'same' and mine.restored or file
      end))
      w:run(50)
      local answer = W.decode((w:heard(connection)))
      return answer.type == W.C.MESSAGE_GOODBYE and core.text(answer.goodbye.text) or 'HELLO'
    end

    it('with a sentence, whoever was restored from another file, or not', function()
      assert.equal('HELLO', says(true, 'same'))
      assert.truthy(says(true, 77):find('^its directory was restored from another snapshot %(000000000000004d, here %x+%): restore'))
      assert.truthy(says(true, 0):find('^its directory was not restored, this node\'s was: restore every'))
      assert.truthy(says(false, 77):find('^its directory was restored, this node\'s was not: restore every'))
    end)

    it('a snapshot that is not the one that was restored', function()
      local w, other = W.new(), W.new()
      R.near(old(), other.C.replica_world_disk(other.world, 0), STEP)
      w:start(0)
      w:crash(0)
      w.C.replica_world_take_file(w.world, 0, other.world, 0, 'snapshot-000000000000003b')
      w:start(0)
      w:run(100)
      assert.truthy(w:fatal(0):find('are of different clusters', 1, true), w:fatal(0))
    end)
  end)
end)
