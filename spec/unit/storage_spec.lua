-- The log on a real directory: histories of writes, cuts and reopenings against a model; torn tails; flipped bytes.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/checksum.h', 'raft/types.h', 'wire/entry.h', 'storage/disk.h', 'storage/identity.h', 'storage/storage.h')

local OK, CORRUPT = 0, 5
local counter = 0

local function directory()
  counter = counter + 1
  local pipe = io.popen('mktemp -d')
  local path = pipe:read('*l')
  pipe:close()
  return path
end

local function remove(path) os.execute('rm -rf ' .. path) end

local function open(path)
  local disk, storage, why = ffi.new('struct disk *[1]'), ffi.new('struct storage *[1]'), core.buffer()
  assert.equal(OK, tonumber(C.disk_posix_open(path, true, true, disk, why)), core.buffer_text(why))
  local options = ffi.new('struct storage_options[1]', { { segment_bytes = 65536, seed = counter } })
  local status = tonumber(C.storage_open(disk[0], options, storage, why))
  if status ~= OK then
    disk[0].free(disk[0])
    return nil, core.buffer_text(why), status
  end
  return { disk = disk[0], storage = storage[0] }
end

local function close(node)
  C.storage_close(node.storage)
  node.disk.free(node.disk)
end

-- Writes entries after the last one. `chains` is the model: chain by index.
local function write(node, chains, count, term, random, cut)
  local last = cut and cut - 1 or #chains
  for i = #chains, last + 1, -1 do chains[i] = nil end
  local records, w = core.buffer(), ffi.new('struct storage_write[1]')
  local entry = ffi.new('struct entry[1]')
  if cut then w[0].cut_from = cut end
  w[0].first = last + 1
  for i = last + 1, last + count do
    local payload = ('p'):rep(random(10) == 1 and random(20000) or random(50))
    entry[0].index, entry[0].term, entry[0].kind, entry[0].payload = i, term, 4, core.slice(payload)
    C.entry_encode(records, entry, i > 1 and chains[i - 1] or 0)
    chains[i] = entry[0].chain
  end
  w[0].last = last + count
  local part = ffi.new('struct slice[1]', { C.buffer_slice(records) })
  w[0].records, w[0].records_count = part, count > 0 and 1 or 0
  w[0].vote, w[0].term, w[0].voted_for = true, term, 2
  assert.equal(OK, tonumber(C.storage_write(node.storage, w)))
end

