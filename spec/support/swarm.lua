-- spec/support/swarm.lua: one seed of the simulator (sim/swarm.h) with its own workload (sim/books.h).
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/trace.h', 'sim/books.h', 'sim/faults.h')

C.log_setup(os.getenv('LOG') and C.LOG_DEBUG or C.LOG_ERROR, C.LOG_TEXT)

local M = { C = C }
local bundles, governed

-- Runs a seed; -> { broken, phase, at, ms, events, ok, refused, unknown, strikes, committed, hash, ... }, and with `traced` its
-- transcript.
-- The books, and a policy that decides soon.
local function with_policy(list)
  local machine = require 'spec.support.machine'
  local source = assert(assert(io.open('lua/tidelock/policy.lua')):read('*a'))
  local text = "return require 'tidelock.policy'.autopilot { target = 3, steady = 400, dead = 1500, forget = 6000 }"
  local bundle = machine.pack { 1, 'policy', '', 'policy', { { 'policy', text }, { 'tidelock.policy', source } } }
  return machine.pack { machine.unpack(list)[1], bundle }
end

function M.run(seed, options, traced)
  if not bundles then
    local buffer = core.buffer()
    C.books_bundles(buffer)
    bundles = core.buffer_text(buffer)
  end
  local books = ffi.gc(C.books_new(seed), C.books_free)
  governed = governed or with_policy(bundles)
  local o = ffi.new('struct swarm_options', { seed = seed, clients = 8, commands_per_second = 100, fault_ms = 15000,
    faults = -1ULL, bundles = core.slice(options and options.churn == 2 and governed or bundles), workload = C.books_workload(books) })
  for k, v in pairs(options or {}) do o[k] = v end
  local swarm = ffi.gc(C.swarm_new(o), C.swarm_free)
  local r, transcript = ffi.new('struct swarm_report'), traced and core.buffer()
  if traced then
    C.replica_world_trace(C.swarm_world(swarm), ffi.new('struct trace_sink', { C.transcript_gather, transcript }))
  end
  C.swarm_run(swarm, r)
  local out = { phase = ffi.string(r.phase), hash = tostring(r.hash), broken = r.broken ~= nil and ffi.string(r.broken) or nil }
  local numbers = { 'ms', 'events', 'ok', 'refused', 'unknown', 'strikes', 'committed', 'taken', 'installed', 'asked', 'granted', 'joined',
    'removed', 'lost' }
  for _, name in ipairs(numbers) do out[name] = tonumber(r[name]) end
  out.at = tonumber(C.replica_world_now(C.swarm_world(swarm)))
  C.swarm_free(ffi.gc(swarm, nil))
  C.books_free(ffi.gc(books, nil))
  return out, traced and core.buffer_text(transcript)
end

return M
