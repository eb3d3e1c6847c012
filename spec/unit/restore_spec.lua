-- Restoring a snapshot's file into a directory, and what is refused (replica/restore.h); exports and what they are good for.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local snapshots = require 'spec.support.snapshots'
local R = require 'spec.support.restored'
local ffi = core.ffi

local STEP = 2 ^ 32

local function file(path)
  local f = assert(io.open(path))
  local text = f:read('*a')
  f:close()
  return text
end

local formats = { rows = false, jsonl = file('examples/formats/jsonl.lua'), sorted_text = file('examples/formats/sorted_text.lua'),
  csv_orders = file('examples/formats/csv_orders.lua') }
local services = { counter = { { 'add', 'apples', 3 }, { 'add', 'pears', -1.5 } },
  kv = { { 'set', 'a', { 1, { b = 2 } } }, { 'set', 'gone', 1 }, { 'del', 'gone' } },
  bank = { { 'open', 'ada', 10 }, { 'open', 'bob' }, { 'transfer', 'ada', 'bob', 3 }, { 'transfer', 'ada', 'nobody', 3 } },
  orders = { { 'place', 'ada', 'lamp', 2, 19.5 }, { 'place', 'bob', 'a "chair"', 1, 1 / 3, 'n,o' }, { 'pay', 1 } } }

local function format(text) return text and assert(machine.format(text)) end

local function hex(hash) return tostring(hash.hi) .. tostring(hash.lo) end

-- A machine of a service that has done something.
local function served(name, format_text)
  local m = machine.new { [name] = file('examples/' .. name .. '.lua') }
  if format_text then m:entry(3, format(format_text)) end
  for _, c in ipairs(services[name]) do m:call(name .. '.' .. c[1], unpack(c, 2)) end
  return m
end

local function kv() return served('kv') end

-- f(source, target, path of the target), two directories
local function with_disks(f)
  snapshot.with_disk(function(source)
    snapshot.with_disk(function(target, path) f(source, target, path) end)
  end)
end