local function check(node, chains, term)
  assert.equal(#chains, tonumber(C.storage_last_index(node.storage)))
  if #chains > 0 then assert.equal(chains[#chains], C.storage_last_chain(node.storage)) end
  local t, v = ffi.new('raft_term[1]'), ffi.new('node_id[1]')
  C.storage_vote(node.storage, t, v)
  assert.equal(term, tonumber(t[0]))
  if #chains == 0 then return end
  local records, got, first = core.buffer(), ffi.new('raft_index[1]'), 1
  local entry, seen = ffi.new('struct entry[1]'), 0
  while first <= #chains do
    records.size = 0
    assert.equal(OK, tonumber(C.storage_read(node.storage, first, #chains, 30000, records, got)))
    local at = 0
    while at < tonumber(records.size) do
      assert.equal(OK, tonumber(C.entry_decode(C.slice_make(records.data + at, records.size - at), entry)))
      seen = seen + 1
      assert.equal(chains[seen], entry[0].chain)
      at = at + entry[0].size
    end
    first = tonumber(got[0]) + 1
  end
  assert.equal(#chains, seen)
end

local function history(seed)
  local random, path, chains, term = core.random(seed), directory(), {}, 1
  local node = open(path)
  write(node, chains, 1, term, random)
  for _ = 1, 60 do
    local kind = random(10)
    if kind <= 6 then write(node, chains, random(0, 6), term, random)
    elseif kind == 7 and #chains > 0 then
      term = term + 1
      write(node, chains, random(4), term, random, random(math.max(1, #chains - 10), #chains))
    elseif kind == 8 then C.storage_prepare(node.storage)
    elseif kind == 9 then assert.equal(OK, tonumber(C.storage_mark(node.storage)))
    else
      close(node)
      node = open(path)
      check(node, chains, term)
    end
  end
  check(node, chains, term)
  close(node)
  remove(path)
end

local function bytes_of(path)
  local file = assert(io.open(path, 'rb'))
  local bytes = file:read('*a')
  file:close()
  return bytes
end

local function put(path, bytes)
  local file = assert(io.open(path, 'wb'))
  file:write(bytes)
  file:close()
end

local function prepared()
  local path, chains = directory(), {}
  local node, random = open(path), core.random(9)
  for _ = 1, 5 do write(node, chains, 3, 1, function() return 5 end) end
  close(node)
  return path, chains, random
end

describe('the log', function()
  it('holds what was written, over cuts, segments and reopenings', function()
    for seed = 1, 12 do history(seed) end
  end)

  it('is refused, with file and offset, when an acknowledged byte is flipped (bug 98)', function()
    local path, _, random = prepared()
    local whole = bytes_of(path .. '/log-00000001')
    for _ = 1, 40 do
      local frame = random(0, 4)
      local at = 4096 + frame * 4096 + random(0, 250)
      put(path .. '/log-00000001', whole:sub(1, at) .. string.char(bit.bxor(whole:byte(at + 1), 1 + random(254))) .. whole:sub(at + 2))
      local node, why, status = open(path)
      assert.is_nil(node)
      assert.equal(CORRUPT, status)
      assert.truthy(why:find('file log%-00000001, offset %d+'), why)
    end
    remove(path)
  end)

  it('cuts a torn last write, and what is written after it stays (bug 97)', function()
    local path, chains = prepared()
    local file = path .. '/log-00000001'
    local whole = bytes_of(file)
    -- the sixth frame is the mark of the clean end: put half a frame of another write in its place
    local at = 4096 * 6
    local torn = whole:sub(4097, 4096 + 200):gsub('.', function(c) return string.char((c:byte() + 3) % 256) end)
    put(file, whole:sub(1, at) .. torn .. whole:sub(at + 201))
    local node = assert(open(path))
    assert.is_true(C.storage_was_torn(node.storage))
    check(node, chains, 1)
    write(node, chains, 2, 1, function() return 5 end)
    close(node)
    node = assert(open(path))
    assert.is_false(C.storage_was_torn(node.storage))
    check(node, chains, 1)
    close(node)
    remove(path)
  end)

  it('ends where a last write was cut short, at any byte of it (bug 105)', function()
    local path, chains = prepared()
    local file = path .. '/log-00000001'
    local whole = bytes_of(file)
    -- the fifth frame is the last with entries; behind it the mark, here never written
    local at, size = 4096 * 5, 4096
    while size > 1 and whole:byte(at + size) == 0 do size = size - 1 end
    assert.is_true(size > 150)
    local before = { unpack(chains, 1, #chains - 3) }
    for kept = 0, size - 1 do
      put(file, whole:sub(1, at + kept) .. ('\0'):rep(#whole - at - kept))
      local node = assert(open(path))
      check(node, before, 1)
      assert.equal(kept > 0, C.storage_was_torn(node.storage))
      close(node)
    end
    remove(path)
  end)

  it('tells space that was never written from a write that was torn (bug 99)', function()
    local path, chains = prepared()
    local file = path .. '/log-00000001'
    local whole = bytes_of(file)
    for text, torn in pairs { [('\0'):rep(4096)] = false, [('\0'):rep(4095) .. 'x'] = true, [('x'):rep(4096)] = true } do
      put(file, whole:sub(1, 4096 * 6) .. text .. whole:sub(4096 * 7 + 1))
      local node = assert(open(path))
      assert.equal(torn, C.storage_was_torn(node.storage))
      check(node, chains, 1)
      close(node)
    end
    remove(path)
  end)

  it('is refused when its last segment is gone, or cut short, or one between is gone (bug 104)', function()
    local path, chains = directory(), {}
    local node = open(path)
    while not io.open(path .. '/log-00000003') do write(node, chains, 3, 1, function() return 5 end) end
    close(node)
    local last = path .. '/log-00000003'
    local whole = bytes_of(last)
    put(last, whole:sub(1, 5000))
    local none, why, status = open(path)
    assert.is_nil(none)
    assert.equal(CORRUPT, status)
    assert.truthy(why:find('file log-00000003, offset 4096: the file is shorter than its header says', 1, true), why)
    os.remove(last)
    none, why = open(path)
    assert.is_nil(none)
    assert.truthy(why:find('file log-00000003, offset 0: the log goes on in this file, and it is missing', 1, true), why)
    put(last, whole)
    local between = path .. '/log-00000002'
    os.rename(between, path .. '/aside')
    none, why = open(path)
    assert.is_nil(none)
    assert.truthy(why:find('file log-00000003, offset 0: a segment before this one is missing', 1, true), why)
    os.rename(path .. '/aside', between)
    node = assert(open(path))
    check(node, chains, 1)
    close(node)
    remove(path)
  end)

  it('leaves the disk to votes after a restart: a spare is prewritten once half of the segment is used', function()
    local path, chains = directory(), {}
    local node = open(path)
    write(node, chains, 1, 1, function() return 5 end)
    close(node)
    node = open(path)
    assert.is_false(C.storage_prepare(node.storage))
    assert.is_nil(io.open(path .. '/log-spare'))
    for _ = 1, 8 do write(node, chains, 1, 1, function() return 5 end) end
    C.storage_prepare(node.storage)
    local spare = assert(io.open(path .. '/log-spare'))
    assert.equal(65536, spare:seek('end'))
    spare:close()
    close(node)
    remove(path)
  end)

  it('is compacted, reset and found again', function()
    local log, path, random = require 'spec.support.disk_log', directory(), core.random(6)
    local model, disk, why = log.model(), ffi.new('struct disk *[1]'), core.buffer()
    for turn = 1, 8 do
      assert.equal(OK, tonumber(C.disk_posix_open(path, true, true, disk, why)), core.buffer_text(why))
      local storage = assert(log.open(disk[0], turn))
      assert.is_false(C.storage_was_torn(storage))
      log.check(storage, model, 'turn ' .. turn)
      for _ = 1, 12 do
        assert.is_true(log.write(storage, model, { count = random(5), term = turn, bytes = random(6000) }))
        while random(3) == 1 and C.storage_prepare(storage) do end
      end
      assert.equal(OK, (log.compact(storage, model, random(model.base, model.last))))
      if turn % 3 == 0 then
        assert.is_true(log.write(storage, model, { reset = { index = model.last + turn, term = turn, chain = 3ULL * turn } }))
      end
      log.check(storage, model, 'turn ' .. turn)
      C.storage_close(storage)
      disk[0].free(disk[0])
    end
    assert.is_nil(io.open(path .. '/log-00000001'))
    remove(path)
  end)

  it('has its vote in two slots: one may be lost, not both (bugs 2, 103)', function()
    local path = prepared()
    local whole = bytes_of(path .. '/vote')
    put(path .. '/vote', ('x'):rep(4096) .. whole:sub(4097))
    close(assert(open(path)))
    put(path .. '/vote', ('x'):rep(8192))
    local node, why, status = open(path)
    assert.is_nil(node)
    assert.equal(CORRUPT, status)
    assert.truthy(why:find('file vote, offset 0', 1, true), why)
    os.remove(path .. '/vote')
    assert.truthy(select(2, open(path)):find('vote is missing beside a log', 1, true))
    remove(path)
  end)

  it('belongs to one process at a time', function()
    local path = directory()
    local node, why = open(path), core.buffer()
    local disk = ffi.new('struct disk *[1]')
    assert.not_equal(OK, tonumber(C.disk_posix_open(path, true, true, disk, why)))
    assert.truthy(core.buffer_text(why):find('in use by pid %d+ on '), core.buffer_text(why))
    close(node)
    remove(path)
  end)
end)
