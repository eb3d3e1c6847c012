-- grow.lua: one node becomes five and three again under load, and the autopilot alone decides; a node that is killed for good is replaced by a
-- spare. Nothing that was acknowledged is lost.
--
--   make demo-grow        (or: tidelock run examples/demos/grow.lua)          real processes
--   tidelock run --mode sim --seed 7 examples/demos/grow.lua                 the same on virtual time
--
-- The exit status is the verdict: every acknowledged write is on every voter, all digests are equal, and the history is linearizable.
local cluster = require 'tidelock.cluster'

local GROWN, SHRUNK = 5, 3
local POLICY = { [GROWN] = 'examples/policy_autopilot.lua', [SHRUNK] = 'examples/policy_autopilot_three.lua' }

local c = cluster { nodes = 6, founders = 1, machines = { kv = 'examples/kv.lua' }, policy = POLICY[GROWN], mode = 'live' }
local written, acknowledged, unknown, ending = {}, 0, 0, false

-- Two clients write all the time, and read what they wrote.
local function write(name)
  local i = 0
  while not ending do
    i = i + 1
    local key = ('%s-%06d'):format(name, i % 500)
    local _, err = c:call('kv.set', key, i)
    if not err then acknowledged, written[key] = acknowledged + 1, i
    elseif err.definite then c:note('refused: %s %s', err.code, err.message)
    else unknown, written[key] = unknown + 1, nil end
    if i % 4 == 0 then c:query('kv.get', key) end
    c:sleep(2)
  end
end

-- Each decision once, as it becomes known.
local told = {}
local function tell()
  for _, line in ipairs(c:query('tidelock.members_history') or {}) do
    if line.done ~= nil and not told[line.index] then
      told[line.index] = true
      local words = {}
      for i, change in ipairs(line.changes) do
        words[i] = ('%s %d%s'):format(change[1], change[2], change[1] == 'replace' and (' by %d'):format(change[3]) or '')
      end
      local undone = line.done == true and '' or (' (not done: %s)'):format(line.done)
      c:note('decided by %s: %s -- %s%s', line.by, table.concat(words, ', '), line.why, undone)
    end
  end
end

local function voters()
  local all = c:query('tidelock.members')
  local ids = {}
  for _, m in ipairs(all and not all.joint and not all.decision and all.members or {}) do
    if m.role == 'voter' then ids[#ids + 1] = m.id end
  end
  return ids
end

local function wait_voters(count, without)
  return c:wait(('%d voters'):format(count), 90000, function()
    tell()
    local ids = voters()
    for _, id in ipairs(ids) do if id == without then return nil end end
    return #ids == count and ids
  end)
end

local function demo()
  c:wait_leader()
  c:note('one node runs; the policy wants %d voters', GROWN)
  c:go(write, 'a')
  c:go(write, 'b')
  for id = 2, GROWN do c:step(('node %d joins'):format(id), function() c:node(id):start() end) end
  wait_voters(GROWN)
  c:step('node 6 joins: a spare', function() c:node(6):start() end)
  c:wait('the spare', 60000, function()
    tell()
    local all = c:query('tidelock.members')
    for _, m in ipairs(all and all.members or {}) do if m.id == 6 and m.caught_up then return true end end
  end)
  local dead = c:leader()
  c:step(('kill -9 of node %d, the leader, for good'):format(dead.id), function() dead:kill() end)
  dead.left = true
  wait_voters(GROWN, dead.id)
  c:step(('a policy that wants %d'):format(SHRUNK), function() assert(c:deploy(POLICY[SHRUNK], { kind = 'policy' })) end)
  local ids = wait_voters(SHRUNK)
  c:note('voters: %s', table.concat(ids, ', '))
  ending = true
  c:sleep(300)
  tell()
  local applied, digest = c:wait_equal()
  c:note('all nodes that are members have applied entry %d', applied)
  local count, wrong = 0, 0
  for _, id in ipairs(ids) do
    local client = c:node(id):client()
    client.read = 'stale' -- what this node itself has
    for key, value in pairs(written) do
      count = count + 1
      if client:query('kv.get', key) ~= value then wrong = wrong + 1 end
    end
    client:close()
  end
  local verdict = c:check_history()
  io.stdout:write(('%d writes acknowledged; the last of each of %d keys looked up at each of %d voters: %d missing; the outcome of %d '
    .. 'was unknown\n'):format(acknowledged, count / #ids, #ids, wrong, unknown))
  io.stdout:write(('the history is %s; digests of all members are equal: %s\n'):format(verdict, digest))
  return wrong == 0 and count > 0 and verdict == 'linearizable' -- undecided is no proof
end

local ok, result = pcall(demo)
if not ok then
  io.stdout:write('failed: ', tostring(result), '\n')
  for _, node in ipairs(c:nodes()) do
    io.stdout:write('--- node ', node.id, '\n', node:said(), '\n')
  end
end
c:close()
return ok and result and 0 or 1
