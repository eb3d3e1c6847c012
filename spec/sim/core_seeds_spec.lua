-- Cores under faults, by seed: safety while anything may happen, then heal, then liveness within a bound.
-- SEEDS=A..B runs others (make sim). A seed that fails is named; it is the whole bug report.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('raft/types.h', 'raft/raft.h', 'sim/core_world.h')
local members = require 'spec.support.members'

local FIRST, LAST = (os.getenv('SEEDS') or ''):match('^(%d+)%.%.(%d+)$')
if not FIRST then FIRST, LAST = 1, 25 end -- make mutants has a SEEDS of its own: how many

local function open(options)
  local o = ffi.new('struct core_world_options[1]')
  local usual = { seed = 1, nodes = 3, delay_ms_max = 5, write_ms_max = 3, fetch_ms_max = 50, election_ms = 100, heartbeat_ms = 20 }
  for k, v in pairs(usual) do o[0][k] = v end
  for k, v in pairs(options) do o[0][k] = v end
  return ffi.gc(C.core_world_new(o), C.core_world_free)
end

local NONE = 4294967295
local status = ffi.new('struct raft_status[1]')

local function run(world, ms)
  local broken = C.core_world_run(world, ms)
  if broken ~= nil then error(ffi.string(broken), 0) end
end

-- Every member has applied the same, one leads, no change is pending, and a fresh entry commits.
local function live_again(world, seed, settles)
  C.core_world_heal(world)
  for _ = 1, 100 do
    run(world, 100)
    local leader = C.core_world_leader(world)
    if leader ~= NONE then
      C.core_world_propose(world, leader, 1)
      run(world, 300)
      C.core_world_status(world, leader, status)
      local last, same = status[0].last_log_index, status[0].commit_index == status[0].last_log_index
      local now = members.of(world, leader)
      same = same and #now.old == 0
      for _, id in ipairs(members.all(now)) do
        C.core_world_status(world, id - 1, status)
        same = same and status[0].commit_index == last and status[0].configuration_id == now.id
      end
      if same then
        -- Whoever was removed, and asks for votes, disturbs nobody (thesis §4.2.3).
        C.core_world_status(world, leader, status)
        local term = status[0].current_term
        if settles then run(world, 3000) end
        C.core_world_status(world, leader, status)
        assert(status[0].current_term == term, ('seed %d: the leader was disturbed'):format(seed))
        return
      end
    end
  end
  error(('seed %d: not live within 40 s of healing'):format(seed), 0)
end

local function isolate(world, nodes, node, cut)
  for other = 0, nodes - 1 do
    C.core_world_cut(world, node, other, cut)
    C.core_world_cut(world, other, node, cut)
  end
end

-- Gives the world, how many snapshots were taken from a leader, and how many changes of members were appended.
local function swarm(seed, planted)
  local random = core.random(seed)
  local nodes = ({ 1, 2, 3, 3, 5, 5, 7 })[random(7)]
  local options = { seed = seed, nodes = nodes, delay_ms_max = random(3) == 1 and random(150) or random(20),
    write_ms_max = random(4) == 1 and random(120) or random(10) }
  if random(2) == 1 then options.loss = random(200000) end
  if random(3) == 1 then options.duplication = random(100000) end
  local crashes, cuts = random(2) == 1, random(2) == 1
  local isolations = random(3) == 1
  local compactions, keep = random(3) > 1 and random(20), random(2) == 1 and random(30) or 0
  options.fetch_ms_max = random(3) == 1 and random(1500) or random(100)
  if random(2) == 1 then options.fetch_loss = random(500000) end
  local churn = not planted and random(2) == 1 and random(4, 20)
  if churn then
    nodes = random(7)
    options.nodes, options.voters = nodes, random(nodes)
    options.follow_priority = random(2) == 1
  end
  if random(3) == 1 then
    options.drift = random(100000)
    -- A voter's clock against the leader's, over an election time-out of 100 ms, and a millisecond that either cuts off.
    options.lease_drift_ms = math.ceil(2 * 100 * options.drift / (1000000 - options.drift)) + 2
  end
  local changes = 0
  for k, v in pairs(planted or {}) do options[k] = v end
  if planted then crashes, cuts = true, true end
  local world = open(options)
  for _ = 1, 300 do
    run(world, random(60))
    local at = random(nodes) - 1
    local leader = C.core_world_leader(world)
    if leader ~= NONE and random(3) > 1 then C.core_world_propose(world, leader, random(5)) end
    -- One that leads no more, and does not know it yet, gets entries that conflict with those of the others.
    if isolations and random(5) == 1 and C.core_world_is_up(world, at) then C.core_world_propose(world, at, random(8)) end
    if isolations and leader ~= NONE and random(20) == 1 then isolate(world, nodes, leader, true) end
    if isolations and random(12) == 1 then isolate(world, nodes, at, false) end
    if compactions and random(compactions) == 1 then C.core_world_compact(world, at, random(keep + 1) - 1) end
    if churn and random(churn) == 1 then
      changes = changes + members.churn(world, leader ~= NONE and random(4) > 1 and leader or at, nodes, random)
    end
    -- A lease that lasts too long shows in reads of whoever leads no more, and has not heard of it.
    if options.lease_drift_ms and leader ~= NONE and random(12) == 1 then
      C.core_world_transfer(world, leader, 0)
      run(world, random(10))
      if isolations then isolate(world, nodes, leader, true) end
    end
    for node = 0, options.lease_drift_ms and nodes - 1 or -1 do C.core_world_read(world, node) end
    if C.core_world_is_up(world, at) and random(4) == 1 then C.core_world_read(world, at) end
    if crashes and random(planted and 2 or 12) == 1 then C.core_world_crash(world, at) end
    if planted then C.core_world_start(world, at) end
    if crashes and random(6) == 1 then C.core_world_start(world, random(nodes) - 1) end
    if cuts and random(15) == 1 then C.core_world_cut(world, at, random(nodes) - 1, true) end
    if cuts and random(10) == 1 then C.core_world_cut(world, random(nodes) - 1, random(nodes) - 1, false) end
  end
  live_again(world, seed, not options.follow_priority)
  return world, tonumber(C.core_world_snapshots_taken(world)), changes
