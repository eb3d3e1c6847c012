-- Snapshots on replicas (§7): taken, agreed on, the log cut behind them, sent, installed, gone on with after every break.
-- Numbers are those of the list in spec/README.md.
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

local NONE = { bytes = 0, entries = 0, every_ms = 0, keep = 0, chunk_bytes = 0, rate = 0 }

local function options(more)
  local o = { snapshot_ms_max = 20, segment_bytes = 64 * 1024, snapshots = {} }
  for k, v in pairs(NONE) do o.snapshots[k] = v end
  for k, v in pairs(more or {}) do
    if k == 'snapshots' then for name, value in pairs(v) do o.snapshots[name] = value end else o[k] = v end
  end
  return o
end

-- Commands, one after another, with values of some size.
local function fill(w, count, node, size)
  for i = 1, count do
    local reply = w:call(node or 0, 'store.put', 'k' .. i % 50, ('v'):rep(size or 100) .. i)
    assert(reply.ok, reply.message)
  end
end

local function take(w, node)
  local reply = w:snapshot(node)
  assert.is_true(reply.ok, reply.message)
  return reply.value
end

local store = [[
return { name = 'store', version = 1, state = { rows = 'map' },
  commands = { put = function(ctx, k, v) ctx.db.rows:put(k, v) return ctx.db.rows:len() end },
  queries = { get = function(ctx, k) return ctx.db.rows:get(k) end, value = function() return 0 end } }]]

local function world(more)
  local o = options(more)
  o.bundles = W.bundles { store = store, counter = W.counter }
  return W.formed(o)
end

describe('a snapshot by hand', function()
  it('counts when a majority has its digest, and holds what was applied', function()
    local w = world()
    fill(w, 20, w:leader())
    local before = tonumber(w:status(w:leader()).applied)
    local reply = w:snapshot(w:leader())
    assert.is_true(reply.ok, reply.message)
    assert.is_true(reply.value.index >= before)
    assert.equal(1, tonumber(w:status(w:leader()).taken))
    assert.equal(reply.value.index, tonumber(w:status(w:leader()).snapshot))
  end)

  it('of a cluster of one counts by itself', function()
    local w = world { nodes = 1 }
    fill(w, 5)
    take(w, 0)
  end)

  it('of a follower is agreed on by the leader', function()
    local w = world()
    fill(w, 20, w:leader())
    local follower = (w:leader() + 1) % 3
    local reply = w:snapshot(follower)
    assert.is_true(reply.ok, reply.message)
  end)

  it('of a follower that lags has what was acknowledged before it was asked for', function()
    local w = world { apply_ms_max = 40 }
    local follower = (w:leader() + 1) % 3
    for i = 1, 10 do
      local reply = w:call(w:leader(), 'store.put', 'k', i)
      assert.is_true(take(w, follower).index >= tonumber(reply.index))
    end
  end)

  it('does not count without a majority', function()
    local w = world { snapshots = { every_ms = 5000 } }
    fill(w, 5, w:leader())
    local leader = w:leader()
    w:isolate(leader)
    local reply = w:snapshot(leader, 12000) -- nor is one begun: others may know more by now
    assert.is_false(reply.ok)
    assert.equal(0, tonumber(w:status(leader).snapshot)) -- its own time for one has come
    w:isolate(leader, false)
    w:until_true('it counts after all', function() return w:status(leader).snapshot > 0 end)
  end)

  it('cuts the log, and a restart begins from it', function()
    local w = world { snapshots = { keep = 5 } }
    fill(w, 40, w:leader())
    w:equal()
    for i = 0, 2 do take(w, i) end
    w:run(500)
    for i = 0, 2 do
      local s = w:status(i)
      assert.equal(tonumber(s.snapshot) - 5, tonumber(s.base))
    end
    for i = 0, 2 do w:crash(i) end
    w:start_all()
    w:ready()
    w:equal()
    assert.equal('v', w:query(0, 'store.get', 'k7').value:sub(1, 1))
  end)
end)

