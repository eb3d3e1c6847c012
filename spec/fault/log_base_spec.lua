-- Compaction and reset of the log: at every operation a crash or a failure, and histories made at random. What a restart finds
-- is what was, or what was to be; never a gap, and never an old tail behind a new base.
local core = require 'spec.support.core'
local ffi = core.ffi
local log = require 'spec.support.disk_log'
local C = core.load('base/trace.h', 'storage/storage.h', 'sim/sim_disk.h')

C.log_setup(C.LOG_ERROR, C.LOG_TEXT)

local OK, CORRUPT, IO, NO_SPACE = 0, tonumber(C.STATUS_CORRUPT), tonumber(C.STATUS_IO), tonumber(C.STATUS_NO_SPACE)

local function files(disk, pattern)
  local count = 0
  local each = ffi.cast('void (*)(void *, const char *)', function(_, name)
    if ffi.string(name):find(pattern) then count = count + 1 end
  end)
  disk.list(disk, each, nil)
  each:free()
  return count
end

-- A short life with all that moves the base. A failed compaction is tried again; a failed write ends it.
local function life(disk, storage, model)
  local function write(what) return log.write(storage, model, what) end
  local function compact(index, segments)
    for _ = 1, 3 do
      if log.compact(storage, model, index, segments) == OK then return true end
      if C.sim_disk_crashed(disk) then return false end
      log.check(storage, model, 'after a failed compaction')
    end
    return true
  end
  return write { count = 1, term = 1 } and write { count = 9, term = 1, bytes = 5000 } and write { count = 9, term = 2, bytes = 6000 }
    and compact(7, 1) and compact(7) and write { count = 8, term = 3, bytes = 7000, cut = 15 } and compact(17)
    and write { count = 5, term = 3, bytes = 9000 }
    and write { reset = { index = 100, term = 4, chain = 77ULL }, count = 2, term = 4, bytes = 3000 } and compact(100)
    and write { count = 9, term = 5, bytes = 6000 } and tonumber(C.storage_mark(storage)) == OK and compact(105)
    and write { count = 3, term = 6, bytes = 100, cut = 109 } and compact(111)
end

-- `wreck`: what the disk promised is destroyed, so a restart may refuse, too. True, operations, refused.
local function run(break_it, seed, where, wreck)
  local disk, model = C.sim_disk_new(seed), log.model()
  break_it(disk)
  local storage = log.open(disk, seed)
  local whole = storage and life(disk, storage, model)
  if wreck then wreck(disk) end
  if storage then C.storage_close(storage) end
  C.sim_disk_restart(disk, seed * 31)
  local last
  for turn = 1, 2 do -- nothing is written between the two: nothing may change
    local again, status, why = log.open(disk, seed)
    if wreck and status == CORRUPT then
      assert.truthy(why:find('^file %S+, offset %d+: '), where .. ': ' .. why)
      local done = tonumber(C.sim_disk_operations(disk))
      disk.free(disk)
      return whole, done, true
    end
    assert(again, where .. ': ' .. why)
    log.check(again, model, where)
    assert.equal(last or model.last, model.last)
    last = model.last
    if turn == 2 then
      assert.is_true(log.write(again, model, { count = 12, term = 9, bytes = 6000 }), where)
      assert.equal(OK, log.compact(again, model, model.last))
      log.check(again, model, where .. ', later')
    end
    C.storage_close(again)
    C.sim_disk_restart(disk, seed * 37)
  end
  local operations = tonumber(C.sim_disk_operations(disk))
  disk.free(disk)
  return whole, operations
end

