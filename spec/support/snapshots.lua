-- spec/support/snapshots.lua: snapshot files on a disk, for specs.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/checksum.h', 'raft/types.h', 'storage/disk.h', 'storage/snapshot_file.h', 'sim/sim_disk.h')

local OK = 0
local snapshots = {}

-- Writes `rows`, a list of { section, text }. Gives the seal, or nil and the status.
function snapshots.write(disk, name, head, rows, chunk_bytes, zstd)
  local writer, seal = ffi.new('struct snapshot_writer *[1]'), ffi.new('struct snapshot_seal[1]')
  local status = tonumber(C.snapshot_writer_open(disk, name, core.slice(head), chunk_bytes or 0, zstd or false, writer))
  if status ~= OK then return nil, status end
  for _, row in ipairs(rows) do
    status = tonumber(C.snapshot_writer_append(writer[0], row[1], core.slice(row[2])))
    if status ~= OK then break end
  end
  if status == OK then status = tonumber(C.snapshot_writer_seal(writer[0], seal)) end
  C.snapshot_writer_close(writer[0])
  if status ~= OK then return nil, status end
  return ffi.new('struct snapshot_seal', seal[0]) -- a copy: the array may go
end

-- Reads it whole: { head =, chunks = { { section, text } }, seal = }; or nil, the sentence, the status.
function snapshots.read(disk, name)
  local reader, why = ffi.new('struct snapshot_reader *[1]'), core.buffer()
  local status = tonumber(C.snapshot_reader_open(disk, name, reader, why))
  if status ~= OK then return nil, core.buffer_text(why), status end
  local found = { head = core.text(C.snapshot_reader_head(reader[0])), chunks = {} }
  local section, bytes, finished = ffi.new('uint32_t[1]'), ffi.new('struct slice[1]'), ffi.new('bool[1]')
  repeat
    status = tonumber(C.snapshot_reader_next(reader[0], section, bytes, finished))
    if status == OK and not finished[0] then
      found.chunks[#found.chunks + 1] = { tonumber(section[0]), core.text(bytes[0]) }
    end
  until status ~= OK or finished[0]
  local text = ffi.string(C.snapshot_reader_why(reader[0]))
  found.seal = C.snapshot_reader_seal(reader[0])
  C.snapshot_reader_close(reader[0])
  if status ~= OK then return nil, text, status end
  return found
end

-- The bytes of a file, as they are.
function snapshots.bytes(disk, name)
  local bytes = core.buffer()
  assert(tonumber(C.snapshot_read_piece(disk, name, 0, 2 ^ 26, bytes)) == OK)
  return core.buffer_text(bytes)
end

-- Makes a file of these bytes.
function snapshots.put(disk, name, bytes)
  local file = ffi.new('struct disk_file *[1]')
  disk.remove(disk, name)
  assert(tonumber(disk.open(disk, name, C.DISK_CREATE, file)) == OK)
  assert(tonumber(disk.write_at(disk, file[0], 0, bytes, #bytes)) == OK)
  disk.close(disk, file[0])
end

-- Indexes of those that count, newest first.
function snapshots.list(disk, max)
  local indexes, count = ffi.new('raft_index[?]', max or 16), ffi.new('size_t[1]')
  assert(tonumber(C.snapshot_list(disk, indexes, max or 16, count)) == OK)
  local found = {}
  for i = 0, tonumber(count[0]) - 1 do found[i + 1] = tonumber(indexes[i]) end
  return found
end

-- Where a transfer would go on, and the head.
function snapshots.resume(disk)
  local offset, head = ffi.new('uint64_t[1]'), core.buffer()
  local status = tonumber(C.snapshot_resume_at(disk, offset, head))
  if status ~= OK then return nil, status end
  return tonumber(offset[0]), core.buffer_text(head)
end

return snapshots
