-- spec/support/snapshot.lua: snapshots of the machines of spec/support/machine.lua, in a directory that is taken away.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local ffi = core.ffi
local C = core.load('storage/disk.h', 'storage/snapshot_file.h', 'machine/snapshot.h')

local S = {}
local statuses = { [0] = 'OK', [2] = 'INVALID', [5] = 'CORRUPT', [7] = 'NOT_FOUND', [14] = 'UNSUPPORTED', [15] = 'CANCELLED' }

local function status_name(status) return statuses[tonumber(status)] or tostring(tonumber(status)) end

-- A directory that is there, without its lock.
function S.disk(path)
  local disk, why = ffi.new('struct disk *[1]'), core.buffer()
  assert(tonumber(C.disk_posix_open(path, false, false, disk, why)) == 0, core.buffer_text(why))
  return disk[0]
end

-- f(disk, path) with a directory of its own.
function S.with_disk(f)
  local pipe = io.popen('mktemp -d')
  local path = pipe:read('*l')
  pipe:close()
  local disk = S.disk(path)
  local results = { pcall(f, disk, path) }
  disk.free(disk)
  os.execute('rm -rf ' .. path)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

function S.freeze(m) return C.machine_freeze(m.m) end

function S.thaw(m, frozen) C.machine_thaw(m.m, frozen) end

-- Takes a snapshot of what was frozen. options: format (a bundle), lossy, chunk_bytes, cancel -> 'OK' | status, why
function S.take_frozen(frozen, disk, name, options)
  options = options or {}
  local o, progress = ffi.new('struct snapshot_options[1]'), ffi.new('struct snapshot_progress[1]')
  local seal, why = ffi.new('struct snapshot_seal[1]'), core.buffer()
  o[0].chunk_bytes = options.chunk_bytes or 0
  o[0].lossy = options.lossy or false
  o[0].lua_bytes_max = options.lua_bytes_max or 0
  if options.format then o[0].format = core.slice(options.format) end
  progress[0].cancel = options.cancel or false
  local status = status_name(C.snapshot_take(frozen, o, disk, name, progress, seal, why))
  return status, core.buffer_text(why), seal[0]
end

jit.off(S.take_frozen) -- a spec's disk may call back into Lua, which compiled code cannot have

function S.take(m, disk, name, options)
  local frozen = S.freeze(m)
  local status, why, seal = S.take_frozen(frozen, disk, name, options)
  S.thaw(m, frozen)
  return status, why, seal
end

-- Builds a machine of a file -> machine, head; or nil, why, status
function S.build(disk, name, options)
  options = options or {}
  local o, progress = ffi.new('struct machine_options[1]'), ffi.new('struct snapshot_progress[1]')
  local out, head = ffi.new('struct machine *[1]'), ffi.new('struct snapshot_head[1]')
  local configuration, why = core.buffer(), core.buffer()
  o[0].lua_bytes_max = 64 * 1024 * 1024
  if options.format then o[0].format = core.slice(options.format) end
  progress[0].cancel = options.cancel or false
  local status = status_name(C.snapshot_build(disk, name, o, progress, out, head, configuration, why))
  if status ~= 'OK' then return nil, core.buffer_text(why), status end
  local m = setmetatable({ C = machine.C, index = tonumber(head[0].index), m = ffi.gc(out[0], C.machine_free),
    results = ffi.new('struct machine_results[1]'), now = tonumber(head[0].stamp_ms) }, machine)
  return m, head[0], core.buffer_text(configuration)
end

-- What `snapshot inspect` gets; nil, why.
function S.inspect(disk, name)
  local out, why = core.buffer(), core.buffer()
  if tonumber(C.snapshot_inspect(disk, name, out, why)) ~= 0 then return nil, core.buffer_text(why) end
  return (machine.unpack(core.buffer_text(out)))
end

return S