describe('a digest', function()
  -- As the leader would say it on a link of its own: a heartbeat that tells what was agreed on at `index`.
  local function tell(w, node, leader, index)
    local s = w:status(node)
    w:say(node, '\193' .. W.frame(function(message)
      message.type = w.C.MESSAGE_HELLO
      message.hello.protocol_min, message.hello.protocol_max = 1, 1
      message.hello.cluster_id, message.hello.set_hash, message.hello.formation = s.cluster_id, s.cluster_id, 2
      message.hello.from, message.hello.to = leader + 1, node + 1
      message.hello.incarnation = w:status(leader).incarnation
    end) .. W.frame(function(message)
      message.type = w.C.MESSAGE_RAFT
      message.raft.type, message.raft.from, message.raft.to = w.C.RAFT_APPEND_ENTRIES, leader + 1, node + 1
      message.raft.term = s.term
      message.digests.index = index
      message.digests.digest.lo, message.digests.digest.hi = 1, 2
    end))
  end

  it('that is not the majority\'s is noticed', function()
    local w = world()
    fill(w, 10, w:leader())
    w:equal()
    w:run(1000)
    local leader = w:leader()
    local follower = (leader + 1) % 3
    local agreed = w:status(follower).agreed
    assert.equal(w:status(follower).applied, agreed)
    assert.is_false(w:status(follower).differs)
    tell(w, follower, leader, agreed)
    w:until_true('it is noticed', function() return w:status(follower).differs end, 200)
    w:until_true('it parks', function() return w:status(follower).parked end, 10)
  end)

  it('that is not the majority\'s makes a snapshot worth nothing', function()
    local w = world()
    fill(w, 10, w:leader())
    w:equal()
    local leader = w:leader()
    local follower = (leader + 1) % 3
    local number = w.C.replica_world_snapshot(w.world, follower, 5000)
    w:run(12)
    assert.equal(0, tonumber(w:status(follower).snapshot))
    w:isolate(follower)
    w:run(100)
    tell(w, follower, leader, w:status(follower).applied)
    local reply = w:wait(number)
    assert.equal('BUSY', reply.code)
    assert.equal(0, tonumber(w:status(follower).snapshot))
    assert.equal(1, tonumber(w:status(follower).failed))
  end)
end)

-- A leader whose log was cut, and a node that is down and lacks what was; its snapshot is of some 60 KB.
local function behind(more)
  local o = { snapshots = { keep = 0, chunk_bytes = 1024 } }
  for k, v in pairs(more or {}) do
    if k == 'snapshots' then for name, value in pairs(v) do o.snapshots[name] = value end else o[k] = v end
  end
  local w = world(o)
  fill(w, 10, w:leader())
  w:equal()
  local leader = w:leader()
  local down = (leader + 1) % 3
  w:crash(down)
  fill(w, 60, leader, 1000)
  take(w, leader)
  if o.snapshots.keep == 0 then w:until_true('the log is cut', function() return w:status(leader).base > 20 end) end
  return w, leader, down
end

local function bytes_of(w, node)
  local s = w:status(node)
  return tonumber(s.fetched)
end

