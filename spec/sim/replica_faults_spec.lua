-- Replicas under faults: each request has one end, what was acknowledged stays, and who said no did nothing.
-- SEEDS=A..B runs other seeds (make sim). A seed that fails is named; it is the whole bug report.
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

local FIRST, LAST = (os.getenv('SEEDS') or '1..25'):match('(%d+)%.%.(%d+)')

-- Clients, and trouble, for a while; then all is mended, and the books are held against the counters.
local function swarm(seed)
  local random = core.random(seed)
  local nodes = ({ 1, 3, 3, 3, 5 })[random(5)]
  local w = W.formed { seed = seed, nodes = nodes, delay_ms_max = random(3) == 1 and random(40) or random(5),
    write_ms_max = random(4) == 1 and random(60) or random(4), apply_ms_max = random(10) - 1 }
  local crashes, cuts, stalls = random(2) == 1, random(2) == 1, random(2) == 1
  local asked = {}
  for _ = 1, 250 do
    w:run(random(40))
    local at, to = random(nodes) - 1, random(nodes) - 1
    for _ = 1, random(4) do
      local query, stale = random(4) == 1, false
      if query then stale = random(3) == 1 end
      local name = 'k' .. random(3)
      local number = w:ask(at, { timeout = random(1500), query = query, stale = stale, forward = random(8) > 1 },
        query and 'counter.value' or 'counter.add', name)
      asked[#asked + 1] = { number = number, query = query, stale = stale, name = name, began = w.C.replica_world_now(w.world) }
    end
    if random(3) == 1 and at ~= to then w.C.replica_world_break(w.world, at, to) end
    if cuts and at ~= to then w:cut(at, to, random(3) == 1) end
    if stalls and at ~= to then w.C.replica_world_stall(w.world, at, to, random(4) == 1) end
    if crashes and random(8) == 1 then w:crash(at) end
    if crashes and random(3) == 1 and not w:status(to).up then w:start(to) end
    if random(30) == 1 then w.C.replica_world_hang(w.world, at, random(600)) end
  end
  for i = 0, nodes - 1 do
    for j = 0, nodes - 1 do
      w:cut(i, j, false)
      w.C.replica_world_stall(w.world, i, j, false)
    end
  end
  w:start_all()
  w:run(1600)
  w:ready()
  w:equal()
  return w, asked
end

local function hold_books(w, asked, seed)
  local least, most = {}, {}
  for _, one in ipairs(asked) do
    local r = w:reply(one.number)
    local what = ('seed %d, request %d: '):format(seed, one.number)
    assert(r.replies == 1 or r.died, what .. 'no end')
    assert(r.replies == 0 or not r.died, what .. 'an end after its node died')
    local done = not one.query and r.replies == 1 and r.ok
    local unknown = not one.query and (r.died or (not r.ok and not r.definite))
    if one.query and r.replies == 1 and not r.ok then assert(r.definite, what .. 'a query is never unknown') end
    least[one.name] = (least[one.name] or 0) + (done and 1 or 0)
    most[one.name] = (most[one.name] or 0) + ((done or unknown) and 1 or 0)
  end
  for name in pairs(least) do
    local value = w:query(0, 'counter.value', name).value
    assert(value >= least[name], ('seed %d: %s is %d, acknowledged %d'):format(seed, name, value, least[name]))
    assert(value <= most[name], ('seed %d: %s is %d, possible %d'):format(seed, name, value, most[name]))
  end
end

-- Commands that were answered ok have answers of their own, in the order of real time; linearizable queries see them.
local function hold_order(w, asked, seed)
  local done = {}
  for _, one in ipairs(asked) do
    local r = w:reply(one.number)
    if r.replies == 1 and r.ok then
      one.value, one.ended = r.value, r.at
      done[one.name] = done[one.name] or {}
      table.insert(done[one.name], one)
    end
  end
  for name, list in pairs(done) do
    local seen = {}
    for _, one in ipairs(list) do
      if not one.query then
        assert(not seen[one.value], ('seed %d: two commands on %s were told %d'):format(seed, name, one.value))
        seen[one.value] = true
      end
      for _, other in ipairs(list) do
        if not other.query and other.ended < tonumber(one.began) and not one.stale then
          assert(other.value <= one.value, ('seed %d: %s went back from %d to %d'):format(seed, name, other.value, one.value))
        end
      end
    end
  end
end

describe('replicas under faults', function()
  it(('end every request once and lose nothing, seeds %s to %s'):format(FIRST, LAST), function()
    for seed = tonumber(FIRST), tonumber(LAST) do
      local w, asked = swarm(seed)
      hold_books(w, asked, seed)
      hold_order(w, asked, seed)
    end
  end)
end)
