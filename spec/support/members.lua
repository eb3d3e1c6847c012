-- spec/support/members.lua: the members of a world of cores (sim/core_world.h), read, and changed at random.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('raft/types.h', 'raft/raft.h', 'sim/core_world.h')

local members = {}

local TAKEN, PRIORITY_MAX = 1, 100
local now, wanted = ffi.new('struct raft_configuration[1]'), ffi.new('struct raft_configuration[1]')

local function list(of, count)
  local out = {}
  for i = 1, tonumber(count) do out[i] = tonumber(of[i - 1]) end
  return out
end

-- What is in force at a node that is up: { id, voters, old, learners }, lists of ids.
function members.of(world, node)
  C.core_world_configuration(world, node, now)
  return { id = now[0].id, voters = list(now[0].voters, now[0].voters_count), old = list(now[0].old_voters, now[0].old_voters_count),
    learners = list(now[0].learners, now[0].learners_count) }
end

-- The ids of all of them.
function members.all(configuration)
  local seen, out = {}, {}
  for _, name in ipairs { 'voters', 'old', 'learners' } do
    for _, id in ipairs(configuration[name]) do
      if not seen[id] then seen[id], out[#out + 1] = true, id end
    end
  end
  return out
end

-- One operation, or several, or quite another set.
local function draw(world, node, nodes, random)
  local roles, from = {}, members.of(world, node)
  for _, id in ipairs(from.voters) do roles[id] = 'voter' end
  for _, id in ipairs(from.learners) do roles[id] = 'learner' end
  for _ = 1, random(4) == 1 and 3 or 1 do
    local id = random(nodes)
    local what = random(3)
    if roles[id] == nil then roles[id] = random(3) == 1 and 'voter' or 'learner'
    elseif what == 1 then roles[id] = nil
    else roles[id] = roles[id] == 'voter' and what == 2 and 'learner' or 'voter' end
  end
  if random(8) == 1 then
    for id = 1, nodes do roles[id] = ({ 'voter', 'voter', 'learner' })[random(4)] end
  end
  ffi.fill(wanted, ffi.sizeof 'struct raft_configuration')
  for id = 1, nodes do
    if roles[id] == 'voter' then
      wanted[0].priorities[wanted[0].voters_count] = random(2) == 1 and random(0, PRIORITY_MAX) or 0
      wanted[0].voters[wanted[0].voters_count] = id
      wanted[0].voters_count = wanted[0].voters_count + 1
    elseif roles[id] == 'learner' then
      wanted[0].learners[wanted[0].learners_count] = id
      wanted[0].learners_count = wanted[0].learners_count + 1
    end
  end
end

-- A change of members, the abort of one, or a transfer, asked of a node. Gives 1 if a configuration was appended, else 0.
function members.churn(world, node, nodes, random)
  if not C.core_world_is_up(world, node) then return 0 end
  local what = random(10)
  if what == 1 then return C.core_world_abort_change(world, node) == TAKEN and 1 or 0 end
  if what <= 3 then
    C.core_world_transfer(world, node, random(0, nodes))
    return 0
  end
  draw(world, node, nodes, random)
  return C.core_world_change(world, node, wanted, random(4) == 1) == TAKEN and 1 or 0
end

return members
