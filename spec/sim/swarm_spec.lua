-- Seeds of the simulator: clients and faults on a world of replicas, then rest (sim/swarm.h). SEEDS=A..B runs others (make
-- sim); a seed that fails is named, and is the whole bug report.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/trace.h', 'sim/books.h')

C.log_setup(os.getenv("LOG") and C.LOG_DEBUG or C.LOG_ERROR, C.LOG_TEXT)
local FIRST, LAST = (os.getenv('SEEDS') or '1..25'):match('(%d+)%.%.(%d+)')

local bundles = core.buffer()
C.books_bundles(bundles)

local function run(seed)
  local books = ffi.gc(C.books_new(seed), C.books_free)
  local o = ffi.new('struct swarm_options', { seed = seed, clients = 8, commands_per_second = 100, fault_ms = 15000,
    faults = -1ULL, bundles = core.slice(core.buffer_text(bundles)), workload = C.books_workload(books) })
  local swarm = ffi.gc(C.swarm_new(o), C.swarm_free)
  local report = ffi.new('struct swarm_report')
  C.swarm_run(swarm, report)
  return report, swarm, books
end

describe('a swarm', function()
  it(('finds nothing broken, seeds %s to %s'):format(FIRST, LAST), function()
    local hashes = {}
    local ms, events, ok, unknown, strikes, began = 0, 0, 0, 0, 0, os.clock()
    for seed = tonumber(FIRST), tonumber(LAST) do
      local r, swarm = run(seed)
      if r.broken ~= nil then
        error(('seed %d, %s phase, at %d ms: %s'):format(seed, ffi.string(r.phase), tonumber(C.replica_world_now(C.swarm_world(swarm))),
          ffi.string(r.broken)), 0)
      end
      hashes[#hashes + 1] = ('%d %s'):format(seed, tostring(r.hash))
      ms, events, ok = ms + tonumber(r.ms), events + tonumber(r.events), ok + tonumber(r.ok)
      unknown, strikes = unknown + tonumber(r.unknown), strikes + tonumber(r.strikes)
    end
    -- The suite compares what the builds wrote here: a seed is the same everywhere.
    local file = assert(io.open(core.build .. '/swarm.hashes', 'w'))
    file:write(table.concat(hashes, '\n'), '\n')
    file:close()
    if os.getenv('SEEDS') then
      local s = os.clock() - began
      print(('%d s simulated in %.1f s: %.0f x; %d events, %.0f a second; %d ok, %d unknown, %d strikes'):format(ms / 1000, s,
        ms / 1000 / s, events, events / s, ok, unknown, strikes))
    end
  end)
end)
