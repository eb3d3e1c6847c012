-- tidelock log cat and verify on a directory whose log was compacted, cut and reset, with snapshots beside it.
local core = require 'spec.support.core'
local ffi = core.ffi
local log, file = require 'spec.support.disk_log', require 'spec.support.snapshots'
local C = core.load('storage/identity.h', 'storage/storage.h', 'storage/snapshot_file.h')
local BIN = core.build .. '/tidelock'

local OK = 0
local dir, disk, storage, model

local function sh(command)
  local pipe = assert(io.popen(command .. ' 2>&1; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local function says(words, status, ...)
  local got, said = sh(BIN .. ' log ' .. words .. ' ' .. dir)
  assert.equal(status, got, said)
  for _, text in ipairs { ... } do assert.truthy(said:find(text, 1, true), 'wanted: ' .. text .. '\nsaid: ' .. said) end
end

local function publish(index)
  assert(file.write(disk, 'snapshot.new', 'head', { { 1, 'rows' } }))
  assert.equal(OK, tonumber(C.snapshot_publish(disk, 'snapshot.new', index)))
end

describe('log, of a directory with snapshots', function()
  before_each(function()
    dir = select(2, sh('mktemp -d')):gsub('%s', '')
    local made, why = ffi.new('struct disk *[1]'), core.buffer()
    assert.equal(OK, tonumber(C.disk_posix_open(dir, false, false, made, why)))
    disk, model = made[0], log.model()
    assert.equal(OK, tonumber(C.identity_save(disk, ffi.new('struct identity[1]', { { id = 1, incarnation = 7 } }))))
    storage = assert(log.open(disk))
    for _ = 1, 6 do assert.is_true(log.write(storage, model, { count = 4, term = 2, bytes = 6000 })) end
    assert.equal(OK, (log.compact(storage, model, 20)))
    assert.is_true(log.write(storage, model, { cut = 23, count = 1, term = 3 }))
  end)
  after_each(function()
    C.storage_close(storage)
    disk.free(disk)
    sh('rm -rf ' .. dir)
  end)

  it('shows the base, cuts, resets and snapshots', function()
    publish(20)
    says('cat', 0, ('base: the log begins after entry %d'):format(model.base), 'cut: entries from 23 on were dropped',
      'snapshot: snapshot-0000000000000014 holds what entries up to 20 made')
    says('verify', 0, 'all whole', '1 snapshots, all whole; the newest holds what entries up to 20 made')
    publish(90)
    assert.is_true(log.write(storage, model, { reset = { index = 90, term = 4, chain = 9ULL }, count = 1, term = 4 }))
    says('cat', 0, 'reset: all entries were dropped for a snapshot, the log goes on after 90')
    says('verify', 0, '2 snapshots, all whole')
  end)

  it('tells a gap between snapshot and log, and a damaged snapshot', function()
    says('verify', 1, ('the log begins after entry %d, but the newest snapshot here ends with entry 0'):format(model.base))
    publish(20)
    local bytes = file.bytes(disk, 'snapshot-0000000000000014')
    file.put(disk, 'snapshot-0000000000000014', bytes:sub(1, -9) .. 'x' .. bytes:sub(-7))
    says('verify', 1, 'file snapshot-0000000000000014, offset ')
  end)
end)
