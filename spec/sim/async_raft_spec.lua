-- The integration tests of async-raft, the library that tidelock set out to exceed, whose features exist by now: on real replicas,
-- in virtual time, under faults. One seed draws everything; in a quarter of the seeds nothing strikes, and numbers are exact.
-- The witness of the simulator looks on after every event, and the clients' histories are judged. SEEDS=A..B runs others (make sim,
-- at most 1000 each); TEST=NAME one test alone. A seed that fails is named.
local T = require 'spec.support.trial'
local W = require 'spec.support.replicas'

local FIRST, LAST = (os.getenv('SEEDS') or '1..25'):match('(%d+)%.%.(%d+)')
LAST = math.min(LAST, FIRST + 999)

local FORMED_TERM, FORMED_LAST = 2, 3 -- term 1 is that of the set alone; the set, the leader's first entry, one module

local function same(want, got, t, what)
  if want ~= got then error(t:says(('%s: %s, not %s'):format(what, tostring(got), tostring(want))), 0) end
end

local function each(t, f) for i = 0, t.nodes - 1 do f(t:status(i), i) end end

-- A cluster that has formed, with faults for the next `ms`. The seed also picks an operation of a disk that a node does not survive:
-- over a thousand seeds every node dies at each of its next 333 or more.
local function under(seed, nodes, names, ms)
  local t = T.new(seed, nodes)
  t:start_all()
  t:ready()
  t:strike(names, ms)
  t:kill_within(seed % nodes, math.floor(seed / nodes))
  return t
end

local ALL = T.all(T.MESSAGES, T.PROCESSES, T.DISKS, T.CLOCKS, T.PARTITIONS)
local tests = {}

-- Three nodes of which one is missing stay empty, whatever happens to them; with the third they form one cluster with one leader,
-- and then nothing changes any more.
function tests.initialization(seed)
  local t = T.new(seed, 3)
  local late = t.random(0, 2)
  t:keep_down(late, true)
  t:strike(ALL, 16000)
  t:kill_within((late + 1) % 3, seed % 100)
  for i = 0, 2 do if i ~= late then t:start(i) end end
  t:pass(10000)
  each(t, function(s)
    same(false, s.raft, t, 'a core before all are there')
    same(0, tonumber(s.applied), t, 'applied before all are there')
  end)
  t:keep_down(late, false)
  t:start(late)
  t:pass(6000)
  t:settle()
  local leader, term = t:leader(), t:status(t:leader()).term
  t:pass(10000)
  each(t, function(s)
    same(2, s.formation, t, 'formation')
    same(t:status(0).cluster_id, s.cluster_id, t, 'cluster')
    same(leader + 1, tonumber(s.leader), t, 'leader')
    same(term, s.term, t, 'term')
    if not t.quiet then return end
    same(FORMED_LAST, tonumber(s.last), t, 'last entry')
    same(FORMED_LAST, tonumber(s.applied), t, 'applied')
  end)
end

-- One node forms alone, leads, and does a thousand writes.
function tests.singlenode(seed)
  local t = under(seed, 1, T.all(T.PROCESSES, T.DISKS, T.CLOCKS), 8000)
  t:client { count = 1000, key = 'a' }
  t:finish(120000)
  t:settle()
  local s = t:status(0)
  same(W.LEADER, s.role, t, 'role')
  same(s.last, s.applied, t, 'applied')
  if not t.quiet then return end
  same(FORMED_TERM, tonumber(s.term), t, 'term')
  same(1000, t.told.ok - 1, t, 'answers') -- and one read
  same(FORMED_LAST + 1000, tonumber(s.last), t, 'last entry')
end

-- Six clients of a thousand writes each (a hundred and fifty in nine seeds of ten); where nothing strikes, all of them are done in one
-- term, and nothing else is in the log.
function tests.client_writes(seed)
  local t = under(seed, 3, ALL, 8000)
  local began, count = t:status(t:leader()), seed % 10 == 1 and 1000 or 150
  for i = 1, 6 do t:client { count = count, key = 'k' .. i, timeout = 2000 } end
  t:finish(400000)
  t:settle()
  for i = 0, 2 do
    for c = 1, 6 do
      local done, most = t.clients[c].done, count
      local value = t:wait(t:ask(i, { stale = true, query = true }, 'counter.value', 'k' .. c)).value
      assert(value >= done and value <= most, t:says(('k%d is %d, told %d'):format(c, value, done)))
    end
  end
  if not t.quiet then return end
  each(t, function(s)
    same(began.term, s.term, t, 'term')
    same(began.last + 6 * count, s.last, t, 'last entry')
    same(s.last, s.applied, t, 'applied')
  end)
end