describe('a follower that was down while the log was cut', function()
  it('takes the leader\'s snapshot and goes on', function()
    local w, leader, down = behind()
    fill(w, 10, leader)
    w:start(down)
    w:equal()
    assert.equal(1, tonumber(w:status(down).received))
    assert.equal(w:status(leader).snapshot, w:status(down).snapshot)
    fill(w, 10, leader)
    w:equal()
    w:crash(down)
    w:start(down)
    w:equal()
    assert.equal(0, tonumber(w:status(down).received))
  end)

  it('needs none if as much was kept', function()
    local w, leader, down = behind { snapshots = { keep = 1000 } }
    w:start(down)
    w:equal()
    assert.equal(0, tonumber(w:status(down).received))
    assert.equal(0, tonumber(w:status(leader).sent))
  end)

  it('goes on where a broken link left off', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    w:start(down)
    local size
    for _ = 1, 3 do
      local before = bytes_of(w, down)
      w:until_true('some more of it came', function() return bytes_of(w, down) > before + 2000 end)
      assert.is_true(w.C.replica_world_break_bulk(w.world, leader, down))
    end
    w:equal(60000)
    size = bytes_of(w, down)
    assert.equal(1, tonumber(w:status(down).received))
    assert.equal(0, tonumber(w:status(down).failed))
    w:until_true('the leader knows', function() return w:status(leader).sent == 1 end)
    assert.is_true(size < 70000, 'fetched ' .. size)
  end)

  it('goes on where its own crash left off (bug 74)', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    w:start(down)
    w:until_true('half of it came', function() return bytes_of(w, down) > 30000 end)
    w:crash(down)
    w:run(200)
    w:start(down)
    w:equal(60000)
    assert.equal(1, tonumber(w:status(down).received))
    -- Not all that was written had reached the disk.
    assert.is_true(bytes_of(w, down) < 60000, 'fetched ' .. bytes_of(w, down))
    w:until_true('the leader knows', function() return w:status(leader).sent == 1 end)
  end)

  it('goes on after the leader was restarted, or takes the new leader\'s (bug 76)', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    w:start(down)
    w:until_true('half of it came', function() return bytes_of(w, down) > 30000 end)
    w:crash(leader)
    w:run(400)
    w:start(leader)
    w:equal(60000)
    assert.equal(0, tonumber(w:status(down).failed))
    fill(w, 5, w:leader())
    w:equal()
  end)

  it('begins anew when another leader has another snapshot (bug 76)', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    local third = 3 - leader - down
    fill(w, 5, leader, 1000)
    take(w, third)
    w:start(down)
    w:until_true('half of it came', function() return bytes_of(w, down) > 30000 end)
    w:crash(leader)
    w:until_true('the third node leads', function() return w:leader() == third end)
    w:until_true('its snapshot was taken', function() return w:status(down).received == 1 end, 60000)
    assert.equal(0, tonumber(w:status(down).failed))
    assert.equal(w:status(third).snapshot, w:status(down).snapshot)
    w:start(leader)
    w:equal()
  end)

  it('has old or new state after a crash in any step of it (bug 74)', function()
    local steps = 0
    for step = 0, 400 do
      local w, _, down = behind { seed = 7, snapshot_ms_max = 2, snapshots = { chunk_bytes = 8192 } }
      w:start(down)
      w:run(1)
      w.C.replica_world_fail_disk(w.world, down, step)
      w:until_true('it crashed, or took it', function() return not w:status(down).up or w:status(down).received == 1 end)
      if w:status(down).up then break end
      steps = steps + 1
      w:run(50)
      w:start(down)
      w:equal(60000)
      fill(w, 3, w:leader())
      w:equal()
    end
    assert.is_true(steps > 10, 'crashed in ' .. steps .. ' steps')
  end)

  it('is not sent the same twice because reading it takes longer than any time-out (bug 77)', function()
    local w, leader, down = behind { snapshot_ms_max = 30 }
    w.C.replica_world_slow_snapshots(w.world, down, 8000)
    w:start(down)
    w:equal(120000)
    assert.equal(1, tonumber(w:status(down).received))
    w:until_true('the leader knows', function() return w:status(leader).sent == 1 end)
    assert.is_true(bytes_of(w, down) < 70000)
  end)

  it('gets another when the one that is sent is damaged on the leader\'s disk (bug 75)', function()
    local w, leader, down = behind()
    local disk = w.C.replica_world_disk(w.world, leader)
    local name = ('snapshot-%016x'):format(tonumber(w:status(leader).snapshot))
    local file = core.ffi.new('struct disk_file *[1]')
    assert.equal(0, tonumber(disk.open(disk, name, 0, file)))
    assert.equal(0, tonumber(disk.write_at(disk, file[0], 20000, 'damaged', 7)))
    disk.close(disk, file[0])
    w:start(down)
    w:equal(60000)
    assert.equal(1, tonumber(w:status(down).received))
    assert.equal(1, tonumber(w:status(down).failed))
  end)
end)

