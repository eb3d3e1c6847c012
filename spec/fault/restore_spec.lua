-- Directories that a new cluster begins with, made with a crash or a failure at every operation of the disk: a restored one
-- counts whole or not at all; a recovered one is the old node, or is ended by the same command, and never half of each.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local snapshots = require 'spec.support.snapshots'
local R = require 'spec.support.restored'
local ffi = core.ffi
local C = core.load('base/trace.h', 'replica/recover.h', 'sim/sim_disk.h')

C.log_setup(C.LOG_ERROR, C.LOG_TEXT)

local STEP, OK = 2 ^ 32, 0
local IO, NO_SPACE = tonumber(C.STATUS_IO), tonumber(C.STATUS_NO_SPACE)

local counter = [[return { name = 'counter', version = 1, state = { count = 'map' },
  commands = { add = function(ctx, name, n) return ctx.db.count:add(name, n) end }, queries = {} }]]

-- Runs `life` on what `prepare` made durable, broken at each of its operations; `judge` sees what a restart finds.
local function each(prepare, life, judge, seeds)
  local function run(seed, where, break_it)
    local disk = C.sim_disk_new(seed)
    local facts = prepare(disk)
    C.sim_disk_crash(disk)
    C.sim_disk_restart(disk, 1)
    local before = tonumber(C.sim_disk_operations(disk))
    break_it(disk, before)
    local done, why = life(disk, facts)
    C.sim_disk_calm(disk)
    local operations = tonumber(C.sim_disk_operations(disk)) - before
    if C.sim_disk_crashed(disk) or seed % 2 == 0 then
      C.sim_disk_crash(disk)
      C.sim_disk_restart(disk, seed * 71)
    end
    judge(disk, facts, where, done, why)
    disk.free(disk)
    return operations
  end
  local operations = run(1, 'no fault', function() end)
  assert.is_true(operations > 8)
  for operation = 1, operations do
    for seed = 1, seeds do
      run(seed, ('crash at %d, seed %d'):format(operation, seed), function(disk, before)
        C.sim_disk_crash_at(disk, before + operation)
      end)
    end
    for seed, status in ipairs { IO, NO_SPACE } do
      run(seed, ('status %d at %d'):format(status, operation), function(disk, before)
        C.sim_disk_fail_at(disk, before + operation, status)
      end)
    end
  end
end

local function serve(disk)
  local commands = {}
  for i = 1, 12 do commands[i] = { 'counter.add', 'c' .. i % 5, i } end
  return R.serve(disk, { counter = counter }, commands)
end

-- What a start finds: the state after the newest snapshot and the log; its last index.
local function start(disk, where)
  local options, storage, why = ffi.new('struct storage_options[1]'), ffi.new('struct storage *[1]'), core.buffer()
  options[0].seed, options[0].segment_bytes = 4, 65536
  assert(tonumber(C.storage_open(disk, options, storage, why)) == OK, where .. ': ' .. core.buffer_text(why))
  local how, recovered = ffi.new('struct machine_options[1]'), ffi.new('struct replica_recovered[1]')
  how[0].lua_bytes_max = 64 * 1024 * 1024
  local status = tonumber(C.replica_recover(disk, storage[0], how, ffi.new('struct snapshot_progress[1]'), recovered, why))
  assert(status == OK, where .. ': ' .. core.buffer_text(why))
  local m = setmetatable({ m = ffi.gc(recovered[0].machine, C.machine_free) }, machine)
  local last = tonumber(C.storage_last_index(storage[0]))
  local from, got, records = tonumber(recovered[0].file.index) + 1, ffi.new('raft_index[1]'), core.buffer()
  if last >= from then
    assert(tonumber(C.storage_read(storage[0], from, last, 2 ^ 22, records, got)) == OK)
    local results = ffi.new('struct machine_results[1]')
    assert(tonumber(C.machine_apply(m.m, core.slice(core.buffer_text(records)), false, results)) == last)
  end
  C.storage_close(storage[0])
  C.replica_recovered_close(recovered)
  return m, last
end

jit.off(start)