-- Reads beside writes are linearizable, wherever; who does not lead takes no writes by itself, and says who leads; a leader that is
-- alone answers no read.
function tests.client_reads(seed)
  local t = under(seed, 3, ALL, 6000)
  for i = 1, 6 do
    local client = { key = 'k' .. i % 2, think = 40, query = 2, forward = i % 3 > 0 }
    if i == 6 then client.node = function() return t:leader() ~= W.NOBODY and t:leader() or 0 end end
    t:client(client)
  end
  t:pass(6000)
  t:rest()
  t:settle()
  local leader = t:leader()
  for i = 0, 2 do
    local reply = t:wait(t:ask(i, { query = true, forward = false }, 'counter.value', 'k0'))
    same(true, reply.ok, t, 'a read at node ' .. i) -- asks the leader from which entry on it may answer
    reply = i ~= leader and t:wait(t:ask(i, { forward = false }, 'counter.add', 'k0'))
    if i ~= leader then same('NOT_LEADER 1', ('%s %d'):format(reply.code, reply.data.leader - leader), t, 'refusal') end
  end
  t:isolate(leader)
  t:pass(t.options.delay_ms_max + 1) -- until then what it sends may still arrive
  local reply = t:wait(t:ask(leader, { query = true, forward = false, timeout = 3000 }, 'counter.value', 'k0'))
  same(false, reply.ok, t, 'a read at a leader that is alone')
end

-- At every moment all nodes that name a leader of a term name the same one, and in the end all name the one who leads.
function tests.current_leader(seed)
  local t = under(seed, 3, ALL, 8000)
  local named = {}
  t:client { key = 'a', think = 100 }
  t:pass(8000, function()
    each(t, function(s)
      local term = tonumber(s.term)
      if s.raft and s.leader ~= 0 then
        named[term] = named[term] or tonumber(s.leader)
        same(named[term], tonumber(s.leader), t, 'leader of term ' .. term)
      end
    end)
  end)
  t:rest()
  t:settle()
  same(true, t:agree(), t, 'all name the leader')
end

-- The half of it that changes no members: five nodes, the leader is cut off, the others elect another in a later term and go on; the old
-- one steps down; once it is back, leader and term are what they were.
function tests.dynamic_membership(seed)
  local t = under(seed, 5, T.MESSAGES, 8000)
  t:client { key = 'a', think = 20 }
  t:pass(1000)
  t:until_true('one leads', function() return t:leader() ~= W.NOBODY end)
  local old = t:leader()
  local term = t:status(old).term
  t:isolate(old)
  assert(t:pass(20000, function() return t:leader() ~= old and t:leader() ~= W.NOBODY end), t:says('nobody else leads'))
  assert(t:status(t:leader()).term > term, t:says('the term did not rise'))
  t:pass(4000)
  assert(not t:status(old).up or t:status(old).role ~= W.LEADER, t:says('the old leader still leads'))
  t:mend()
  local others = function()
    local leader = t:leader()
    for i = 0, 4 do
      if i ~= old and (leader == W.NOBODY or tonumber(t:status(i).leader) ~= leader + 1) then return false end
    end
    return true
  end
  assert(t:pass(20000, others), t:says('the others do not agree'))
  local leader, later = t:leader(), t:status(t:leader()).term
  t:isolate(old, false)
  t:rest()
  t:settle()
  t:pass(5000)
  each(t, function(s)
    same(leader + 1, tonumber(s.leader), t, 'leader after the old one is back')
    same(later, s.term, t, 'term after the old one is back')
  end)
end

-- Nodes that are told to end under load, in any order, all do; each of their requests has ended, and what was acknowledged is there
-- when they start again.
function tests.shutdown(seed)
  local t = under(seed, 3, T.all(T.MESSAGES, { 'slow-disk', 'slow-script', 'hang' }, T.CLOCKS), 3000)
  for i = 1, 6 do t:client { key = 'k' .. i % 2, query = 4, think = 10 } end
  t:pass(t.random(1000))
  for _ = 1, 3 do
    local node = t.random(0, 2)
    for i = 0, 2 do
      local at = (node + i) % 3
      if not t.kept[at] then
        t:keep_down(at, true)
        if t:status(at).up then t.C.replica_world_stop(t.world, at) end
        break
      end
    end
    t:pass(t.random(300))
  end
  local function down() return not (t:status(0).up or t:status(1).up or t:status(2).up) end
  assert(t:pass(15000, down), t:says('a node does not end'))
  if t.quiet then for i = 0, 2 do same('', t:fatal(i), t, 'the last words of a node') end end
  t:rest()
  for i = 0, 2 do t:keep_down(i, false) end
  t:settle()
end

describe('async-raft', function()
  for _, name in ipairs { 'initialization', 'singlenode', 'client_writes', 'client_reads', 'current_leader', 'dynamic_membership',
    'shutdown' } do
    if os.getenv('TEST') == nil or os.getenv('TEST') == name then
      it(('%s, seeds %d to %d'):format(name, FIRST, LAST), function()
        local began = os.clock()
        for seed = tonumber(FIRST), LAST do
          local ok, why = pcall(tests[name], seed)
          if not ok then error(('seed %d: %s'):format(seed, tostring(why)), 0) end
        end
        if os.getenv('SEEDS') then print(('%s: %d seeds in %.1f s'):format(name, LAST - FIRST + 1, os.clock() - began)) end
      end)
    end
  end
end)