describe('pieces (bug 75)', function()
  -- A bulk link from the leader that is none, with such pieces; `piece` changes what the next one that is wanted would be.
  local function forge(w, leader, node, pieces)
    local s, out = w:status(node), {}
    out[1] = '\193' .. W.frame(function(message)
      message.type, message.hello.bulk = w.C.MESSAGE_HELLO, true
      message.hello.protocol_min, message.hello.protocol_max = 1, 1
      message.hello.cluster_id, message.hello.set_hash, message.hello.formation = s.cluster_id, s.cluster_id, 2
      message.hello.from, message.hello.to = leader + 1, node + 1
      message.hello.incarnation = w:status(leader).incarnation
    end)
    for _, piece in ipairs(pieces) do
      out[#out + 1] = W.frame(function(message)
        message.type = w.C.MESSAGE_SNAPSHOT_PIECE
        message.piece.index, message.piece.offset = w:status(leader).snapshot, piece.offset
        message.piece.hash = piece.hash or w:seal(leader).hash
        message.piece.crc = w.C.crc32c(0, piece.bytes, #piece.bytes)
      end, piece.bytes)
    end
    w:say(node, table.concat(out))
  end

  it('that are not the next of the file, or of another, are passed over', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    w:start(down)
    w:until_true('half of it came', function() return bytes_of(w, down) > 30000 end)
    local other = core.ffi.new('struct hash128', 1, 2)
    local next_one = bytes_of(w, down)
    forge(w, leader, down, { { offset = 0, bytes = 'again' }, { offset = next_one + 7, bytes = 'a hole' },
      { offset = next_one - 7, bytes = 'overlapping' }, { offset = next_one, bytes = 'of another file', hash = other } })
    w:equal(60000)
    assert.equal(0, tonumber(w:status(down).failed))
    assert.equal(1, tonumber(w:status(down).received))
  end)

  it('that were changed on their way cost the transfer, never the state', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    w:start(down)
    w:until_true('half of it came', function() return bytes_of(w, down) > 30000 end)
    local pieces = {}
    for offset = bytes_of(w, down), bytes_of(w, down) + 20480, 1024 do
      pieces[#pieces + 1] = { offset = offset, bytes = ('x'):rep(1024) }
    end
    forge(w, leader, down, pieces)
    w:equal(60000)
    assert.equal(1, tonumber(w:status(down).failed))
    assert.equal(1, tonumber(w:status(down).received))
  end)
end)

describe('a follower that is slower than the log grows (bug 78)', function()
  it('needs one snapshot, for what follows it is kept', function()
    local w, leader, down = behind { snapshot_ms_max = 10, snapshots = { rate = 15000, entries = 20 } }
    w:start(down)
    for _ = 1, 40 do
      fill(w, 5, leader, 300)
      w:run(60)
    end
    w:equal(60000)
    assert.is_true(w:status(leader).taken > 5)
    assert.equal(1, tonumber(w:status(down).received))
    assert.is_true(bytes_of(w, down) < 70000, 'fetched ' .. bytes_of(w, down)) -- and it did not begin another
  end)
end)

describe('taking snapshots', function()
  it('goes on beside commands, and holds the state at its index (bug 79)', function()
    local w = world { snapshot_ms_max = 400, snapshots = { entries = 30, keep = 3 } }
    fill(w, 400, w:leader())
    w:equal()
    w:run(3000)
    for i = 0, 2 do
      assert.is_true(w:status(i).taken > 1)
      w:crash(i)
      w:start(i)
    end
    w:ready()
    w:equal()
  end)

  it('by time, while there is something new', function()
    local w = world { snapshots = { every_ms = 1000 } }
    fill(w, 5, w:leader())
    w:run(6000)
    local taken = tonumber(w:status(0).taken)
    assert.equal(1, taken)
    fill(w, 5, w:leader())
    w:run(4000)
    taken = tonumber(w:status(0).taken)
    assert.is_true(taken == 2 or taken == 3) -- the first of the new entries, and the rest
    w:run(5000)
    assert.equal(taken, tonumber(w:status(0).taken))
  end)

  it('by bytes of the log, and not before it has as many as the last snapshot', function()
    local w = world { nodes = 1, snapshots = { bytes = 5000 } }
    for i = 1, 200 do assert(w:call(0, 'store.put', i, ('v'):rep(400)).ok) end
    w:run(1000)
    assert.is_true(w:status(0).taken >= 3)
    assert.is_true(w:status(0).taken <= 6, tostring(w:status(0).taken))
  end)

  it('waits when it fails, keeps the log, and serves on (bug 80)', function()
    local w = world { nodes = 1, segment_bytes = 1024 * 1024, snapshots = { entries = 10, keep = 0 } }
    w.C.sim_disk_full(w.C.replica_world_disk(w.world, 0), true)
    fill(w, 30)
    w:run(5000)
    local s = w:status(0)
    assert.equal(0, tonumber(s.taken))
    assert.is_true(s.failed >= 2)
    assert.is_true(s.failed <= 4)
    assert.equal(0, tonumber(s.base))
    w.C.sim_disk_full(w.C.replica_world_disk(w.world, 0), false)
    w:run(20000)
    assert.is_true(w:status(0).taken > 0)
    assert.is_true(w:status(0).base > 0)
  end)

  it('of idle nodes says and does nothing', function()
    local w = world { snapshots = { entries = 10 } }
    fill(w, 30, w:leader())
    w:run(5000)
    local taken = tonumber(w:status(0).taken)
    w:run(20000)
    assert.equal(taken, tonumber(w:status(0).taken))
  end)
end)

describe('what the tests of async-raft assert of snapshots', function()
  it('compaction: who comes later gets the same snapshot, and a log that ends where the others\' do', function()
    local w = world { snapshots = { entries = 500, keep = 0 } }
    w:crash(2)
    w:run(1000)
    fill(w, 1000, 0, 10)
    w:run(2000)
    w:start(2)
    w:equal()
    local late, leader = w:status(2), w:status(w:leader())
    assert.is_true(leader.snapshot >= 500)
    assert.equal(leader.snapshot, late.snapshot)
    assert.equal(leader.last, late.last)
    assert.equal(1, tonumber(late.received))
  end)

  it('client_writes: six clients, 6,000 writes, one term, all equal, and each node has a snapshot of late', function()
    local w = world { snapshots = { entries = 500, keep = 100 } }
    local term, asked = w:status(w:leader()).term, {}
    for n = 1, 1000 do
      for client = 1, 6 do asked[client] = w:ask(client % 3, {}, 'counter.add', 'c' .. client, n) end
      for client = 1, 6 do assert.is_true(w:wait(asked[client]).ok) end
    end
    w:equal()
    w:run(1000)
    for i = 0, 2 do
      local s = w:status(i)
      assert.equal(term, s.term)
      assert.equal(w:status(0).last, s.last)
      assert.is_true(s.last - s.snapshot <= 750, 'the last at ' .. tonumber(s.snapshot) .. ' of ' .. tonumber(s.last))
      assert.equal(500500, w:query(i, 'counter.value', 'c3').value)
    end
  end)

  it('a node that cannot be reached in mid-transfer is not called without end (S15)', function()
    local w, leader, down = behind { snapshot_ms_max = 60, snapshots = { rate = 20000 } }
    local function events(ms)
      local before = tonumber(w.C.replica_world_events(w.world))
      w:run(ms)
      return tonumber(w.C.replica_world_events(w.world)) - before
    end
    local without = events(5000)
    w:start(down)
    w:until_true('half of it came', function() return bytes_of(w, down) > 30000 end)
    w:cut(leader, down)
    w:run(500)
    local cut = events(5000)
    assert.is_true(cut < without * 2, ('%d events, %d without it'):format(cut, without))
    w:cut(leader, down, false)
    w:equal(60000)
    assert.equal(1, tonumber(w:status(down).received))
  end)
end)

-- Commands at a rate, for so long; the disk, transfers and snapshots are looked at all the time.
describe('hours of it', function()
  local minutes = os.getenv('SEEDS') and 120 or 2
  it(('%d minutes at 100 commands a second leave a small disk'):format(minutes), function()
    local long = minutes == 120
    local w = world { segment_bytes = long and 512 * 1024 or 64 * 1024,
      snapshots = { entries = long and 2400 or 200, keep = long and 500 or 100, chunk_bytes = 16384 } }
    local random, most, row = core.random(5), 0, { [0] = 0, 0, 0 }
    for second = 1, minutes * 60 do
      for _ = 1, 100 do
        w:ask(random(3) - 1, { timeout = 4000 }, 'store.put', 'k' .. random(500), ('v'):rep(random(200)))
        w:run(10)
      end
      if second % 37 == 0 then
        local node = random(3) - 1
        w:crash(node)
        w:run(random(3000))
        w:start(node)
        row[node] = 0
      end
      for i = 0, 2 do
        if w:status(i).up then
          most = math.max(most, tonumber(w.C.replica_world_disk_bytes(w.world, i)))
          row[i] = math.max(row[i], tonumber(w:status(i).received))
          assert(row[i] <= 1, 'two transfers in a row')
        end
      end
    end
    w:equal(60000)
    -- A command here is a block of 4 KiB on disk: a log of its threshold, half of that again, and what is kept.
    assert.is_true(w.C.replica_world_taken(w.world) >= (long and 600 or 100))
    assert.is_true(most < (long and 32 or 4) * 1024 * 1024, 'bytes on a disk: ' .. most)
  end)
end)
