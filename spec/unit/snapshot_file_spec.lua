-- Snapshot files: what was written is read, the same for the same rows; damage anywhere is told with file and offset; a length
-- that lies allocates nothing; pieces make the file again, and go on where they stopped.
local core = require 'spec.support.core'
local ffi = core.ffi
local file = require 'spec.support.snapshots'
local C = core.load('base/checksum.h', 'storage/snapshot_file.h', 'sim/sim_disk.h')

local OK, CORRUPT, NOT_FOUND, NO_SPACE = 0, tonumber(C.STATUS_CORRUPT), tonumber(C.STATUS_NOT_FOUND), tonumber(C.STATUS_NO_SPACE)

local function disk_for(f)
  return function()
    local disk = C.sim_disk_new(4)
    f(disk)
    disk.free(disk)
  end
end

local function random_rows(seed, count, most)
  local random, rows, section = core.random(seed), {}, 1
  for i = 1, count do
    if random(10) == 1 then section = section + 1 end
    local text = {}
    for k = 1, random(0, most) do text[k] = string.char(random(97, 97 + (seed % 2) * 25)) end
    rows[i] = { section, table.concat(text) }
  end
  return rows
end

-- What a section holds, in order.
local function sections(list)
  local found = {}
  for _, row in ipairs(list) do found[row[1]] = (found[row[1]] or '') .. row[2] end
  for key, text in pairs(found) do if text == '' then found[key] = nil end end
  return found
end

local function u32(n) return string.char(n % 256, math.floor(n / 256) % 256, math.floor(n / 65536) % 256, math.floor(n / 16777216)) end

