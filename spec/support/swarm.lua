-- spec/support/swarm.lua: one seed of the simulator (sim/swarm.h) with its own workload (sim/books.h).
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/trace.h', 'sim/books.h', 'sim/faults.h')

C.log_setup(os.getenv('LOG') and C.LOG_DEBUG or C.LOG_ERROR, C.LOG_TEXT)

local M = { C = C }
local bundles

-- Runs a seed; -> { broken, phase, at, ms, events, ok, refused, unknown, strikes, committed, hash }, and with `traced` its
-- transcript.
function M.run(seed, options, traced)
  if not bundles then
    local buffer = core.buffer()
    C.books_bundles(buffer)
    bundles = core.buffer_text(buffer)
  end
  local books = ffi.gc(C.books_new(seed), C.books_free)
  local o = ffi.new('struct swarm_options', { seed = seed, clients = 8, commands_per_second = 100, fault_ms = 15000,
    faults = -1ULL, bundles = core.slice(bundles), workload = C.books_workload(books) })
  for k, v in pairs(options or {}) do o[k] = v end
  local swarm = ffi.gc(C.swarm_new(o), C.swarm_free)
  local r, transcript = ffi.new('struct swarm_report'), traced and core.buffer()
  if traced then
    C.replica_world_trace(C.swarm_world(swarm), ffi.new('struct trace_sink', { C.transcript_gather, transcript }))
  end
  C.swarm_run(swarm, r)
  local out = { phase = ffi.string(r.phase), hash = tostring(r.hash), broken = r.broken ~= nil and ffi.string(r.broken) or nil }
  local numbers = { 'ms', 'events', 'ok', 'refused', 'unknown', 'strikes', 'committed', 'taken', 'installed' }
  for _, name in ipairs(numbers) do out[name] = tonumber(r[name]) end
  out.at = tonumber(C.replica_world_now(C.swarm_world(swarm)))
  C.swarm_free(ffi.gc(swarm, nil))
  C.books_free(ffi.gc(books, nil))
  return out, traced and core.buffer_text(transcript)
end

return M