end

describe('cores under faults', function()
  it(('stay safe and come back, seeds %s to %s'):format(FIRST, LAST), function()
    local taken, changed = 0, 0
    for seed = tonumber(FIRST), tonumber(LAST) do
      local _, snapshots, changes = swarm(seed)
      taken, changed = taken + snapshots, changed + changes
    end
    if LAST - FIRST < 20 then return end -- some seeds alone need not show everything
    assert(taken > 0, 'no snapshot was taken: these seeds show nothing of them')
    assert(changed > 0, 'no change of members was made: these seeds show nothing of them')
  end)

  it('do the same for the same seed', function()
    assert.equal(tostring(C.core_world_hash((swarm(77)))), tostring(C.core_world_hash((swarm(77)))))
  end)

  for planted, name in pairs { forget_vote = 'a restart that forgets its vote', ack_before_durable = 'answers before the disk' } do
    it('are caught with a planted bug: ' .. name, function()
      local caught
      for seed = 1, 400 do
        local ok, why = pcall(swarm, seed, { [planted] = true })
        if not ok then caught = why break end
      end
      assert.is_string(caught, 'no seed of 400 found it')
    end)
  end
end)

describe('three quiet cores', function()
  it('elect one leader, and commit what it is given', function()
    local world = open { seed = 5 }
    run(world, 1000)
    local leader = C.core_world_leader(world)
    assert.is_true(C.core_world_propose(world, leader, 10))
    run(world, 200)
    for i = 0, 2 do
      C.core_world_status(world, i, status)
      assert.equal(12, tonumber(status[0].commit_index))
    end
  end)

  it('give up leadership without a majority (thesis §6.2), and do not raise the term alone (§9.6)', function()
    local world = open { seed = 6 }
    run(world, 1000)
    local leader = C.core_world_leader(world)
    C.core_world_status(world, leader, status)
    local term = status[0].current_term
    for i = 0, 2 do
      C.core_world_cut(world, leader, i, true)
      C.core_world_cut(world, i, leader, true)
    end
    run(world, 3000)
    C.core_world_status(world, leader, status)
    assert.not_equal(3, tonumber(status[0].role))
    assert.equal(term, status[0].current_term)
  end)

  it('answer reads only while they lead (thesis §6.4)', function()
    local world = open { seed = 8 }
    run(world, 1000)
    local leader = C.core_world_leader(world)
    C.core_world_read(world, leader)
    run(world, 100)
    assert.equal(1, tonumber(C.core_world_reads_answered(world)))
    for i = 0, 2 do C.core_world_cut(world, i, leader, true) end
    C.core_world_read(world, leader)
    run(world, 1000)
    assert.equal(1, tonumber(C.core_world_reads_answered(world)))
  end)
end)
