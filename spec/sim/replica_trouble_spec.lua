-- One trouble at a time, and what each request is told (CONTRACT.md §4, §5).
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

local function told(reply) return { reply.code, reply.definite } end

local function others(w, node)
  local list = {}
  for i = 0, w.nodes - 1 do if i ~= node then list[#list + 1] = i end end
  return list
end

describe('without a leader', function()
  it('a command waits for one, within its time', function()
    local w = W.formed()
    local leader = w:leader()
    w:crash(leader)
    w:run(20) -- the links are known to be gone
    assert.equal(1, w:call(others(w, leader)[1], 'counter.add', 'a').value)
  end)

  it('a command that found none is certainly not done', function()
    local w = W.formed()
    w:crash(1)
    w:crash(2)
    w:run(1000)
    local number = w:ask(0, { timeout = 300 }, 'counter.add', 'a')
    local began = tonumber(w.C.replica_world_now(w.world))
    local reply = w:wait(number)
    assert.same({ 'NO_LEADER', true }, told(reply))
    assert.is_true(reply.at - began <= 400)
  end)

  it('a query that found none is definite too', function()
    local w = W.formed()
    w:crash(1)
    w:crash(2)
    w:run(1000)
    local reply = w:wait(w:ask(0, { timeout = 300, query = true }, 'counter.value', 'a'))
    assert.is_true(reply.definite)
  end)
end)

describe('a command in the log', function()
  it('whose leader is alone is unknown at its deadline (bug 94)', function()
    local w = W.formed()
    local leader = w:leader()
    w:isolate(leader)
    assert.same({ 'TIMEOUT', false }, told(w:wait(w:ask(leader, { timeout = 100 }, 'counter.add', 'a'))))
  end)

  it('that another entry replaced is certainly not done (bug 94)', function()
    local w = W.formed()
    local old = w:leader()
    w:isolate(old)
    w:run(20)
    local number = w:ask(old, { timeout = 9000 }, 'counter.add', 'a')
    w:until_true('another leads', function() return w:leader() ~= old and w:leader() ~= W.NOBODY end)
    w:call(w:leader(), 'counter.add', 'b')
    w:isolate(old, false)
    assert.same({ 'NO_LEADER', true }, told(w:wait(number)))
    assert.equal(0, w:query(old, 'counter.value', 'a').value)
  end)

  it('that survives a change of leader gets its real answer', function()
    local w = W.formed()
    local leader = w:leader()
    local to = others(w, leader)
    local number = w:ask(leader, { timeout = 9000 }, 'counter.add', 'a')
    w:run(4) -- the frames are out
    w:isolate(leader)
    w:until_true('another leads', function() return w:leader() == to[1] or w:leader() == to[2] end)
    w:isolate(leader, false)
    local reply, value = w:wait(number), w:query(to[1], 'counter.value', 'a').value
    assert.equal(value, reply.ok and reply.value or 0)
    assert.is_true(reply.ok or reply.definite)
  end)

  it('forwarded over a link that broke is unknown (bug 94)', function()
    local w = W.formed { delay_ms_max = 30 }
    local leader = w:leader()
    local from = others(w, leader)[1]
    local number = w:ask(from, { timeout = 5000 }, 'counter.add', 'a')
    w.C.replica_world_break(w.world, from, leader)
    assert.same({ 'LOST', false }, told(w:wait(number)))
  end)
end)

describe('a query forwarded over a link that broke', function()
  it('is asked anew', function()
    local w = W.formed { delay_ms_max = 30 }
    local leader = w:leader()
    local from = others(w, leader)[1]
    local number = w:ask(from, { timeout = 5000, query = true }, 'counter.value', 'a')
    w.C.replica_world_break(w.world, from, leader)
    assert.equal(0, w:wait(number).value)
  end)
end)

describe('a follower that restarts', function()
  it('is not told the answer to what its former life asked', function()
    for seed = 1, 10 do
      local w = W.formed { seed = seed, delay_ms_max = 2 }
      local leader = w:leader()
      local from = others(w, leader)[1]
      w:isolate(others(w, leader)[2])
      w.C.replica_world_hang(w.world, leader, 100)
      w:ask(from, { timeout = 4000 }, 'counter.add', 'a', 1000)
      w:run(5)
      w:crash(from)
      w:start(from)
      local number = w:ask(from, { timeout = 4000 }, 'counter.add', 'b')
      local reply = w:wait(number)
      if reply.ok then assert.equal(1, reply.value) end
    end
  end)
end)

describe('a disk that hangs', function()
  it('makes the leader step down, and the others go on (bug 19)', function()
    local w = W.formed()
    local leader = w:leader()
    w.C.replica_world_hang(w.world, leader, 5000)
    w:ask(leader, { timeout = 100 }, 'counter.add', 'a')
    w:until_true('another leads', function() return w:leader() ~= leader and w:leader() ~= W.NOBODY end, 3000)
    assert.is_true(w:call(w:leader(), 'counter.add', 'b').ok)
  end)

  it('does not stop a command: a majority of other disks is enough', function()
    local w = W.formed()
    w.C.replica_world_hang(w.world, others(w, w:leader())[1], 5000)
    assert.is_true(w:call(w:leader(), 'counter.add', 'a').ok)
  end)
end)

describe('disks on which two syncs take longer than an election time-out', function()
  -- Three nodes that were killed together, with other work on their disk: candidates ended each other's elections for 20 s and more.
  it('have a leader all the same: candidates get patient', function()
    for seed = 1, 20 do
      local w = W.formed { seed = seed }
      for node = 0, 2 do
        w:crash(node)
        w.C.replica_world_slow(w.world, node, 260, 1)
      end
      w:start_all()
      w:until_true('a node leads', function() return w:leader() ~= W.NOBODY end, 6000)
    end
  end)
end)

describe('a disk that is full', function()
  it('ends its node with one sentence; with space again it has all that it acknowledged, and takes more (bug 101)', function()
    local w = W.formed()
    local disks = {}
    for i = 0, 2 do
      disks[i] = w.C.replica_world_disk(w.world, i)
      w.C.sim_disk_full(disks[i], true)
    end
    local done, text = 0, ('x'):rep(500000)
    for _ = 1, 60 do
      if w:wait(w:ask(w:leader() == W.NOBODY and 0 or w:leader(), { timeout = 300 }, 'counter.note', text)).ok then done = done + 1 end
    end
    local down = 0
    for i = 0, 2 do
      if not w:status(i).up then
        down = down + 1
        assert.truthy(w:fatal(i):find('no space left', 1, true), w:fatal(i))
      end
    end
    assert.is_true(down >= 2, down .. ' are down')
    for i = 0, 2 do w.C.sim_disk_full(disks[i], false) end
    w:start_all()
    w:ready()
    local value = w:query(0, 'counter.value', 'notes').value
    assert.is_true(value >= done and value <= 60, value .. ', acknowledged ' .. done)
    assert.equal(value + 1, w:call(1, 'counter.note', text).value)
    w:equal()
  end)
end)

describe('a disk that fails', function()
  it('ends its node with one sentence, and the others go on (bug 100)', function()
    local w = W.formed()
    local leader = w:leader()
    w.C.replica_world_fail_disk(w.world, leader, 0)
    w:ask(leader, { timeout = 100 }, 'counter.add', 'a')
    w:run(50)
    assert.is_false(w:status(leader).up)
    assert.equal(1, w:status(leader).fatal_code)
    assert.truthy(w:fatal(leader):find('^the log failed: '))
    assert.is_true(w:call(others(w, leader)[1], 'counter.add', 'b').ok)
  end)
end)

describe('a damaged entry', function()
  it('that a lagging follower needs ends the node that holds it, by name, and the others go on (bug 40)', function()
    local named, random = {}, core.random(2)
    for seed = 1, 100 do
      local w = W.formed { seed = seed, cache_bytes = 256 }
      local leader = w:leader()
      local behind = others(w, leader)[1]
      w:isolate(behind)
      for i = 1, 40 do w:ask(leader, {}, 'counter.add', 'a', i) if i % 4 == 0 then w:run(20) end end
      w:run(100)
      assert.equal(820, w:query(leader, 'counter.value', 'a').value)
      w.C.sim_disk_flip(w.C.replica_world_disk(w.world, leader), random(2 ^ 50))
      w:isolate(behind, false)
      w:equal()
      local text = w:fatal(leader)
      local what = not w:status(leader).up and text:match('file log%-%x+, offset %d+: (.-) is damaged')
      if what then named[what:match('%a+ ?%a*')] = true end
      w:ready()
      assert.equal(820, w:query(behind, 'counter.value', 'a').value)
    end
    assert.same({ ['entry '] = true, ['the frame'] = true }, named)
  end)
end)

describe('a node that was down', function()
  it('catches up from what is no longer in memory', function()
    local w = W.formed()
    local leader = w:leader()
    local behind = others(w, leader)[1]
    w:crash(behind)
    for i = 1, 300 do w:ask(leader, {}, 'counter.add', 'a', i) end
    w:run(500)
    for i = 0, 2 do w:crash(i) end
    w:start_all()
    w:ready()
    w:equal()
    assert.equal(45150, w:query(behind, 'counter.value', 'a').value)
  end)

  it('catches up over entries of very many terms', function()
    local w = W.formed { election_ms = 40, heartbeat_ms = 8 }
    w:crash(2)
    for _ = 1, 320 do
      local leader = w:leader()
      if leader ~= W.NOBODY then
        w:crash(leader)
        w:start(leader)
      end
      w:until_true('one leads', function() return w:leader() ~= W.NOBODY end)
      w:run(8)
    end
    assert.is_true(w:status(w:leader()).term > 300)
    w:start(2)
    w:equal(4000)
  end)
end)

describe('a node that dies while it applies', function()
  it('applies every entry once when it is back (bug 82)', function()
    local w, random, done, most = W.formed { apply_ms_max = 15 }, core.random(6), 0, 0
    for _ = 1, 60 do
      local asked = {}
      for i = 1, 5 do asked[i] = w:ask(random(0, 2), { timeout = 5000 }, 'counter.add', 'a') end
      w:run(random(40))
      local node = random(0, 2)
      w:crash(node)
      w:start(node)
      for _, number in ipairs(asked) do
        local reply = w:wait(number)
        done = done + (reply.ok and 1 or 0)
        most = most + ((reply.ok or reply.died or not reply.definite) and 1 or 0)
      end
    end
    w:ready()
    w:equal()
    assert.is_true(done > 60)
    for i = 0, 2 do
      local value = w:wait(w:ask(i, { stale = true, query = true }, 'counter.value', 'a')).value
      assert.is_true(value >= done and value <= most, ('%d, acknowledged %d, possible %d'):format(value, done, most))
    end
  end)
end)

describe('a slow script', function()
  it('holds up no heartbeat: the leader leads on, and commits (S18)', function()
    local w = W.formed()
    local leader = w:leader()
    local before = w:status(leader)
    w.C.replica_world_slow(w.world, leader, 2, 20000)
    local number = w:ask(leader, { timeout = 30000 }, 'counter.add', 'a')
    w:run(3000) -- nothing but heartbeats
    assert.same({ leader, before.term }, { w:leader(), w:status(leader).term })
    for _ = 1, 40 do
      w:ask((leader + 1) % 3, { timeout = 30000 }, 'counter.add', 'b')
      w:run(50)
    end
    local now = w:status(leader)
    assert.same({ leader, before.term }, { w:leader(), now.term })
    assert.is_true(now.commit >= before.commit + 41)
    assert.is_true(now.applied < now.commit)
    assert.equal(1, w:wait(number, 30000).value)
  end)
end)

describe('wall clocks that jump', function()
  it('move no election (bug 90)', function()
    local w = W.formed()
    local leader, term = w:leader(), w:status(w:leader()).term
    for i = 1, 60 do
      w.C.replica_world_skew(w.world, i % 3, (i % 5 - 2) * 3600000)
      w:run(50)
      assert.same({ leader, term }, { w:leader(), w:status(leader).term })
    end
  end)
end)

describe('an ending node', function()
  it('answers what it has, and stops', function()
    local w = W.formed()
    local leader = w:leader()
    local number = w:ask(leader, {}, 'counter.add', 'a')
    w.C.replica_world_stop(w.world, leader)
    assert.equal(1, w:wait(number).value)
    w:until_true('it is down', function() return not w:status(leader).up end, 1000)
  end)

  it('takes nothing new', function()
    local w = W.formed { write_ms_max = 50 }
    local leader = w:leader()
    w:ask(leader, {}, 'counter.add', 'a')
    w.C.replica_world_stop(w.world, leader)
    assert.same({ 'NO_LEADER', true }, told(w:call(leader, 'counter.add', 'a')))
  end)
end)

describe('a machine that parks', function()
  local function parked()
    local w = W.formed()
    w:call(0, 'counter.add', 'a', 7)
    local number = w:ask(w:leader(), { timeout = 3000 }, 'counter.burst')
    return w, w:wait(number)
  end

  it('leaves the command that did it unknown', function()
    local _, reply = parked()
    assert.same({ 'LOST', false }, told(reply))
  end)

  it('parks every node at the same index, and none of them dies (bug 108)', function()
    local w, reply = parked()
    w:run(3000)
    for i = 0, 2 do
      assert.is_true(w:status(i).up)
      assert.is_true(w:status(i).parked_at > 0)
      assert.equal(w:status(0).parked_at, w:status(i).parked_at)
    end
    assert.is_false(reply.ok)
  end)

  it('answers PARKED from then on, commands and queries, at each node', function()
    local w = parked()
    w:run(3000)
    for i = 0, 2 do
      assert.same({ 'PARKED', true }, told(w:call(i, 'counter.add', 'a')))
      assert.same({ 'PARKED', true }, told(w:query(i, 'counter.value', 'a')))
      assert.same({ 'PARKED', true }, told(w:wait(w:ask(i, { stale = true, query = true }, 'counter.value', 'a'))))
    end
  end)
end)

describe('cluster time', function()
  local function now(w) return w:query(w:leader(), 'counter.now').value end

  it('never goes back, whatever a clock does (bug 90)', function()
    local w, last = W.formed(), 0
    for i = 1, 30 do
      w.C.replica_world_skew(w.world, i % 3, i % 2 == 0 and -3600000 or 7200000)
      w:call(w:leader(), 'counter.add', 'a')
      local at = now(w)
      assert.is_true(at >= last)
      last = at
      if i % 7 == 0 then
        w:crash(w:leader())
        w:run(800)
        w:start_all()
        w:ready()
      end
    end
  end)

  it('does not follow one wild clock', function()
    local w = W.formed()
    w:run(500)
    local before, at = now(w), tonumber(w.C.replica_world_now(w.world))
    w.C.replica_world_skew(w.world, w:leader(), 86400000)
    w:run(1000)
    local passed = tonumber(w.C.replica_world_now(w.world)) - at
    assert.is_true(now(w) - before <= passed * 1.1 + 100)
  end)

  it('goes on from the last entry after a restart with all clocks set back', function()
    local w = W.formed()
    w:call(0, 'counter.add', 'a')
    local before = now(w)
    for i = 0, 2 do
      w:crash(i)
      w.C.replica_world_skew(w.world, i, -3600000)
    end
    w:start_all()
    w:ready()
    w:call(0, 'counter.add', 'a')
    assert.is_true(now(w) > before)
    assert.is_true(now(w) < before + 10000)
  end)
end)

describe('bytes on the port', function()
  it('that are no link close it', function()
    local w = W.formed()
    local connection = w:say(0, 'GET / HTTP/1.1\r\n\r\n')
    w:run(50)
    local _, open = w:heard(connection)
    assert.is_false(open)
  end)

  it('do no harm, 300 seeds of garbage and of broken frames (bug 49)', function()
    local w = W.formed()
    local hello = '\193' .. W.frame(function(message)
      message.type = W.C.MESSAGE_HELLO
      message.hello.protocol_min, message.hello.protocol_max = 1, 1
      message.hello.cluster_id = w:status(0).cluster_id
      message.hello.from, message.hello.to, message.hello.incarnation = 2, 1, w:status(1).incarnation
      message.hello.formation = 2
    end)
    for seed = 1, 300 do
      local random = core.random(seed)
      local bytes = {}
      for i = 1, random(200) do bytes[i] = string.char(random(256) - 1) end
      local garbage = table.concat(bytes)
      local broken = hello
      local at = random(#hello)
      broken = broken:sub(1, at - 1) .. string.char(random(256) - 1) .. broken:sub(at + 1)
      w:say(0, ({ '\193' .. garbage, hello .. garbage, broken, hello:sub(1, at) })[random(4)])
      w:run(3)
    end
    w:run(1000)
    assert.is_true(w:call(0, 'counter.add', 'a').ok)
    w:equal()
  end)

  it('from a member in the name of another are refused', function()
    local w = W.formed()
    local function frame(from)
      return W.frame(function(message)
        message.type = W.C.MESSAGE_RAFT
        message.raft.type = W.C.RAFT_REQUEST_VOTE
        message.raft.from, message.raft.to, message.raft.term = from, 1, 1000
      end)
    end
    local connection = w:say(0, '\193' .. W.frame(function(message)
      message.type = W.C.MESSAGE_HELLO
      message.hello.protocol_min, message.hello.protocol_max = 1, 1
      message.hello.cluster_id = w:status(0).cluster_id
      message.hello.from, message.hello.to, message.hello.incarnation = 2, 1, w:status(1).incarnation
      message.hello.formation = 2
    end) .. frame(3))
    w:run(50)
    local _, open = w:heard(connection)
    assert.is_false(open)
    assert.is_true(w:status(0).term < 1000)
  end)

  it('with entries that do not follow the chain here are refused, and nothing is cut', function()
    local w = W.formed()
    w:call(0, 'counter.add', 'a')
    w:equal()
    local leader = w:leader()
    local node = others(w, leader)[1]
    local before = w:status(node)
    local record, entry = core.buffer(), core.ffi.new('struct entry[1]')
    entry[0].index, entry[0].term, entry[0].kind = before.last, before.term, W.C.ENTRY_NOOP
    W.C.entry_encode(record, entry, 12345)
    local connection = w:say(node, '\193' .. W.frame(function(message)
      message.type = W.C.MESSAGE_HELLO
      message.hello.protocol_min, message.hello.protocol_max = 1, 1
      message.hello.cluster_id, message.hello.formation = before.cluster_id, 2
      message.hello.from, message.hello.to = leader + 1, node + 1
      message.hello.incarnation = w:status(leader).incarnation
    end) .. W.frame(function(message)
      message.type = W.C.MESSAGE_RAFT
      message.raft.type = W.C.RAFT_APPEND_ENTRIES
      message.raft.from, message.raft.to, message.raft.term = leader + 1, node + 1, before.term
      message.raft.append_entries.prev_log_index = before.last - 1
      message.raft.append_entries.prev_log_term = before.term
      message.raft.append_entries.last_index = before.last
    end, core.buffer_text(record)))
    w:run(50)
    local _, open = w:heard(connection)
    assert.is_false(open)
    assert.equal(before.last, w:status(node).last)
    assert.is_true(w:call(node, 'counter.add', 'a').ok)
    w:equal()
  end)
end)

describe('a disk that was set back to an older copy', function()
  -- It has acknowledged what it no longer holds: it would help to elect a leader without that.
  it('ends its node with a sentence, and the others go on (bug 67)', function()
    local w = W.formed()
    local leader = w:leader()
    local node = (leader + 1) % 3
    w:crash(node)
    local older = W.new { seed = 7 }
    w.C.sim_disk_copy(w.C.replica_world_disk(older.world, 0), w.C.replica_world_disk(w.world, node))
    w:start(node)
    for i = 1, 5 do assert.equal(i, w:call(leader, 'counter.add', 'a').value) end
    w:equal()
    w:crash(node)
    assert.equal(leader, w:leader())
    w.C.replica_world_damaged(w.world, node)
    w.C.sim_disk_copy(w.C.replica_world_disk(w.world, node), w.C.replica_world_disk(older.world, 0))
    w:start(node)
    w:run(1000)
    assert.is_false(w:status(node).up)
    assert.equal(78, w:status(node).fatal_code)
    assert.truthy(w:fatal(node):find('its data directory is an older copy; put the newer one back', 1, true), w:fatal(node))
    assert.equal(6, w:call(leader, 'counter.add', 'a').value)
  end)

  -- A crash alone never looks like that, whatever is on its way and however often links break.
  it('is not seen where a node merely crashed', function()
    local w = W.formed { seed = 5, delay_ms_max = 30, write_ms_max = 20 }
    for round = 1, 40 do
      local node = round % 3
      w:ask(node, {}, 'counter.add', 'a')
      w:run(round * 7 % 50)
      w:crash(node)
      w:run(round * 3 % 20)
      w:start(node)
      w:run(300)
      for i = 0, 2 do assert.is_true(w:status(i).up, w:fatal(i)) end
    end
  end)
end)

describe('a leader that must read what it sends from its disk', function()
  -- It wanted to send its first entries, which neither its memory nor yet its disk had; then it heard that the follower lacks
  -- older ones. What it wanted first must not stand in the way of what it wants now.
  it('catches its follower up, whatever it wanted before', function()
    for seed = 1, 5 do
      local w = W.formed { nodes = 2, cache_bytes = 256, seed = seed }
      local node = w:leader()
      w:cut(0, 1)
      w:cut(1, 0)
      w:run(20)
      for _ = 1, 3 do w:ask(node, { timeout = 300 }, 'counter.add', 'a') end
      w:until_true('nobody leads', function() return w:leader() == W.NOBODY end)
      w.C.replica_world_slow(w.world, node, 60, 1)
      for i = 1, 4 do w:ask(node, { timeout = 6000 }, 'counter.add', ('%d'):format(i):rep(900)) end
      local before = w:status(node).last
      w:cut(0, 1, false)
      w:cut(1, 0, false)
      w:until_true('new entries are committed', function() return w:status(node).commit > before end)
    end
  end)
end)

describe('a paused node', function()
  -- A write that was to be done when the pause begins, and known when it ends.
  it('does later what it had to do, in the same order', function()
    local w = W.formed { nodes = 1, write_ms_max = 4, seed = 3 }
    for i = 1, 400 do
      local request = w:ask(0, {}, 'counter.add', 'a')
      w.C.replica_world_pause(w.world, 0, i % 9)
      assert.is_true(w:wait(request).ok)
    end
  end)

  -- History: a second, shorter pause brought the end of the first forward, but not what had been put off to that end.
  it('does so after two pauses, the second of which would end first', function()
    local w, random = W.formed { nodes = 1, write_ms_max = 8 }, core.random(3)
    for i = 1, 400 do
      local number = w:ask(0, {}, 'counter.add', 'a')
      w:run(random(0, 4))
      w.C.replica_world_pause(w.world, 0, random(12))
      assert.equal(i, w:wait(number).value)
    end
  end)
end)