local function text_hash(hasher, ...)
  for _, part in ipairs { ... } do C.hasher_add(hasher, part, #part) end
end

-- A chunk with a right hash, whatever it says.
local function chunk(number, section, flags, plain, stored, stored_bytes)
  local front = u32(section) .. u32(flags) .. u32(stored_bytes or #stored) .. u32(plain)
  local hasher = C.hasher_new(number)
  text_hash(hasher, front, stored)
  local hash = ffi.new('uint64_t[1]', C.hasher_sum64(hasher))
  C.hasher_free(hasher)
  return front .. ffi.string(hash, 8) .. stored
end

local function front(head, head_bytes)
  local rest = 'SNP1' .. u32(1) .. u32(head_bytes or #head) .. head
  return u32(tonumber(C.crc32c(0, rest, #rest))) .. rest
end

describe('a hash in parts', function()
  it('is the hash of the whole', function()
    local text = ('tide'):rep(300)
    for _, size in ipairs { 0, 1, 16, 100, 240, 241, 1200 } do
      local hasher, whole = C.hasher_new(7), C.hash128(text, size, 7)
      for at = 0, size - 1, 7 do C.hasher_add(hasher, ffi.cast('const char *', text) + at, math.min(7, size - at)) end
      local sum = C.hasher_sum128(hasher)
      assert.is_true(sum.lo == whole.lo and sum.hi == whole.hi)
      C.hasher_reset(hasher, 0)
      C.hasher_add(hasher, text, size)
      assert.equal(C.hash64(text, size), C.hasher_sum64(hasher))
      C.hasher_free(hasher)
    end
  end)
end)

describe('a snapshot file', function()
  it('gives back its head and its sections', disk_for(function(disk)
    for seed = 1, 30 do
      local rows, zstd = random_rows(seed, seed * 3, 400), seed % 3 == 0
      local seal = assert(file.write(disk, 'a', 'head ' .. seed, rows, 1 + seed * 40, zstd))
      local found = assert(file.read(disk, 'a'))
      assert.equal('head ' .. seed, found.head)
      assert.same(sections(rows), sections(found.chunks))
      assert.equal(tonumber(seal.chunks), #found.chunks)
      assert.equal(#file.bytes(disk, 'a'), tonumber(seal.file_bytes))
      local again = ffi.new('struct snapshot_seal[1]')
      assert.equal(OK, tonumber(C.snapshot_read_seal(disk, 'a', again)))
      assert.equal(ffi.string(again, ffi.sizeof(again)), ffi.string(ffi.new('struct snapshot_seal[1]', { seal }), ffi.sizeof(again)))
      assert.equal(ffi.string(again, ffi.sizeof(again)), ffi.string(ffi.new('struct snapshot_seal[1]', { found.seal }), ffi.sizeof(again)))
    end
  end))

  it('is empty, or has no head', disk_for(function(disk)
    assert(file.write(disk, 'a', '', {}))
    local found = assert(file.read(disk, 'a'))
    assert.same({}, found.chunks)
    assert.equal('', found.head)
  end))

  it('keeps what was appended at once in one chunk', disk_for(function(disk)
    file.write(disk, 'a', 'h', { { 1, ('a'):rep(60) }, { 1, ('b'):rep(60) }, { 1, ('c'):rep(300) }, { 1, 'd' }, { 2, 'e' } }, 100)
    assert.same({ { 1, ('a'):rep(60) }, { 1, ('b'):rep(60) }, { 1, ('c'):rep(300) }, { 1, 'd' }, { 2, 'e' } },
      file.read(disk, 'a').chunks)
  end))

  it('splits what exceeds the largest chunk', disk_for(function(disk)
    local most = tonumber(C.SNAPSHOT_CHUNK_BYTES_MAX)
    file.write(disk, 'a', 'h', { { 1, ('x'):rep(most + 5) } }, 100, true)
    local chunks = file.read(disk, 'a').chunks
    assert.same({ most, 5 }, { #chunks[1][2], #chunks[2][2] })
  end))

  it('is the same for the same rows, and another for others', disk_for(function(disk)
    for _, zstd in ipairs { true, false } do
      local rows = random_rows(3, 40, 500)
      local one = file.write(disk, 'a', 'h', rows, 1000, zstd)
      local bytes = file.bytes(disk, 'a')
      file.write(disk, 'b', 'h', rows, 1000, zstd)
      assert.equal(bytes, file.bytes(disk, 'b'))
      rows[40] = { rows[40][1], rows[40][2] .. 'x' }
      local other = file.write(disk, 'b', 'h', rows, 1000, zstd)
      assert.is_false(one.hash.lo == other.hash.lo)
      other = file.write(disk, 'b', 'H', random_rows(3, 40, 500), 1000, zstd)
      assert.is_false(one.hash.lo == other.hash.lo)
    end
  end))

  it('is smaller when it is packed', disk_for(function(disk)
    local rows = { { 1, ('the same again, '):rep(5000) } }
    local plain, packed = file.write(disk, 'a', 'h', rows), file.write(disk, 'b', 'h', rows, 0, true)
    assert.is_true(tonumber(packed.file_bytes) * 20 < tonumber(plain.file_bytes))
    assert.equal(plain.bytes, packed.bytes)
  end))

  for _, zstd in ipairs { false, true } do
    it('tells a flipped bit anywhere, with file and offset' .. (zstd and ', packed too' or ''), disk_for(function(disk)
      assert(file.write(disk, 'a', 'the head', random_rows(2, 12, 60), 100, zstd))
      local whole = file.bytes(disk, 'a')
      for at = 1, #whole do
        local byte = bit.bxor(whole:byte(at), bit.lshift(1, at % 8))
        file.put(disk, 'b', whole:sub(1, at - 1) .. string.char(byte) .. whole:sub(at + 1))
        local found, why, status = file.read(disk, 'b')
        assert(not found, 'byte ' .. at)
        assert.equal(CORRUPT, status, why)
        assert.truthy(why:find('^file b, offset %d+: '), why)
        assert.is_true(tonumber(why:match('offset (%d+)')) <= #whole)
      end
    end))
  end

  it('tells an end that is missing, and one byte too many', disk_for(function(disk)
    assert(file.write(disk, 'a', 'the head', random_rows(2, 12, 60), 100))
    local whole = file.bytes(disk, 'a')
    for size = 0, #whole - 1 do
      file.put(disk, 'b', whole:sub(1, size))
      local found, why, status = file.read(disk, 'b')
      assert(not found and status == CORRUPT and why:find('^file b, offset %d+: '), size .. ' ' .. tostring(why))
      local seal = ffi.new('struct snapshot_seal[1]')
      assert.equal(CORRUPT, tonumber(C.snapshot_read_seal(disk, 'b', seal)))
    end
    file.put(disk, 'b', whole .. 'x')
    assert.truthy(select(2, file.read(disk, 'b')):find('something stands behind the footer', 1, true))
  end))

  it('tells a chunk that was left out, doubled or moved, though each is whole', disk_for(function(disk)
    local rows = {}
    for i = 1, 6 do rows[i] = { 1, ('%02d'):format(i):rep(50) } end
    assert(file.write(disk, 'a', 'h', rows, 100))
    local whole, head, size = file.bytes(disk, 'a'), 17, 124
    local function part(i) return whole:sub(head + 1 + (i - 1) * size, head + i * size) end
    local tail = whole:sub(head + 6 * size + 1)
    for _, order in ipairs { { 1, 2, 4, 5, 6 }, { 1, 1, 2, 3, 4, 5, 6 }, { 2, 1, 3, 4, 5, 6 }, { 1, 2, 3, 4, 5 }, {} } do
      local bytes = whole:sub(1, head)
      for _, i in ipairs(order) do bytes = bytes .. part(i) end
      file.put(disk, 'b', bytes .. tail)
      local found, _, status = file.read(disk, 'b')
      assert(not found and status == CORRUPT)
    end
  end))

  it('believes no length beyond its limit, whatever the checksums say', disk_for(function(disk)
    local big = 4294967295
    local cases = {
      [front('head', big)] = 'longer than the limit', [front('head', 1024 * 1024 + 1)] = 'longer than the limit',
      [front('head', 1000)] = 'cut short',
      [front('h') .. chunk(0, 1, 0, big, 'x')] = 'larger than the limit',
      [front('h') .. chunk(0, 1, 0, 0, '')] = 'empty',
      [front('h') .. chunk(0, 1, 0, 16777217, 'x', 16777217)] = 'larger than the limit',
      [front('h') .. chunk(0, 1, 0, 1000, 'x', 1000)] = 'cut short',
      [front('h') .. chunk(0, 1, 0, 2, 'x')] = 'sizes do not agree',
      [front('h') .. chunk(0, 1, 1, 10, ('x'):rep(20))] = 'sizes do not agree',
      [front('h') .. chunk(0, 1, 1, 16777216, ('x'):rep(20))] = 'cannot be unpacked',
      [front('h') .. chunk(0, 1, 2, 1, 'x')] = 'flags',
      [front('h') .. chunk(0, 2, 0, 1, 'x') .. chunk(1, 1, 0, 1, 'x')] = 'not in order',
      [front('h') .. chunk(0, big, 0, 5, 'wrong')] = 'footer',
      [front('h') .. chunk(0, big, 0, 40, ('x'):rep(40))] = 'footer does not agree',
    }
    for bytes, what in pairs(cases) do
      file.put(disk, 'b', bytes)
      local found, why, status = file.read(disk, 'b')
      assert.is_nil(found)
      assert.equal(CORRUPT, status)
      assert.truthy(why:find(what, 1, true), why .. ', not ' .. what)
    end
  end))

  it('says that a newer layout is newer, and that a file is not there', disk_for(function(disk)
    local rest = 'SNP1' .. u32(2) .. u32(0)
    file.put(disk, 'b', u32(tonumber(C.crc32c(0, rest, #rest))) .. rest)
    local _, why, status = file.read(disk, 'b')
    assert.equal(tonumber(C.STATUS_UNSUPPORTED), status)
    assert.truthy(why:find('layout 2', 1, true), why)
    _, why, status = file.read(disk, 'c')
    assert.equal(NOT_FOUND, status)
    assert.truthy(why:find('file c', 1, true), why)
  end))

  it('counts when it has its name: the newest first', disk_for(function(disk)
    for _, index in ipairs { 5, 4096, 77 } do
      assert(file.write(disk, 'snapshot.new', 'h' .. index, {}))
      assert.equal(OK, tonumber(C.snapshot_publish(disk, 'snapshot.new', index)))
    end
    assert(file.write(disk, 'snapshot.new', 'h', {}))
    file.put(disk, 'snapshot-xyz', '')
    assert.same({ 4096, 77, 5 }, file.list(disk))
    assert.same({ 4096, 77 }, file.list(disk, 2))
    assert.equal('h77', file.read(disk, 'snapshot-000000000000004d').head)
  end))

  it('leaves nothing when it is not sealed, or the disk is full', disk_for(function(disk)
    local writer = ffi.new('struct snapshot_writer *[1]')
    assert.equal(OK, tonumber(C.snapshot_writer_open(disk, 'a', core.slice('h'), 0, false, writer)))
    C.snapshot_writer_close(writer[0])
    assert.equal(NOT_FOUND, select(3, file.read(disk, 'a')))
    C.sim_disk_full(disk, true)
    assert.equal(NO_SPACE, select(2, file.write(disk, 'a', 'h', {})))
    C.sim_disk_full(disk, false)
    assert.equal(NOT_FOUND, select(3, file.read(disk, 'a')))
  end))
end)

describe('a transfer in pieces', function()
  local function send(disk, whole, from, size, upto)
    for at = from, upto - 1, size do
      local piece = whole:sub(at + 1, math.min(at + size, upto))
      assert.equal(OK, tonumber(C.snapshot_write_piece(disk, at, core.slice(piece))))
    end
  end

  it('makes the file again, of any pieces, stopped anywhere', disk_for(function(disk)
    assert(file.write(disk, 'a', 'the head', random_rows(2, 12, 60), 100))
    local whole = file.bytes(disk, 'a')
    for stop = 1, #whole do
      send(disk, whole, 0, 1 + stop % 90, stop)
      local offset, head = file.resume(disk)
      assert.is_true(offset <= stop and (offset == 0 or stop - offset < 24 + 160))
      assert.equal(offset > 0 and 'the head' or '', head)
      assert.equal(offset, offset > 0 and #file.bytes(disk, 'snapshot.in') or 0)
      send(disk, whole, offset, 77, #whole)
      assert.equal(whole, file.bytes(disk, 'snapshot.in'))
      assert.equal(#whole, (file.resume(disk)))
    end
  end))

  it('goes on before the first chunk that is damaged', disk_for(function(disk)
    assert(file.write(disk, 'a', 'h', { { 1, ('a'):rep(100) }, { 1, ('b'):rep(100) }, { 1, ('c'):rep(100) } }, 100))
    local whole = file.bytes(disk, 'a')
    file.put(disk, 'snapshot.in', whole:sub(1, 200) .. 'X' .. whole:sub(202))
    assert.equal(17 + 124, (file.resume(disk)))
    file.put(disk, 'snapshot.in', 'X' .. whole:sub(2))
    assert.equal(0, (file.resume(disk)))
    assert.equal(NOT_FOUND, select(3, file.read(disk, 'snapshot.in')))
    assert.equal(0, (file.resume(disk)))
  end))

  it('takes a piece only where the file ends', disk_for(function(disk)
    local function put(offset, text) return tonumber(C.snapshot_write_piece(disk, offset, core.slice(text))) end
    local INVALID = tonumber(C.STATUS_INVALID)
    assert.equal(INVALID, put(5, 'x'))
    assert.equal(OK, put(0, 'hello'))
    assert.equal(INVALID, put(4, 'x'))
    assert.equal(INVALID, put(6, 'x'))
    assert.equal(OK, put(5, 'more'))
    assert.equal('hellomore', file.bytes(disk, 'snapshot.in'))
    assert.equal(OK, put(0, 'new'))
    assert.equal('new', file.bytes(disk, 'snapshot.in'))
  end))
end)

describe('a real directory', function()
  it('is used by two at a time, each with errors of its own', function()
    local pipe = io.popen('mktemp -d')
    local path = pipe:read('*l')
    pipe:close()
    local disks, why = ffi.new('struct disk *[2]'), core.buffer()
    assert.equal(OK, tonumber(C.disk_posix_open(path, false, true, disks, why)))
    assert.equal(OK, tonumber(C.disk_posix_open(path, false, false, disks + 1, why)))
    local rows = random_rows(5, 100, 2000)
    assert(file.write(disks[1], 'snapshot.new', 'h', rows, 3000, true))
    assert.equal(NOT_FOUND, tonumber(disks[1].remove(disks[1], 'nothing')))
    assert.equal('', ffi.string(disks[0].error(disks[0])))
    assert.equal(OK, tonumber(C.snapshot_publish(disks[1], 'snapshot.new', 9)))
    assert.same({ 9 }, file.list(disks[0]))
    assert.same(sections(rows), sections(file.read(disks[0], 'snapshot-0000000000000009').chunks))
    assert.equal(OK, tonumber(disks[1].room(disks[1], 1)))
    assert.equal(NO_SPACE, tonumber(disks[1].room(disks[1], 2 ^ 60)))
    assert.truthy(ffi.string(disks[1].error(disks[1])):find('MiB are free', 1, true))
    disks[1].free(disks[1])
    disks[0].free(disks[0])
    os.execute('rm -rf ' .. path)
  end)
end)
