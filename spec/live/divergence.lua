-- Memory of a real node rots under load: found by the next command that reads the row within two heartbeats, at rest within a pass
-- of the scrub; named, parked, rebuilt; the cluster serves on throughout. Only test builds have tidelock.tamper: exit 99 without.
local cluster, sys, wire = require 'tidelock.cluster', require 'tidelock.sys', require 'tidelock.wire'

local HEARTBEAT = 0.1
local c = cluster { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'live', direct = true, flags = { '--scrub-rate', '50000000' } }

for i = 1, 200 do
  local _, err = c:call('kv.set', ('row %03d'):format(i), i)
  assert(not err, err and err.message)
end

local function rot(node, rank)
  local done, err = node:client():raw('tidelock.tamper', wire.pack { rank }, {})
  if not done and err.code == 'UNKNOWN_COMMAND' then
    c:close()
    os.exit(99)
  end
  assert(done, err and err.message)
  local _, answer = wire.unpack(done)
  return assert(answer.row), assert(answer.row:match('key "([^"]*)"'))
end

-- While f runs, a client writes all the time; each of its writes succeeds, but for those that a leader had when it parked.
local function under_load(f)
  local over, writes = false, 0
  local task = c:go(function()
    while not over do
      local _, err = c:call('kv.set', 'load', writes)
      assert(not err or err.code == 'LOST', err and err.message)
      writes = writes + (err and 0 or 1)
      c:sleep(2)
    end
  end)
  f()
  over = true
  task:wait()
  return writes
end

local function parked(node, within, name)
  local deadline = sys.now() + within
  local status
  repeat
    status = node:status()
    if status.parked_at > 0 and status.parked_why:find(name, 1, true) then return status end
    c:sleep(10)
  until sys.now() > deadline
  error(('node %d did not park for %s: %s'):format(node.id, name, status.parked_why))
end

local function is_silent(node)
  local door = node:client()
  door.read = 'stale'
  local _, err = door:query('kv.get', 'load')
  return err and err.code == 'PARKED'
end

for round = 1, 3 do
  local leader = c:wait_leader { within = 10000 }
  local node = round == 2 and leader or c:node(leader.id % 3 + 1)
  local writes = under_load(function()
    local name, key = rot(node, 120 + 7 * round)
    if round < 3 then
      c:call('kv.cas', key, 0, 1) -- CONFLICT, with the value that is there
      local read = sys.now()
      while not is_silent(node) do
        c:sleep(10)
        assert(sys.now() - read < 2 * HEARTBEAT + 0.3, 'it still answers')
      end
    end
    parked(node, 20, name)
    c:wait_leader { not_node = node, within = 10000 }
    local packed, err = node:client(30000):raw('tidelock.rebuild', wire.pack {}, {})
    assert(packed, err and err.message)
    assert(node:status().parked_at == 0)
    print(('round %d: node %d, %s'):format(round, node.id, name))
  end)
  assert(writes > 10)
  c:wait_equal()
end
c:close()
print 'found, named, parked, rebuilt'