describe('restore', function()
  it('leaves a whole directory, or one that says that it is none and can be restored into again', function()
    snapshot.with_disk(function(source)
      local m = machine.new { counter = counter }
      for i = 1, 9 do m:call('counter.add', 'c' .. i, i) end
      assert.equal('OK', (snapshot.take(m, source, 'backup')))
      each(function() return m end, function(disk) return R.restore(source, 'backup', disk) end,
        function(disk, _, where, done)
          local _, why, status = R.identity(disk)
          assert(status == 'NOT_FOUND' or status == 'CORRUPT' and why:find('a restore did not end', 1, true), where)
          local hash, sentence = ffi.new('struct hash128[1]'), core.buffer()
          local marked = tonumber(C.restore_read_mark(disk, hash, sentence)) == OK
          assert(not done or marked, where)
          if not marked then
            local report
            report, why = R.restore(source, 'backup', disk)
            assert(report, where .. ': ' .. tostring(why))
          end
          local built, last = start(disk, where)
          assert.equal(m:digest(), built:digest(), where)
          assert.equal(m.index + STEP, last, where)
        end, 5)
    end)
  end)

  it('on a full disk says so, and leaves nothing', function()
    snapshot.with_disk(function(source)
      local m = machine.new { counter = counter }
      assert.equal('OK', (snapshot.take(m, source, 'backup')))
      local disk = C.sim_disk_new(3)
      C.sim_disk_full(disk, true)
      local _, why, status = R.restore(source, 'backup', disk)
      assert.equal('NO_SPACE', status, why)
      assert.is_not.equal('', why)
      C.sim_disk_full(disk, false)
      assert.same({}, R.files(disk))
      assert.is_table(R.restore(source, 'backup', disk))
      disk.free(disk)
    end)
  end)
end)

describe('recover', function()
  -- With `taken`, there is a snapshot already that stands for a part of the log.
  local function prepared(taken)
    return function(disk)
      local m = serve(disk)
      if taken then
        assert.equal('OK', (snapshot.take(m, disk, 'snapshot.new')))
        assert.equal(OK, tonumber(C.snapshot_publish(disk, 'snapshot.new', m.index)))
      end
      snapshots.put(disk, 'snapshot.in', 'half of one')
      return m
    end
  end

  for _, taken in ipairs { false, true } do
    it('leaves the old node, or the new cluster' .. (taken and ', of a snapshot' or ', of a log'), function()
      each(prepared(taken), function(disk) return R.alone(disk) end, function(disk, m, where, done)
        local identity, why = R.identity(disk)
        local fresh = identity and identity.members_count == 1
        assert(not done or fresh, where .. ': ' .. tostring(why))
        if identity and not fresh then
          -- nothing has changed: the old node starts, and the command may be given again
          assert.equal(3, tonumber(identity.members_count))
          local old, last = start(disk, where)
          assert.equal(m.index, last, where)
          assert.equal(m:digest(), old:digest(), where)
        elseif not identity then
          assert(why:find('a recover of this directory did not end', 1, true), where .. ': ' .. why)
        end
        if not fresh then
          local report, sentence = R.alone(disk, nil, 77)
          assert(report, where .. ': ' .. tostring(sentence))
          identity = assert(R.identity(disk), where)
        end
        assert.equal(1, tonumber(identity.members_count), where)
        assert.equal(1, tonumber(identity.formation), where)
        assert.equal('h:1', ffi.string(identity.members[0].address))
        local built, last = start(disk, where)
        assert.equal(m:digest(), built:digest(), where)
        assert.equal(m.index + STEP, last, where)
        local files = ' ' .. table.concat(R.files(disk), ' ') .. ' '
        for _, name in ipairs { 'identity', 'log-00000001', 'vote' } do
          assert(files:find(' before-recover.' .. name .. ' ', 1, true), where .. ': ' .. files)
        end
        assert(not files:find(' snapshot.in ', 1, true) and not files:find(' recovering ', 1, true), where .. files)
      end, taken and 3 or 5)
    end)
  end

  it('tells what it did, and where it was listening may change', function()
    local disk = C.sim_disk_new(3)
    local m = serve(disk)
    local report = assert(R.alone(disk, 'other:99'))
    assert.equal(m.index, report.replayed)
    assert.equal(m.index, report.from)
    assert.equal(m.index + STEP, report.index)
    assert.equal('other:99', ffi.string(R.identity(disk).members[0].address))
    local _, why, status = R.alone(disk)
    assert.equal('EXISTS', status)
    assert.truthy(why:find('files of an earlier recover are still here', 1, true), why)
    disk.free(disk)
  end)

  it('refuses a directory without a node, a bad address, and a damaged one', function()
    local disk = C.sim_disk_new(3)
    local _, why, status = R.alone(disk)
    assert.equal('NOT_FOUND', status)
    assert.truthy(why:find("no node's data is here", 1, true), why)
    serve(disk)
    local before = R.files(disk)
    _, why, status = R.alone(disk, 'nowhere')
    assert.equal('INVALID', status, why)
    assert.same(before, R.files(disk))
    snapshots.put(disk, 'identity', 'x')
    _, why, status = R.alone(disk)
    assert.equal('CORRUPT', status)
    assert.truthy(why:find('file identity is damaged', 1, true), why)
    disk.free(disk)
  end)

  it('on a full disk says so, and the old node is as it was', function()
    local disk = C.sim_disk_new(3)
    local m = serve(disk)
    C.sim_disk_full(disk, true)
    local _, why, status = R.alone(disk)
    assert.equal('NO_SPACE', status, why)
    C.sim_disk_full(disk, false)
    local old = start(disk, 'full')
    assert.equal(m:digest(), old:digest())
    disk.free(disk)
  end)
end)
