-- upgrade_row: rows that older versions wrote, converted as they are read (script/upgrade.h).
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'

-- A version of the module. Its rows are { v = version that wrote it, n = number }; upgrade_row notes what it went through.
local function module(version, lazy, more)
  return ([[
local m = { name = 'm', version = %d, state = { rows = 'map' }, commands = {}, queries = {} }
function m.commands.put(ctx, k, n, ttl) ctx.db.rows:put(k, { v = %d, n = n }, ttl and { ttl = ttl }) end
function m.commands.raw(ctx, k, v) ctx.db.rows:put(k, v) end
function m.commands.touch(ctx, k) return ctx.db.rows:update(k, function(row) return row end) end
function m.commands.take(ctx, k) return ctx.db.rows:take(k) end
function m.commands.add(ctx, k, n) return ctx.db.rows:add(k, n) end
function m.queries.get(ctx, k) return ctx.db.rows:get(k) end
function m.queries.all(ctx)
  local out = {}
  for k, row in ctx.db.rows:pairs() do out[#out + 1] = { k, row } end
  return out
end
function m.queries.ends(ctx) local _, a = ctx.db.rows:first() local _, b = ctx.db.rows:last() return { a, b } end
%s
%s
return m]]):format(version, version, lazy and ([[
function m.upgrade_row(map, key, row, from)
  if type(row) == 'number' then return row * 100 end
  return { v = %d, n = row.n, was = row.v, from = from, key = key, map = map }
end]]):format(version) or '', more or '')
end

local function deploy(m, text)
  local bundle, why = machine.bundle('t', text)
  assert.is_string(bundle, why)
  local ok, value = m:entry(8, machine.pack { kind = 'machine', mount = 't', expect = m:query('tidelock.code')[1].hash } .. bundle)
  if ok then return value end
  return nil, value
end

describe('upgrade_row', function()
  local m
  before_each(function()
    m = machine.new { t = module(1) }
    m:call('t.put', 'a', 1)
    m:call('t.put', 'b', 2)
    assert(deploy(m, module(2, true)))
  end)

  local function up(v, n, was, from, key) return { v = v, n = n, was = was, from = from, key = key, map = 'rows' } end

  it('converts rows of older versions wherever they are read, and those of this one never', function()
    m:call('t.put', 'c', 3)
    assert.same(up(2, 1, 1, 1, 'a'), m:query('t.get', 'a'))
    assert.same({ v = 2, n = 3 }, m:query('t.get', 'c'))
    assert.same({ { 'a', up(2, 1, 1, 1, 'a') }, { 'b', up(2, 2, 1, 1, 'b') }, { 'c', { v = 2, n = 3 } } }, m:query('t.all'))
    assert.same({ up(2, 1, 1, 1, 'a'), { v = 2, n = 3 } }, m:query('t.ends'))
    assert.same(up(2, 2, 1, 1, 'b'), m:call('t.take', 'b'))
    assert.is_nil(m:query('t.get', 'b'))
  end)

  it('leaves rows as they lie until a command puts them', function()
    local before = m:digest()
    local bytes = tonumber(m:status().bytes)
    m:query('t.all')
    assert.equal(before, m:digest())
    m:call('t.touch', 'a')
    assert.is_true(tonumber(m:status().bytes) > bytes)
    assert.same(up(2, 1, 1, 1, 'a'), m:query('t.get', 'a')) -- not converted again
    assert(deploy(m, module(3, true)))
    assert.same(up(3, 1, 2, 2, 'a'), m:query('t.get', 'a'))
    assert.same(up(3, 2, 1, 1, 'b'), m:query('t.get', 'b'))
  end)

  it('serves what is changed in place', function()
    m = machine.new { t = module(1) }
    m:call('t.raw', 'x', 5)
    assert(deploy(m, module(2, true)))
    assert.equal(501, m:call('t.add', 'x', 1))
    assert.equal(502, m:call('t.add', 'x', 1))
  end)

  it('is told to on_expire, too', function()
    local more = "function m.on_expire(ctx, map, key, row) ctx.db.rows:put('gone', { map, key, row.v, row.from }) end"
    m = machine.new { t = module(1, false, more) }
    m:call('t.put', 'a', 1, 1000)
    assert(deploy(m, module(2, true, more)))
    m:call('t.put', 'b', 2, 1001)
    m.now = m.now + 1000
    m:due()
    assert.same({ 'rows', 'a', 2, 1 }, m:query('t.get', 'gone'))
    m.now = m.now + 1
    m:due()
    assert.same({ 'rows', 'b', 2 }, m:query('t.get', 'gone'))
  end)

  it('must stay once it is there', function()
    local value, err = deploy(m, module(3))
    assert.is_nil(value)
    assert.equal('CONFLICT', err.code)
    assert.truthy(err.message:find('upgrade_row', 1, true))
    assert.same(up(2, 1, 1, 1, 'a'), m:query('t.get', 'a'))
  end)

  it('that fails or gives nothing is an error of whoever reads', function()
    local fails = "if key == 'a' then error('no, ' .. from) end if key == 'b' then return nil end if type(row)"
    assert(deploy(m, (module(3, true):gsub('if type%(row%)', fails))))
    local _, err = m:query('t.get', 'a')
    assert.truthy(err.message:find('no, 1', 1, true), err.message)
    assert.truthy(select(2, m:call('t.touch', 'b')).message:find('upgrade_row gave nil', 1, true))
  end)

  it('cannot be cheated by a value', function()
    local _, err = m:call('t.raw', 'x', { '\1v', 9, 'x' })
    assert.truthy(err.message:find("the host's own mark", 1, true), err.message)
    assert.is_nil(select(2, m:call('t.raw', 'x', { '\1w', 9, 'x' })))
  end)

  it('serves migrate, which sees rows as the new version does', function()
    assert(deploy(m, module(3, true, "function m.migrate(ctx, from) for k, row in ctx.db.rows:pairs() do row.migrated = from "
      .. 'ctx.db.rows:put(k, row) end end')))
    local row = m:query('t.get', 'a')
    assert.same({ 3, 2, 1 }, { row.v, row.migrated, row.from })
  end)

  it('is nothing to a mount that began with it', function()
    m = machine.new { t = module(1, true) }
    local before = tonumber(m:status().bytes)
    m:call('t.raw', 'k', 'v')
    assert.same('v', m:query('t.get', 'k'))
    assert.equal(4 + 3 + 2, tonumber(m:status().bytes) - before)
  end)

  it('goes on through a snapshot, in rows and in a format of lines', function()
    local file = assert(io.open('examples/formats/jsonl.lua'))
    local format = machine.format(file:read('*a'))
    file:close()
    snapshot.with_disk(function(disk)
      for i, with in ipairs { false, format } do
        m:call('t.put', 'c', i)
        if with then assert(m:entry(8, machine.pack { kind = 'format', mount = '', expect = '' } .. with)) end
        assert.equal('OK', (snapshot.take(m, disk, 'f' .. i)))
        local built = assert(snapshot.build(disk, 'f' .. i))
        assert.equal(m:digest(), built:digest())
        assert.same(m:query('t.all'), built:query('t.all'))
        for _, one in ipairs { m, built } do
          one:call('t.touch', 'b')
          assert(deploy(one, module(2 + i, true)))
        end
        assert.equal(m:digest(), built:digest())
        assert.same(m:query('t.all'), built:query('t.all'))
      end
    end)
  end)
end)
