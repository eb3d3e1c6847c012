-- A crash, or a failure, at every single disk operation of a short life of the log: what was acknowledged is there
-- afterwards, the rest is a whole prefix, and a second crash right after recovery changes nothing.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/trace.h', 'base/checksum.h', 'raft/types.h', 'wire/entry.h', 'storage/disk.h', 'storage/identity.h',
  'storage/storage.h', 'sim/sim_disk.h')

C.log_setup(C.LOG_ERROR, C.LOG_TEXT)

local OK, IO, NO_SPACE, CORRUPT = 0, 11, 10, tonumber(C.STATUS_CORRUPT)
local options = ffi.new('struct storage_options[1]', { { segment_bytes = 32768, seed = 5 } })

local function open(disk)
  local storage, why = ffi.new('struct storage *[1]'), core.buffer()
  local status = tonumber(C.storage_open(disk, options, storage, why))
  return status == OK and storage[0] or nil, status, core.buffer_text(why)
end

-- One unit; the model is told before (`tried`) and after (`kept`).
local function write(storage, model, count, term, bytes, cut)
  local from = cut or #model.tried + 1
  for i = #model.tried, from, -1 do model.tried[i] = nil end
  local records, entry, w = core.buffer(), ffi.new('struct entry[1]'), ffi.new('struct storage_write[1]')
  for i = from, from + count - 1 do
    entry[0].index, entry[0].term, entry[0].kind = i, term, 4
    entry[0].payload = core.slice(('p'):rep(bytes))
    C.entry_encode(records, entry, i > 1 and model.tried[i - 1] or 0)
    model.tried[i] = entry[0].chain
  end
  local part = ffi.new('struct slice[1]', { C.buffer_slice(records) })
  w[0].vote, w[0].term, w[0].voted_for, w[0].cut_from = true, term, 1, cut or 0
  w[0].first, w[0].last, w[0].records, w[0].records_count = from, from + count - 1, part, count > 0 and 1 or 0
  model.cutting, model.trying = cut, term
  if tonumber(C.storage_write(storage, w)) ~= OK then return false end
  model.kept, model.term, model.cutting = { unpack(model.tried) }, term, nil
  return true
end

local function life(storage, model)
  return write(storage, model, 1, 1, 20) and write(storage, model, 3, 1, 3000) and tonumber(C.storage_mark(storage)) == OK
    and write(storage, model, 2, 2, 9000) and write(storage, model, 2, 3, 100, 4) and C.storage_prepare(storage) ~= nil
    and write(storage, model, 4, 3, 7000) and write(storage, model, 0, 4, 0) and write(storage, model, 3, 4, 200)
end

-- After a restart: all that was acknowledged, and of the rest only whole, right entries.
local function check(disk, model, where)
  local storage, status, why = open(disk)
  if not storage and model.wrecked and status == CORRUPT then
    assert.truthy(why:find('^file %S+, offset %d+: '), where .. ': ' .. why)
    model.refused = true
    return nil
  end
  if not storage then
    assert.equal(0, #model.kept, where .. ': does not open: ' .. why .. ' ' .. status)
    return nil
  end
  local last = tonumber(C.storage_last_index(storage))
  local least = model.cutting and math.min(#model.kept, model.cutting - 1) or #model.kept
  assert.is_true(last >= least, ('%s: %d of %d entries'):format(where, last, least))
  if last > 0 then
    local chain = C.storage_last_chain(storage)
    assert.is_true(chain == model.tried[last] or chain == model.kept[last], where .. ': an entry that nobody wrote')
  end
  local term, vote = ffi.new('raft_term[1]'), ffi.new('node_id[1]')
  C.storage_vote(storage, term, vote)
  assert.is_true(tonumber(term[0]) >= model.term and tonumber(term[0]) <= model.trying, where .. ': the vote')
  return storage, last
end

local function run(break_it, seed, where, wreck)
  local disk, model = C.sim_disk_new(seed), { tried = {}, kept = {}, term = 0, trying = 0, wrecked = wreck ~= nil }
  break_it(disk)
  local storage = open(disk)
  local whole = storage and life(storage, model)
  if wreck then wreck(disk) end
  if storage then C.storage_close(storage) end
  C.sim_disk_restart(disk, seed * 31)
  local again, last = check(disk, model, where)
  if again then
    C.storage_close(again)
    C.sim_disk_restart(disk, seed * 37) -- nothing was written since: nothing may change
    again = check(disk, model, where .. ', twice')
    assert.equal(last, tonumber(C.storage_last_index(again)))
    C.storage_close(again)
  end
  local operations = tonumber(C.sim_disk_operations(disk))
  disk.free(disk)
  return whole, operations, model.refused
end

describe('the log, over a short life', function()
  local whole, operations = run(function() end, 1, 'no fault')

  it('is whole without a fault', function()
    assert.is_true(whole)
    assert.is_true(operations > 20)
  end)

  it('survives a crash at every operation (bugs 97, 102, 105, 106)', function()
    for operation = 1, operations do
      for seed = 1, 6 do
        run(function(disk) C.sim_disk_crash_at(disk, operation) end, seed, ('crash at %d, seed %d'):format(operation, seed))
      end
    end
  end)

  for status, name in pairs { [IO] = 'EIO', [NO_SPACE] = 'ENOSPC' } do
    it('survives ' .. name .. ' at every operation, and takes no write after (bugs 100, 101)', function()
      for operation = 1, operations do
        run(function(disk) C.sim_disk_fail_at(disk, operation, status) end, 3, ('%s at %d'):format(name, operation))
      end
    end)
  end

  -- What is lost is lost loudly: after a crash at any later operation, too.
  local function wrecks(name, seeds, break_it)
    it('refuses, or has everything, after ' .. name .. ' (bug 98)', function()
      local refused = 0
      for operation = 1, operations do
        for crash = operation + 1, operations + 1 do
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
  wrecks('a misdirected write', 3, function(disk, operation) C.sim_disk_misdirect_write(disk, operation) end)

  it('refuses, or has everything, after a flipped bit', function()
    local random, refused = core.random(11), 0
    for n = 1, 1500 do
      local which = random(2 ^ 50)
      local _, _, no = run(function() end, n, 'flip ' .. which, function(disk) C.sim_disk_flip(disk, which) end)
      refused = refused + (no and 1 or 0)
    end
    assert.is_true(refused > 100, 'refused ' .. refused)
  end)
end)
