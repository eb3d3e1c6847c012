-- Snapshots and the log, at every operation a crash or a failure: a snapshot counts whole or not at all, and an installation
-- leaves the old state or the new one, never a new snapshot with an old tail of the log behind it.
local core = require 'spec.support.core'
local ffi = core.ffi
local log, file = require 'spec.support.disk_log', require 'spec.support.snapshots'
local C = core.load('base/trace.h', 'storage/storage.h', 'storage/snapshot_file.h', 'sim/sim_disk.h')

C.log_setup(C.LOG_ERROR, C.LOG_TEXT)

local OK, CORRUPT, IO, NO_SPACE = 0, tonumber(C.STATUS_CORRUPT), tonumber(C.STATUS_IO), tonumber(C.STATUS_NO_SPACE)

local rows = {}
for i = 1, 40 do rows[i] = { i > 3 and 2 or 1, ('row %d '):format(i):rep(20) } end

-- A head of these specs: what a log would have to hold.
local function head(at) return ('%d %d %s'):format(at.index, at.term, tostring(at.chain)) end

local function base_of(text)
  local index, term, chain = text:match('^(%d+) (%d+) (%d+)ULL$')
  return { index = tonumber(index), term = tonumber(term), chain = loadstring('return ' .. chain .. 'ULL')() }
end

local nothing = { index = 0, term = 0, chain = 0ULL }

local function settle(storage, at)
  local base, reset, why = ffi.new('struct storage_base[1]', { at }), ffi.new('bool[1]'), core.buffer()
  local status = tonumber(C.storage_settle_snapshot(storage, base, reset, why))
  return status, reset[0], core.buffer_text(why)
end

-- What a start does: the newest snapshot, read whole; the log; both in agreement. Gives the snapshot's base.
local function start(disk, where)
  local newest, at = file.list(disk)[1], nothing
  if newest then
    local name = ffi.new('char[64]')
    C.snapshot_name(name, newest)
    local found, why = file.read(disk, ffi.string(name))
    assert(found, where .. ': a snapshot that counts is damaged: ' .. tostring(why))
    at = base_of(found.head)
    assert.equal(newest, at.index)
  end
  local storage, _, why = log.open(disk)
  assert(storage, where .. ': ' .. tostring(why))
  local status, reset, sentence = settle(storage, at)
  assert(status == OK, where .. ': ' .. sentence)
  return storage, at, reset
end

-- Runs `life` on a disk that is prepared and durable, breaks it, and shows `judge` what a restart finds.
local function each(prepare, life, judge, seeds, statuses)
  local function run(seed, where, break_it)
    local disk, model = C.sim_disk_new(seed), log.model()
    local storage = assert(log.open(disk))
    prepare(disk, storage, model)
    local before = tonumber(C.sim_disk_operations(disk))
    break_it(disk, before)
    local done = life(disk, storage, model)
    C.sim_disk_calm(disk)
    if done == nil then assert(C.sim_disk_crashed(disk) or where:find('status'), where) end
    C.storage_close(storage)
    local operations = tonumber(C.sim_disk_operations(disk)) - before
    C.sim_disk_restart(disk, seed * 71)
    judge(disk, model, where, done)
    disk.free(disk)
    return operations
  end
  local operations = run(1, 'no fault', function() end)
  assert.is_true(operations > 4)
  for operation = 1, operations do
    for seed = 1, seeds do
      run(seed, ('crash at %d, seed %d'):format(operation, seed), function(disk, before)
        C.sim_disk_crash_at(disk, before + operation)
      end)
    end
    for _, status in ipairs(statuses or { IO, NO_SPACE }) do
      run(2, ('status %d at %d'):format(status, operation), function(disk, before)
        C.sim_disk_fail_at(disk, before + operation, status)
      end)
    end
  end
  return operations
end

local function prepare(_, storage, model)
  for _ = 1, 6 do assert(log.write(storage, model, { count = 4, term = 2, bytes = 6000 })) end
end

