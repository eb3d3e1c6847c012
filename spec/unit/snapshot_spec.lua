-- Snapshots of a machine: taken from a frozen state while entries go on, built into a new machine that goes on the same.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local ffi, C = core.ffi, core.load('machine/snapshot.h')

local function file(path)
  local f = assert(io.open(path))
  local text = f:read('*a')
  f:close()
  return text
end

local service = [[
  local m = { name = 'm', version = 1, state = { rows = 'map', other = 'map', empty = 'map' }, commands = {}, queries = {} }
  local at_load = math.random(1000000000)
  function m.init(ctx) ctx.db.other:put('made', { ctx.now, ctx.random(1000) }) end
  function m.commands.put(ctx, map, key, value) ctx.db[map]:put(key, value) end
  function m.commands.del(ctx, map, key) return ctx.db[map]:del(key) end
  function m.commands.id(ctx) return { ctx.id(), ctx.now, ctx.term, ctx.random(1000000), at_load, ctx.index } end
  function m.commands.fail(ctx) ctx.db.rows:put('torn', 1) return nil, { code = 'NOT_FOUND', message = 'no' } end
  function m.queries.all(ctx, map)
    local out = {}
    for k, v in ctx.db[map]:pairs() do out[#out + 1] = { k, v } end
    return out
  end
  return m
]]

local function new(modules)
  modules = modules or {}
  modules.kv, modules.m, modules.bank = file('examples/kv.lua'), service, file('examples/bank.lua')
  local m = machine.new(modules)
  for i = 1, 300 do m:call('kv.set', 'key' .. i, { i, 'text', { a = i / 7, b = { true, false } } }) end
  for i = 1, 40, 3 do m:call('kv.del', 'key' .. i) end
  return m
end

local function head_of(m)
  local frozen = snapshot.freeze(m)
  local head = ffi.new('struct snapshot_head', C.machine_frozen_head(frozen)[0])
  snapshot.thaw(m, frozen)
  return head
end

describe('a snapshot', function()
  it('is built into a machine with the same rows, digest and facts', function()
    snapshot.with_disk(function(disk)
      local m = new()
      assert.equal('OK', snapshot.take(m, disk, 'a'))

      local built, head, configuration = snapshot.build(disk, 'a')

      assert.equal(m:digest(), built:digest())
      assert.equal('set', configuration)
      assert.equal(1, tonumber(head.configuration_index))
      assert.equal('rows', ffi.string(head.format))
      local a, b = m:status(), built:status()
      for _, fact in ipairs { 'applied', 'now_ms', 'rows', 'bytes' } do assert.equal(a[fact], b[fact], fact) end
    end)
  end)

  it('goes on with the same answers and digests, whatever comes (bug 83)', function()
    snapshot.with_disk(function(disk)
      local m = new()
      m:entry(3, machine.pack { 1, 'machine', 'late', 'module', { { 'module', 'return 1' } } }) -- refused
      for _ = 1, 3 do m:call('m.id') end
      m:entry(3, machine.pack { 1, 'machine', 'again', 'module', { { 'module', service } } }) -- loaded at another moment
      assert.equal('OK', snapshot.take(m, disk, 'a'))
      local built = assert(snapshot.build(disk, 'a'))

      for i = 1, 60 do
        m.now, built.now = m.now + 17, built.now + 17
        local name = ({ 'm.id', 'm.fail', 'kv.set', 'kv.cas', 'late.x', 'bank.open', 'm.del', 'again.id' })[i % 8 + 1]
        local args = name == 'm.del' and { 'other', 'made' } or { 'key' .. i, i, i }
        local one, other = { m:call(name, unpack(args)) }, { built:call(name, unpack(args)) }
        assert.same(one, other)
        assert.equal(m:digest(), built:digest())
      end
      local later = machine.pack { 1, 'machine', 'second', 'module', { { 'module', service } } } -- numbers of maps go on
      for _, one in ipairs { m, built } do
        one:entry(3, later)
        one:call('second.put', 'rows', 'a', 1)
      end
      assert.equal(m:digest(), built:digest())
      assert.same(m:query('second.all', 'rows'), built:query('second.all', 'rows'))
      assert.same(m:query('m.all', 'rows'), built:query('m.all', 'rows'))
    end)
  end)

  it('is the state at its index, though the tree changes while it is written (bug 79)', function()
    snapshot.with_disk(function(disk)
      local m = new()
      local frozen = snapshot.freeze(m)
      local digest, index = m:digest(), m.index
      for i = 1, 300 do m:call('kv.set', 'key' .. i, 'changed') end
      for i = 1, 300, 2 do m:call('kv.del', 'key' .. i) end

      assert.equal('OK', snapshot.take_frozen(frozen, disk, 'a'))
      snapshot.thaw(m, frozen)

      local built = assert(snapshot.build(disk, 'a'))
      assert.equal(digest, built:digest())
      assert.equal(index, tonumber(built:status().applied))
      assert.is_not.equal(digest, m:digest())
    end)
  end)

  it('is the same bytes of the same state, also from a machine that was built', function()
    snapshot.with_disk(function(disk)
      local m = new()
      local _, _, seal = snapshot.take(m, disk, 'a')
      local built = snapshot.build(disk, 'a')
      local status, why, again = snapshot.take(built, disk, 'b')
      assert.equal('OK', status, why)
      assert.equal(seal.hash.lo, again.hash.lo)
      assert.equal(seal.hash.hi, again.hash.hi)
    end)
  end)

  it('does not care where chunks end', function()
    snapshot.with_disk(function(disk)
      local m = new()
      for _, bytes in ipairs { 1, 7, 100, 5000 } do
        assert.equal('OK', snapshot.take(m, disk, 'a', { chunk_bytes = bytes }))
        assert.equal(m:digest(), assert(snapshot.build(disk, 'a')):digest())
      end
    end)
  end)

  it('that the disk has no room for, or does not take, leaves no file and says why', function()
    snapshot.with_disk(function(disk, path)
      local m = new()
      local _, _, seal = snapshot.take(m, disk, 'whole', { chunk_bytes = 2000 })
      assert.is_true(tonumber(seal.chunks) > 5)
      local real = ffi.new('struct disk', disk[0])
      for _, status in ipairs { 10, 11 } do
        for good = 0, tonumber(seal.chunks) + 3, 3 do
          local left = good
          local broken = ffi.cast(ffi.typeof(disk[0].write_at), function(...)
            left = left - 1
            if left < 0 then return status end
            return real.write_at(...)
          end)
          disk[0].write_at = broken
          local got, why = snapshot.take(m, disk, 'a', { chunk_bytes = 2000 })
          disk[0].write_at = real.write_at
          broken:free()
          if left < 0 then
            assert.equal(tostring(status), got)
            assert.is_true(#why > 0)
            assert.is_nil(io.open(path .. '/a'))
          end
        end
      end
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
    end)
  end)

  it('whose hashes agree but whose rows are nonsense is refused, and nothing breaks', function()
    snapshot.with_disk(function(disk)
      local m = new()
      local random = core.random(5)
      local function sections()
        local reader, why = ffi.new('struct snapshot_reader *[1]'), core.buffer()
        assert.equal(0, tonumber(C.snapshot_reader_open(disk, 'a', reader, why)))
        local section, bytes, ended = ffi.new('uint32_t[1]'), ffi.new('struct slice[1]'), ffi.new('bool[1]')
        local out = { head = core.text(C.snapshot_reader_head(reader[0])), '', '' }
        while true do
          assert.equal(0, tonumber(C.snapshot_reader_next(reader[0], section, bytes, ended)))
          if ended[0] then break end
          out[section[0]] = out[section[0]] .. core.text(bytes[0])
        end
        C.snapshot_reader_close(reader[0])
        return out
      end
      local function write(parts)
        local writer, seal = ffi.new('struct snapshot_writer *[1]'), ffi.new('struct snapshot_seal[1]')
        assert.equal(0, tonumber(C.snapshot_writer_open(disk, 'b', core.slice(parts.head), 0, false, writer)))
        for i = 1, 2 do assert.equal(0, tonumber(C.snapshot_writer_append(writer[0], i, core.slice(parts[i])))) end
        assert.equal(0, tonumber(C.snapshot_writer_seal(writer[0], seal)))
        C.snapshot_writer_close(writer[0])
      end
      snapshot.take(m, disk, 'a')
      local good = sections()
      write(good)
      assert.equal(m:digest(), assert(snapshot.build(disk, 'b')):digest())
      for i = 1, 150 do
        local which = i % 3 == 0 and 1 or 2
        local bytes = good[which]
        local at, cut = random(#bytes), random(4)
        local other = cut == 1 and bytes:sub(1, at - 1) or cut == 2 and bytes:sub(1, at) .. bytes:sub(random(#bytes))
          or bytes:sub(1, at - 1) .. string.char((bytes:byte(at) + random(255)) % 256) .. bytes:sub(at + 1)
        write { head = good.head, which == 1 and other or good[1], which == 2 and other or good[2] }
        if other ~= bytes then
          local built, why = snapshot.build(disk, 'b')
          assert.is_nil(built, i)
          assert.is_true(#why > 0)
          assert.is_table(snapshot.inspect(disk, 'b'))
        end
      end
    end)
  end)

  it('takes the place of a machine', function()
    snapshot.with_disk(function(disk)
      local m, old = new(), new()
      m:call('kv.set', 'more', 1)
      snapshot.take(m, disk, 'a')
      local built = assert(snapshot.build(disk, 'a'))
      local version = old:status().catalog_version

      C.machine_swap(old.m, built.m)

      assert.equal(m:digest(), old:digest())
      assert.is_true(old:status().catalog_version > version)
      old.index = m.index
      assert.equal(m:call('kv.set', 'x', 2), old:call('kv.set', 'x', 2))
      assert.equal(m:digest(), old:digest())
    end)
  end)

  it('keeps what was refused, and a mount without code', function()
    snapshot.with_disk(function(disk)
      local m = new()
      m:entry(3, machine.pack { 1, 'machine', 'bad', 'module', { { 'module', 'return 1' } } })
      snapshot.take(m, disk, 'a')
      local built = assert(snapshot.build(disk, 'a'))
      assert.same({ m:call('bad.x') }, { built:call('bad.x') })
      local a, b = core.buffer(), core.buffer()
      C.machine_catalog(m.m, a)
      C.machine_catalog(built.m, b)
      assert.equal(#core.buffer_text(a), #core.buffer_text(b))
    end)
  end)

  it('ends soon when it is cancelled, and leaves no file', function()
    snapshot.with_disk(function(disk)
      local m = new()
      assert.equal('CANCELLED', (snapshot.take(m, disk, 'a', { cancel = true })))
      local _, _, status = snapshot.build(disk, 'a')
      assert.equal('NOT_FOUND', status)
      snapshot.take(m, disk, 'a')
      _, _, status = snapshot.build(disk, 'a', { cancel = true })
      assert.equal('CANCELLED', status)
    end)
  end)

  it('is refused when a byte of it is another', function()
    snapshot.with_disk(function(disk, path)
      local m = new()
      snapshot.take(m, disk, 'a')
      local bytes = file(path .. '/a')
      math.randomseed(7)
      for _ = 1, 60 do
        local at = math.random(#bytes)
        local out = assert(io.open(path .. '/b', 'w'))
        out:write(bytes:sub(1, at - 1), string.char((bytes:byte(at) + 1) % 256), bytes:sub(at + 1))
        out:close()
        local built, why = snapshot.build(disk, 'b')
        assert.is_nil(built, at)
        assert.truthy(why:find('%f[%w]b%f[%W]'), why)
      end
    end)
  end)

  it('is told of: head, maps, counts, and whether it agrees', function()
    snapshot.with_disk(function(disk)
      local m = new()
      snapshot.take(m, disk, 'a')
      local told = snapshot.inspect(disk, 'a')
      assert.equal('ok', told.verdict)
      assert.is_true(told.good)
      assert.equal(m.index, told.index)
      assert.equal(286, told.maps['kv.rows'])
      assert.equal(0, told.maps['m.empty'])
      assert.same({ limits = 17, bundles = 3, maps = 5, counters = 2 }, told.host)
      assert.same({ name = 'rows', version = 1 }, told.format)
    end)
  end)

  it('has a head that comes back, and none that is cut', function()
    local m = new()
    local head, packed, back = head_of(m), core.buffer(), ffi.new('struct snapshot_head[1]')
    head.configuration = core.slice('set')
    C.snapshot_head_pack(head, packed)
    local bytes = core.buffer_text(packed)
    assert.equal(0, tonumber(C.snapshot_head_unpack(core.slice(bytes), back)))
    local again = core.buffer()
    C.snapshot_head_pack(back[0], again)
    assert.equal(bytes, core.buffer_text(again))
    for size = 0, #bytes - 1 do
      local cut = bytes:sub(1, size)
      assert.is_not.equal(0, tonumber(C.snapshot_head_unpack(core.slice(cut), back)))
    end
    local newer = bytes:sub(1, 3) .. '\2' .. bytes:sub(5)
    assert.equal(14, tonumber(C.snapshot_head_unpack(core.slice(newer), back)))
  end)
end)

describe("a machine's digests", function()
  it('are kept for the recent indexes, and longer for each 256th', function()
    local m = machine.new { kv = file('examples/kv.lua') }
    local digest = ffi.new('struct hash128[1]')
    local at = {}
    for i = 1, 9000 do
      m:entry(i % 100 == 0 and 4 or 1, i % 100 == 0 and machine.pack('kv.set') .. machine.pack { 'a', i } or '')
      at[m.index] = m:digest()
    end
    local function find(index)
      if not C.machine_digest_at(m.m, index, digest) then return nil end
      return tostring(digest[0].hi) .. tostring(digest[0].lo)
    end
    assert.equal(at[m.index], find(m.index))
    assert.equal(at[m.index - 4095], find(m.index - 4095))
    assert.is_nil(find(m.index + 1))
    assert.is_nil(find(0))
    for index = 256, m.index, 256 do assert.equal(at[index], find(index)) end
    for index = 1, m.index - 4096 do assert.equal(index % 256 == 0, find(index) ~= nil) end
  end)

  it('are of the head alone after a build', function()
    snapshot.with_disk(function(disk)
      local m = new()
      snapshot.take(m, disk, 'a')
      local built = assert(snapshot.build(disk, 'a'))
      local digest = ffi.new('struct hash128[1]')
      assert.is_true(C.machine_digest_at(built.m, built.index, digest))
      assert.is_false(C.machine_digest_at(built.m, built.index - 1, digest))
    end)
  end)
end)