describe('restore', function()
  for service in pairs(services) do
    for name, text in pairs(formats) do
      it(('gives the digest of the header: %s in the format %s'):format(service, name), function()
        with_disks(function(source, target)
          local m = served(service, text)
          assert.equal('OK', (snapshot.take(m, source, 'backup')))
          local _, old = snapshot.build(source, 'backup')

          local report, why = R.restore(source, 'backup', target)

          assert.is_table(report, why)
          local index = snapshots.list(target)[1]
          local built, head = snapshot.build(target, ('snapshot-%016x'):format(index))
          assert.equal(m:digest(), built:digest())
          assert.equal(hex(old.digest), hex(head.digest))
          assert.equal(hex(old.tree_digest), hex(head.tree_digest))
          assert.equal(hex(old.digest), report.digest)
          assert.equal(m.index, report.from)
          assert.equal(m.index + STEP, index)
          assert.equal(name, ffi.string(head.format))
        end)
      end)
    end
  end

  it('gives a state that goes on: ids, counters, time, answers', function()
    with_disks(function(source, target)
      local m = served('orders')
      assert.equal('OK', (snapshot.take(m, source, 'backup')))
      assert.is_table(R.restore(source, 'backup', target))
      local built = snapshot.build(target, ('snapshot-%016x'):format(m.index + STEP))
      built:entry(2, 'another set')
      assert.equal(3, built:call('orders.place', 'eve', 'bed', 1, 2))
      assert.same({ 1 }, built:query('orders.of', 'ada'))
      assert.equal(3, m:call('orders.place', 'eve', 'bed', 1, 2))
      assert.equal(m:digest(), built:digest())
    end)
  end)

  it('gives the same bytes in every directory', function()
    snapshot.with_disk(function(source)
      assert.equal('OK', (snapshot.take(kv(), source, 'backup', { chunk_bytes = 300 })))
      local one
      for _ = 1, 3 do
        snapshot.with_disk(function(target)
          local report = assert(R.restore(source, 'backup', target))
          one = one or report.hash
          assert.equal(one, report.hash)
        end)
      end
    end)
  end)

  it('may be done again of what was restored', function()
    with_disks(function(source, target)
      local m = kv()
      assert.equal('OK', (snapshot.take(m, source, 'backup')))
      assert.is_table(R.restore(source, 'backup', target))
      snapshot.with_disk(function(third)
        local report = assert(R.restore(target, ('snapshot-%016x'):format(m.index + STEP), third))
        assert.equal(m.index + 2 * STEP, report.index)
        assert.equal(m.index + STEP, report.from)
      end)
    end)
  end)

  describe('with a format of another version', function()
    local old_text = [=[return { name = 'lines', version = 1,
      write = function(out, view) for m, n, map in view:maps() do for k, v in map:pairs() do out:pack({ m, n, k, v }) end end end,
      read = function(inp, ctx)
        while true do
          local more, row = inp:unpack()
          if not more then return true end
          ctx.db[row[1]][row[2]]:put(row[3], row[4])
        end
      end }]=]
    local new_text = [=[return { name = 'lines', version = 2,
      write = function(out, view) for m, n, map in view:maps() do for k, v in map:pairs() do out:pack({ v, k, n, m }) end end end,
      read = function(inp, ctx)
        while true do
          local more, row = inp:unpack()
          if not more then return true end
          if inp.version < 2 then row = { row[4], row[3], row[2], row[1] } end
          ctx.db[row[4]][row[3]]:put(row[2], row[1])
        end
      end }]=]

    it('reads the older file, as its read sees by inp.version', function()
      with_disks(function(source, target)
        local m = served('kv', old_text)
        assert.equal('OK', (snapshot.take(m, source, 'backup')))
        local report, why = R.restore(source, 'backup', target, format(new_text))
        assert.is_table(report, why)
        assert.equal(m:digest(), snapshot.build(target, ('snapshot-%016x'):format(report.index)):digest())
      end)
    end)

    it('that cannot read it: says so, and leaves nothing', function()
      with_disks(function(source, target)
        assert.equal('OK', (snapshot.take(served('kv', old_text), source, 'backup')))
        local report, why, status = R.restore(source, 'backup', target, format(formats.jsonl))
        assert.is_nil(report)
        assert.equal('UNSUPPORTED', status)
        assert.truthy(why:find('backup: UNREADABLE, written by the format lines 1: ', 1, true), why)
        assert.same({}, R.files(target))
      end)
    end)
  end)

  describe('refuses', function()
    local function refused(wanted, said, spoil)
      with_disks(function(source, target)
        assert.equal('OK', (snapshot.take(kv(), source, 'backup')))
        spoil(source, target)
        local before = table.concat(R.files(target), ' ')
        local report, why, status = R.restore(source, 'backup', target)
        assert.is_nil(report)
        assert.equal(wanted, status, why)
        assert.truthy(why:find(said, 1, true), why)
        assert.equal(before, table.concat(R.files(target), ' '))
      end)
    end

    it('a file with any bit flipped, or cut anywhere', function()
      with_disks(function(source, target)
        assert.equal('OK', (snapshot.take(kv(), source, 'backup', { chunk_bytes = 200 })))
        local bytes, random = snapshots.bytes(source, 'backup'), core.random(5)
        for at = 1, 120 do
          local place = at <= 20 and at or random(#bytes)
          local bad = bytes:sub(1, place - 1)
          if random(2) == 1 then
            bad = bad .. string.char(bit.bxor(bytes:byte(place), 2 ^ random(0, 7))) .. bytes:sub(place + 1)
          end
          snapshots.put(source, 'bad', bad)
          local report, why, status = R.restore(source, 'bad', target)
          assert.is_nil(report, 'place ' .. place)
          assert.truthy(status == 'CORRUPT' or status == 'UNSUPPORTED', status)
          assert.truthy(why:find('bad', 1, true), why)
          assert.same({}, R.files(target))
        end
      end)
    end)

    it('a file of something else', function()
      refused('CORRUPT', 'file backup', function(source) snapshots.put(source, 'backup', ('hello '):rep(1000)) end)
      refused('CORRUPT', 'file backup', function(source) snapshots.put(source, 'backup', '') end)
    end)

    it('a file that is not there', function()
      refused('NOT_FOUND', 'file backup', function(source) source.remove(source, 'backup') end)
    end)

    it('a file whose rows are not those of its head', function()
      refused('INVALID', 'backup: its rows are not those of the state that its head tells of', function(source)
        local found, rows = assert(snapshots.read(source, 'backup')), {}
        for i, chunk in ipairs(found.chunks) do rows[i] = { chunk[1], chunk[1] == 2 and chunk[2]:gsub('\161b', '\161c') or chunk[2] } end
        assert(snapshots.write(source, 'backup', found.head, rows))
      end)
    end)

    it('a directory that holds anything, and one that was restored', function()
      refused('EXISTS', 'the directory is not empty: file notes is there', function(_, target) snapshots.put(target, 'notes', 'x') end)
      refused('EXISTS', 'the directory was restored already', function(source, target)
        assert.is_table(R.restore(source, 'backup', target))
      end)
      refused('EXISTS', 'file identity is there', function(_, target)
        assert.equal(0, tonumber(R.C.identity_save(target, ffi.new('struct identity[1]', { { id = 1, incarnation = 7 } }))))
      end)
    end)
  end)

  it('takes a directory where an earlier one did not end', function()
    with_disks(function(source, target)
      local m = kv()
      assert.equal('OK', (snapshot.take(m, source, 'backup')))
      snapshots.put(target, 'snapshot.new', 'half')
      snapshots.put(target, 'snapshot-0000000100000001', 'whole')
      local _, why, status = R.identity(target)
      assert.equal('CORRUPT', status)
      assert.truthy(why:find('a restore did not end', 1, true), why)
      assert.is_table(R.restore(source, 'backup', target))
      assert.same({ 'restored', ('snapshot-%016x'):format(m.index + STEP) }, R.files(target))
      _, why, status = R.identity(target)
      assert.equal('NOT_FOUND', status, why)
    end)
  end)
end)

describe('an export that is lossy', function()
  local keys = [[return { name = 'keys', version = 1,
    write = function(out, view) for _, _, map in view:maps() do for k in map:pairs() do out:write(tostring(k), '\n') end end end,
    read = function(inp, ctx) return true end }]]

  it('is whole, says what it is, and is never built from', function()
    with_disks(function(source, target)
      assert.equal('OK', (snapshot.take(kv(), source, 'backup', { format = format(keys), lossy = true })))
      local found = snapshot.inspect(source, 'backup')
      assert.is_true(found.good)
      assert.truthy(found.verdict:find('an export that may hold less than the state', 1, true), found.verdict)
      local _, why, status = R.restore(source, 'backup', target)
      assert.equal('UNSUPPORTED', status)
      assert.truthy(why:find('backup: an export in the format keys, which does not give back the whole state', 1, true), why)
    end)
  end)

  it('is damaged all the same when a bit is', function()
    snapshot.with_disk(function(source)
      assert.equal('OK', (snapshot.take(kv(), source, 'backup', { format = format(keys), lossy = true })))
      local bytes = snapshots.bytes(source, 'backup')
      snapshots.put(source, 'backup', bytes:sub(1, -100) .. '#' .. bytes:sub(-98))
      assert.is_false(snapshot.inspect(source, 'backup').good)
    end)
  end)
end)
