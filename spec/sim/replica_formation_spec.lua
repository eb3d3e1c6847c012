-- How a cluster comes to be (replica/formation.h): in any order, with a crash at any step; and who is kept out.
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

-- The sentence a node was refused with, seen from outside: a link with this HELLO.
local function greet(w, node, fill)
  local me = w:status(node)
  local connection = w:say(node, '\193' .. W.frame(function(message)
    message.type = W.C.MESSAGE_HELLO
    message.hello.protocol_min, message.hello.protocol_max = 1, 1
    message.hello.cluster_id, message.hello.set_hash = me.cluster_id, me.cluster_id
    message.hello.from, message.hello.to = (node + 1) % 3 + 1, node + 1
    message.hello.incarnation = w:status((node + 1) % 3).incarnation
    message.hello.formation = 2
    if fill then fill(message.hello) end
  end))
  w:run(50)
  local bytes, open = w:heard(connection)
  local answer = W.decode(bytes)
  if answer and answer.type == W.C.MESSAGE_GOODBYE then return core.text(answer.goodbye.text), open end
  return answer and 'HELLO' or nil, open
end

describe('formation', function()
  it('waits for every listed node', function()
    local w = W.new()
    w:start(0)
    w:start(1)
    w:run(5000)
    assert.is_false(w:status(0).raft)
    w:start(2)
    w:ready()
  end)

  it('ends alike when the nodes crash and come back, in any order (25 seeds)', function()
    for seed = 1, 25 do
      local random = core.random(seed)
      local w = W.new { seed = seed, delay_ms_max = random(30), write_ms_max = random(30) }
      for _ = 1, 40 do
        local at = random(3) - 1
        if w:status(at).up then
          if random(2) == 1 then w:crash(at) end
        else
          w:start(at)
        end
        w:run(random(60))
      end
      w:start_all()
      w:ready()
      w:equal()
      assert.equal(w:status(0).cluster_id, w:status(1).cluster_id)
      assert.equal(w:status(0).cluster_id, w:status(2).cluster_id)
    end
  end)

  it('survives a disk that dies at any of its first 80 steps (S8, bug 70)', function()
    for steps = 0, 80 do
      local w = W.new { seed = 7 + steps }
      w.C.replica_world_fail_disk(w.world, 1, steps)
      w:start_all()
      w:run(1000)
      if w:status(1).up then w:crash(1) end
      assert.is_true(w:start(1), w:fatal(1))
      w:ready()
      w:equal()
    end
  end)

  it('keeps its members and what was said when all crash together', function()
    local w = W.formed()
    local cluster = w:status(0).cluster_id
    w:call(1, 'counter.add', 'a', 5)
    for i = 0, 2 do w:crash(i) end
    w:start_all()
    w:ready()
    assert.equal(cluster, w:status(2).cluster_id)
    assert.equal(5, w:query(0, 'counter.value', 'a').value)
  end)

  it('does not begin among nodes with different --cluster lines', function()
    local w = W.new()
    w.C.replica_world_flags(w.world, 2, 3, '1=h:7300,2=h:7301,3=h:7302,4=h:7303', core.slice(w.packed))
    w:start_all()
    w:run(3000)
    for i = 0, 2 do assert.is_false(w:status(i).raft) end
  end)

  it('does not begin among nodes with different modules', function()
    local w = W.new()
    w.C.replica_world_flags(w.world, 2, 3, W.line(3), core.slice(W.bundles { other = W.counter }))
    w:start_all()
    w:run(3000)
    for i = 0, 2 do assert.is_false(w:status(i).raft) end
  end)

  it('takes a node that lost its disk before the set was pinned', function()
    local w = W.new()
    w:start(0)
    w:start(1)
    w:run(500)
    w:crash(1)
    w.C.replica_world_wipe(w.world, 1)
    w:run(50)
    w:start(1)
    w:start(2)
    w:ready()
    w:equal()
  end)

  it('refuses the directory of another node, and says so', function()
    local w = W.formed()
    w:crash(1)
    w:crash(0)
    w.C.replica_world_copy_disk(w.world, 0, 1)
    assert.is_false(w:start(1))
    assert.truthy(w:fatal(1):find('that of node 1', 1, true))
  end)
end)

describe('a formed cluster', function()
  it('does not let a wiped node vote or count (bugs 66, 67)', function()
    local w = W.formed()
    w:call(0, 'counter.add', 'a')
    w:crash(2)
    w.C.replica_world_wipe(w.world, 2)
    w:start(2)
    w:run(1000)
    local survivor = w:leader() == 0 and 1 or 0
    w:crash(survivor)
    w:run(3000)
    assert.equal(W.NOBODY, w:leader())
    w:start(survivor)
    w:ready()
    assert.equal(1, w:query(0, 'counter.value', 'a').value)
  end)

  it('greets a member whose HELLO is right', function()
    assert.equal('HELLO', (greet(W.formed(), 0)))
  end)

  for what, case in pairs {
    ['another incarnation'] = { function(h) h.incarnation = 77 end, 'not the one this id was formed with' },
    ['no incarnation'] = { function(h) h.incarnation = 0 end, 'no incarnation' },
    ['another cluster (bug 50)'] = { function(h) h.cluster_id = 99 end, 'another cluster' },
    ['an id that is no member'] = { function(h) h.from = 9 end, 'no such member' },
    ['its own id'] = { function(h) h.from = 1 end, 'own id' },
    ['the address of another node'] = { function(h) h.to = 3 end, "another node's" },
    ['a protocol of the future'] = { function(h) h.protocol_min, h.protocol_max = 7, 9 end, 'protocol' },
  } do
    it('says goodbye to ' .. what, function()
      local sentence, open = greet(W.formed(), 0, case[1])
      assert.truthy(sentence:find(case[2], 1, true), sentence)
      assert.is_false(open)
    end)
  end

  it('refuses a log that is not of its own set', function()
    local w, other = W.formed { nodes = 1, seed = 1 }, W.formed { nodes = 1, seed = 2 }
    w:crash(0)
    other:crash(0)
    W.C.replica_world_take_file(w.world, 0, other.world, 0, 'identity')
    assert.is_false(w:start(0))
    assert.truthy(w:fatal(0):find('different clusters', 1, true))
    assert.equal(78, w:status(0).fatal_code)
  end)
end)