describe('a log that is compacted and reset', function()
  local operations
  do
    local disk, model = C.sim_disk_new(1), log.model()
    local storage = log.open(disk, 1)
    assert(life(disk, storage, model))
    operations = tonumber(C.sim_disk_operations(disk))
    C.storage_close(storage)
    disk.free(disk)
  end

  it('is what the model says', function()
    assert.is_true(run(function() end, 1, 'no fault'))
    assert.is_true(operations > 60)
  end)

  it('survives a crash at every operation', function()
    for operation = 1, operations do
      for seed = 1, 12 do
        run(function(disk) C.sim_disk_crash_at(disk, operation) end, seed, ('crash at %d, seed %d'):format(operation, seed))
      end
    end
  end)

  for status, name in pairs { [IO] = 'EIO', [NO_SPACE] = 'ENOSPC' } do
    it('survives ' .. name .. ' at every operation', function()
      for operation = 1, operations do
        for seed = 1, 6 do
          run(function(disk) C.sim_disk_fail_at(disk, operation, status) end, seed, ('%s at %d'):format(name, operation))
        end
      end
    end)
  end

  -- What is lost is lost loudly: after a crash at any later operation, too.
  local function wrecks(name, seeds, break_it)
    it('refuses, or has everything, after ' .. name, function()
      local refused = 0
      for operation = 1, operations do
        for crash = operation + 1, operations + 1, 3 do
          for seed = 1, seeds do
            local _, _, no = run(function(disk)
              break_it(disk, operation)
              C.sim_disk_crash_at(disk, crash)
            end, seed, ('%s at %d, crash at %d, seed %d'):format(name, operation, crash, seed), function() end)
            refused = refused + (no and 1 or 0)
          end
        end
      end
      assert.is_true(refused > 100, 'refused ' .. refused)
    end)
  end

  wrecks('a lost write', 1, function(disk, operation) C.sim_disk_lose_write(disk, operation) end)
  wrecks('a misdirected write', 2, function(disk, operation) C.sim_disk_misdirect_write(disk, operation) end)

  it('refuses, or has everything, after a flipped bit', function()
    local random, refused = core.random(11), 0
    for n = 1, 600 do
      local which = random(2 ^ 50)
      local _, _, no = run(function() end, n, 'flip ' .. which, function(disk) C.sim_disk_flip(disk, which) end)
      refused = refused + (no and 1 or 0)
    end
    assert.is_true(refused > 100, 'refused ' .. refused)
  end)

  it('gives nothing more back after a directory that could not be synced', function()
    local found = 0
    for operation = 1, operations do
      local disk, model = C.sim_disk_new(3), log.model()
      local storage = log.open(disk, 3)
      C.sim_disk_fail_at(disk, operation, IO)
      local good = true
      for _ = 1, 6 do good = good and log.write(storage, model, { count = 4, term = 1, bytes = 6000 }) end
      if good then
        local status = log.compact(storage, model, 24, 1)
        local before = model.base
        if status ~= OK and before > 0 then -- the name went, and the directory was not synced
          found = found + 1
          assert.equal(IO, (log.compact(storage, model, 24)))
          assert.equal(before, model.base)
          assert(log.write(storage, model, { count = 1, term = 1 }), operation .. ffi.string(C.storage_why(storage)))
        end
      end
      C.storage_close(storage)
      C.sim_disk_restart(disk, operation)
      local again, _, why = log.open(disk, 3)
      assert(again, why)
      log.check(again, model, 'operation ' .. operation)
      C.storage_close(again)
      disk.free(disk)
    end
    assert.is_true(found > 0)
  end)
end)

describe('a log over many lives', function()
  local function lives(seed)
    local random = core.random(seed)
    local disk, model, term, crashed = C.sim_disk_new(seed), log.model(), 1, false
    for turn = 1, 12 do
      local where = ('seed %d, life %d'):format(seed, turn)
      local storage, _, why = log.open(disk, seed) -- the same salts each time: numbers alone must tell the past
      assert(storage, where .. ': ' .. tostring(why))
      assert(not C.storage_was_torn(storage) or crashed, where .. ': torn, and nothing was being written')
      log.check(storage, model, where)
      local operations = tonumber(C.sim_disk_operations(disk))
      if random(4) > 1 then C.sim_disk_crash_at(disk, operations + random(60)) end
      for _ = 1, random(4, 16) do
        local kind, good = random(10), true
        if kind <= 5 then
          good = log.write(storage, model, { count = random(0, 6), term = term, bytes = random(9000) })
        elseif kind == 6 and model.last > model.base then
          term = term + 1
          good = log.write(storage, model, { cut = random(model.base + 1, model.last), count = random(0, 3), term = term, bytes = 3000 })
        elseif kind == 7 then
          term = term + 1
          good = log.write(storage, model, { reset = { index = model.last + random(0, 20), term = term, chain = 5ULL * random(2 ^ 40) },
            count = random(0, 2), term = term, bytes = 2000 })
        elseif kind == 8 then C.storage_prepare(storage)
        elseif model.last > 0 then
          good = log.compact(storage, model, random(model.base, model.last), random(3)) == OK
        end
        if not good then break end
        if random(5) == 1 and not C.sim_disk_crashed(disk) then log.check(storage, model, where .. ', running') end
      end
      C.storage_close(storage)
      crashed = C.sim_disk_crashed(disk)
      C.sim_disk_restart(disk, seed * 100 + turn)
      assert.is_true(files(disk, '^log%-free') <= 9)
    end
    disk.free(disk)
  end

  it('finds what was, or what was to be, after every crash', function()
    for seed = 1, 150 do lives(seed) end
  end)

  it('uses its files again, and no more of them', function()
    local disk, model, seen = C.sim_disk_new(8), log.model(), 0
    local storage = log.open(disk, 8)
    for turn = 1, 60 do
      assert.is_true(log.write(storage, model, { count = 6, term = 1, bytes = 6000 }))
      while C.storage_prepare(storage) do end
      assert.equal(OK, (log.compact(storage, model, model.last - 5)))
      if turn == 20 then seen = files(disk, '^log%-') end
      if turn > 20 then assert.is_true(files(disk, '^log%-') <= seen + 1) end
    end
    log.check(storage, model, 'in the end')
    assert.is_true(tonumber(C.storage_bytes_after(storage, model.base)) < 4 * 32768)
    assert.equal(0, tonumber(C.storage_bytes_after(storage, model.last)))
    C.storage_close(storage)
    disk.free(disk)
  end)
end)
