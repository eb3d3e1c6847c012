-- spec/support/restored.lua: directories that a new cluster begins with (replica/restore.h), for specs.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local ffi = core.ffi
local C = core.load('storage/storage.h', 'storage/identity.h', 'wire/entry.h', 'replica/formation.h', 'replica/restore.h',
  'sim/sim_disk.h')

local R = { C = C }
local OK = 0
local names = { [0] = 'OK', [2] = 'INVALID', [5] = 'CORRUPT', [6] = 'MISMATCH', [7] = 'NOT_FOUND', [8] = 'EXISTS',
  [10] = 'NO_SPACE', [11] = 'IO', [14] = 'UNSUPPORTED' }

local function hex(hash) return ('%s%s'):format(tostring(hash.hi), tostring(hash.lo)) end

local function finish(status, why, report)
  local name = names[tonumber(status)] or tostring(tonumber(status))
  if name ~= 'OK' then return nil, core.buffer_text(why), name end
  local r = report[0]
  return { from = tonumber(r.from), index = tonumber(r.index), digest = hex(r.digest), hash = hex(r.hash), rows = tonumber(r.rows),
    replayed = tonumber(r.replayed), aside = tonumber(r.aside), cluster = tostring(r.cluster) }
end

-- `tidelock restore`: -> report; or nil, why, status
function R.restore(source, name, target, format)
  local options, progress = ffi.new('struct machine_options[1]'), ffi.new('struct snapshot_progress[1]')
  local report, why = ffi.new('struct restore_report[1]'), core.buffer()
  options[0].lua_bytes_max = 64 * 1024 * 1024
  if format then options[0].format = core.slice(format) end
  return finish(C.restore_file(source, name, options, target, progress, report, why), why, report)
end

-- `tidelock recover --force-new-cluster`: -> report; or nil, why, status
function R.alone(disk, address, seed)
  local options, progress = ffi.new('struct machine_options[1]'), ffi.new('struct snapshot_progress[1]')
  local report, why = ffi.new('struct restore_report[1]'), core.buffer()
  options[0].lua_bytes_max = 64 * 1024 * 1024
  return finish(C.restore_alone(disk, address, options, seed or 9, progress, report, why), why, report)
end

-- The identity of a directory; nil, why, status.
function R.identity(disk)
  local identity, why = ffi.new('struct identity[1]'), core.buffer()
  local status = C.identity_load(disk, identity, why)
  if tonumber(status) ~= OK then return nil, core.buffer_text(why), names[tonumber(status)] end
  return identity[0], identity -- keep both alive
end

-- Names of the files there, sorted.
function R.files(disk)
  local list = {}
  local each = ffi.cast('void (*)(void *, const char *)', function(_, name) list[#list + 1] = ffi.string(name) end)
  assert(tonumber(disk.list(disk, each, nil)) == OK)
  each:free()
  return list
end

jit.off(R.files)

-- Makes `disk` the directory of node 1 of a cluster of three that has served: formed, `modules` mounted, then `commands`, each
-- { 'mount.name', args... }, in its log. -> a machine that applied the same
function R.serve(disk, modules, commands)
  local identity, why = ffi.new('struct identity[1]'), core.buffer()
  assert(tonumber(C.formation_identity(1, '1=h:1,2=h:2,3=h:3', 5, 11, identity, why)) == OK)
  for i = 1, 2 do identity[0].members[i].incarnation = 100 + i end
  local set = core.buffer()
  C.formation_pack_set(identity[0].members, 3, set)
  identity[0].cluster_id, identity[0].formation = C.formation_cluster_id(core.slice(core.buffer_text(set))), 2
  assert(tonumber(C.identity_save(disk, identity)) == OK)
  local m = machine.empty {}
  local records, chain = core.buffer(), 0ULL
  local function add(kind, payload)
    local entry = ffi.new('struct entry[1]')
    m.index = m.index + 1
    entry[0].index, entry[0].term, entry[0].kind, entry[0].stamp_ms = m.index, 3, kind, 1700000000000 + m.index
    entry[0].payload = core.slice(payload)
    local start = tonumber(records.size)
    C.entry_encode(records, entry, chain)
    chain = entry[0].chain
    local one = core.slice(core.buffer_text(records):sub(start + 1))
    assert(tonumber(m.C.machine_apply(m.m, one, false, m.results)) == m.index)
  end
  add(2, core.buffer_text(set))
  for mount, text in pairs(modules) do add(3, assert(machine.bundle(mount, text))) end
  for _, c in ipairs(commands) do add(4, machine.pack(c[1]) .. machine.pack { n = #c - 1, unpack(c, 2) }) end
  local options, storage = ffi.new('struct storage_options[1]'), ffi.new('struct storage *[1]')
  options[0].seed, options[0].segment_bytes = 3, 65536
  assert(tonumber(C.storage_open(disk, options, storage, why)) == OK, core.buffer_text(why))
  local bytes = core.buffer_text(records)
  local write, parts = ffi.new('struct storage_write[1]'), ffi.new('struct slice[1]')
  parts[0] = core.slice(bytes)
  write[0].vote, write[0].term, write[0].voted_for = true, 3, 1
  write[0].records, write[0].records_count, write[0].first, write[0].last = parts, 1, 1, m.index
  assert(tonumber(C.storage_write(storage[0], write)) == OK)
  C.storage_close(storage[0])
  return m
end

-- Makes `disk` a restored directory as `tidelock restore` would, from a machine, but only `step` entries further.
function R.near(m, disk, step)
  local seal = snapshot.with_disk(function(other)
    assert(snapshot.take(m, other, 'a') == 'OK')
    local built = assert(snapshot.build(other, 'a'))
    C.machine_begin_anew(built.m, step)
    local status, why, made = snapshot.take(built, disk, 'snapshot.new')
    assert(status == 'OK', why)
    return made
  end)
  local index = m.index + step
  assert(tonumber(C.snapshot_publish(disk, 'snapshot.new', index)) == OK)
  local mark = core.buffer()
  C.pack_array(mark, 3)
  C.pack_u64(mark, 1)
  C.pack_u64(mark, seal.hash.hi)
  C.pack_u64(mark, seal.hash.lo)
  assert(tonumber(C.storage_put_file(disk, 'restored', core.slice(core.buffer_text(mark)))) == OK)
  return index
end

return R