describe('taking a snapshot', function()
  it('leaves a whole one that counts, or none, and then the log (bug 80)', function()
    each(prepare, function(disk, storage, model)
      local at = log.base_at(model, 20)
      if not file.write(disk, 'snapshot.new', head(at), rows, 500, true) then
        assert.is_true(C.sim_disk_crashed(disk) or #file.list(disk) == 0)
        return nil
      end
      if tonumber(C.snapshot_publish(disk, 'snapshot.new', 20)) ~= OK then return nil end
      local status = log.compact(storage, model, 20)
      return status == OK or nil
    end, function(disk, model, where, done)
      local storage, at = start(disk, where)
      assert(not done or at.index == 20, where)
      log.check(storage, model, where)
      C.storage_close(storage)
    end, 6)
  end)
end)

describe('removing a snapshot', function()
  it('in steps leaves no part of it under its name', function()
    local size = 5 * 1024 * 1024
    each(function(disk)
      file.put(disk, 'snapshot-0000000000000014', ('x'):rep(size))
      local made = ffi.new('struct disk_file *[1]')
      assert(tonumber(disk.open(disk, 'snapshot-0000000000000014', 0, made)) == OK)
      assert(tonumber(disk.sync(disk, made[0])) == OK and tonumber(disk.sync_directory(disk)) == OK)
      disk.close(disk, made[0])
    end, function(disk)
      return tonumber(C.snapshot_remove(disk, 'snapshot-0000000000000014')) == OK and tonumber(disk.sync_directory(disk)) == OK or nil
    end, function(disk, _, where, done)
      assert(not done or #file.list(disk) == 0, where)
      if #file.list(disk) > 0 then assert.equal(size, #file.bytes(disk, 'snapshot-0000000000000014'), where) end
    end, 4)
    local disk = C.sim_disk_new(1)
    assert.equal(OK, tonumber(C.snapshot_remove(disk, 'there is none')))
    disk.free(disk)
  end)
end)

describe('installing a snapshot', function()
  -- Received in pieces, read whole, published, the log reset, old segments given back, and it goes on.
  local function install(at, keeps)
    return function(disk, storage, model)
      local source = C.sim_disk_new(1)
      assert(file.write(source, 'a', head(at), rows, 500))
      local whole, offset = file.bytes(source, 'a'), 0
      source.free(source)
      while offset < #whole do
        if tonumber(C.snapshot_write_piece(disk, offset, core.slice(whole:sub(offset + 1, offset + 1700)))) ~= OK then return nil end
        offset = offset + 1700
      end
      if not file.read(disk, 'snapshot.in') then return nil end
      if tonumber(C.snapshot_publish(disk, 'snapshot.in', at.index)) ~= OK then return nil end
      if keeps then
        local status, reset = settle(storage, at)
        assert.is_false(reset)
        if status ~= OK then return nil end
      elseif not log.write(storage, model, { reset = at }) then return nil end
      if log.compact(storage, model, at.index) ~= OK then return nil end
      return log.write(storage, model, { count = 3, term = 5, bytes = 100 }) or nil
    end
  end

  local function judge(target, keeps)
    return function(disk, model, where, done)
      local old = model.stages and model.stages[1].most or model.last
      local storage, at, reset = start(disk, where)
      if done then assert.equal(target.index, at.index) end
      if at.index == target.index and not keeps then
        -- the new state: nothing of the old log, whether or not the reset was durable
        assert.is_true(tonumber(C.storage_base(storage).index) == target.index, where)
        assert.is_true(C.storage_base(storage).chain == target.chain, where)
        if reset then assert.equal(target.index, tonumber(C.storage_last_index(storage))) end
      else -- the old one, whole; or the new one with all that follows it
        assert.is_false(reset, where)
        assert.is_true(tonumber(C.storage_last_index(storage)) >= math.min(old, 24), where)
        log.check(storage, model, where)
      end
      C.storage_close(storage)
      local again, same = start(disk, where .. ', twice')
      assert.equal(at.index, same.index)
      C.storage_close(again)
    end
  end

  it('of what lies ahead leaves old or new (bug 74)', function()
    local at = { index = 500, term = 4, chain = 99ULL }
    each(prepare, install(at, false), judge(at, false), 8)
  end)

  it('of what conflicts leaves old or new, and no old tail behind it', function()
    local at = { index = 15, term = 4, chain = 99ULL }
    each(prepare, install(at, false), judge(at, false), 8)
  end)

  it('of what the log holds keeps what follows', function()
    local probe, model = C.sim_disk_new(1), log.model()
    local storage = assert(log.open(probe))
    prepare(probe, storage, model)
    local at = log.base_at(model, 15)
    C.storage_close(storage)
    probe.free(probe)
    each(prepare, install(at, true), judge(at, true), 8)
  end)

  it('goes on where the transfer stopped, after a crash at any operation', function()
    local source = C.sim_disk_new(1)
    assert(file.write(source, 'a', head(nothing), rows, 500, true))
    assert(file.write(source, 'b', 'another head', { { 1, 'other' }, { 2, ('rows '):rep(900) } }, 500))
    local whole, other = file.bytes(source, 'a'), file.bytes(source, 'b')
    source.free(source)
    local function send(disk, bytes, from)
      for at = from, #bytes - 1, 300 do
        if tonumber(C.snapshot_write_piece(disk, at, core.slice(bytes:sub(at + 1, at + 300)))) ~= OK then return nil end
      end
      return true
    end
    each(function(disk) assert(send(disk, other, 0)) end, function(disk) return send(disk, whole, 0) end,
      function(disk, _, where)
        local offset, at = file.resume(disk)
        assert(offset, where)
        assert(offset == 0 or at == head(nothing) or at == 'another head', where)
        if at ~= head(nothing) then offset = 0 end -- of another snapshot: begun anew
        assert(send(disk, whole, offset), where)
        local found, why = file.read(disk, 'snapshot.in')
        assert(found, where .. ': ' .. tostring(why))
        assert.equal(whole, file.bytes(disk, 'snapshot.in'))
      end, 12)
  end)
end)

describe('the log beside a snapshot', function()
  local disk, storage, model
  before_each(function()
    disk, model = C.sim_disk_new(1), log.model()
    storage = assert(log.open(disk))
    prepare(disk, storage, model)
  end)
  after_each(function()
    C.storage_close(storage)
    disk.free(disk)
  end)

  it('is kept when it holds the last entry, or stands right behind it', function()
    for _, index in ipairs { 0, 1, 15, 24 } do
      local status, reset = settle(storage, index == 0 and nothing or log.base_at(model, index))
      assert.same({ OK, false }, { status, reset })
    end
    assert.equal(OK, (log.compact(storage, model, 24)))
    assert.same({ OK, false, '' }, { settle(storage, log.base_at(model, model.base)) })
    log.check(storage, model, 'kept')
  end)

  it('is refused when what lies between is gone', function()
    assert.equal(OK, (log.compact(storage, model, 24)))
    assert.is_true(model.base > 0)
    for _, at in ipairs { nothing, log.base_at(model, model.base - 1) } do
      local status, reset, why = settle(storage, at)
      assert.same({ CORRUPT, false }, { status, reset })
      assert.truthy(why:find(('begins after entry %d, but the newest snapshot here ends with entry %d'):format(model.base, at.index),
        1, true), why)
    end
    log.check(storage, model, 'refused')
  end)

  it('is refused, and not cut, when the same term has another entry there', function()
    local at = log.base_at(model, 15)
    local status, reset, why = settle(storage, { index = 15, term = at.term, chain = at.chain + 1 })
    assert.same({ CORRUPT, false }, { status, reset })
    assert.truthy(why:find('entry 15 of the log', 1, true), why)
    log.check(storage, model, 'refused')
  end)

  it('refuses to begin anew without its first segments when no snapshot tells what they held', function()
    C.storage_close(storage)
    C.sim_disk_restart(disk, 2)
    assert.equal(OK, tonumber(disk.remove(disk, 'log-00000001')))
    assert.equal(OK, tonumber(disk.remove(disk, 'log-00000002')))
    storage = assert(log.open(disk))
    assert.equal(CORRUPT, (settle(storage, nothing)))
  end)
end)
