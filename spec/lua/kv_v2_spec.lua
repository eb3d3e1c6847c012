-- examples/kv_v2.lua: kv.lua with a migration.
local machine = require 'spec.support.machine'

local function read(path)
  local file = assert(io.open(path))
  local text = file:read('*a')
  file:close()
  return text
end

local v1, v2 = read 'examples/kv.lua', read 'examples/kv_v2.lua'

local function deploy(m, text)
  local bundle, why = machine.bundle('kv', text)
  assert.is_string(bundle, why)
  local ok, value = m:entry(8, machine.pack { kind = 'machine', mount = 'kv', expect = m:query('tidelock.code')[1].hash } .. bundle)
  assert.is_true(ok, not ok and value.message)
  return value
end

-- kv.lua with this many keys, migrated -> the machine, how many entries it took
local function migrated(keys)
  local m, entries = machine.new { kv = v1 }, 1
  for i = 1, keys do m:call('kv.set', ('k%05d'):format(i), i) end
  local migrating = deploy(m, v2).migrating
  while migrating do
    local ok
    ok, migrating = m:entry(9, machine.pack 'kv')
    assert.is_true(ok)
    entries = entries + 1
  end
  return m, entries
end

describe('kv_v2', function()
  it('has all of kv in it, at revision 1, whatever its size', function()
    for _, keys in ipairs { 0, 1, 999, 1000, 1001, 2500 } do
      local m, entries = migrated(keys)
      assert.equal(math.floor(keys / 1000) + 1, entries)
      assert.equal(keys, m:query('kv.count'))
      if keys > 0 then
        assert.equal(1, m:query('kv.get', 'k00001'))
        assert.same({ value = keys, revision = 1 }, m:query('kv.cell', ('k%05d'):format(keys)))
        assert.equal('k00001', m:query('kv.list')[1][1])
      end
    end
  end)

  it('counts revisions and compares by them', function()
    local m = migrated(1)
    assert.equal(2, m:call('kv.set', 'k00001', 'teal'))
    assert.equal(1, m:call('kv.set', 'new', 'x', true))
    assert.equal('EXISTS', select(2, m:call('kv.set', 'new', 'x', true)).code)
    assert.equal(3, m:call('kv.cas', 'k00001', 2, 'blue'))
    local _, err = m:call('kv.cas', 'k00001', 2, 'red')
    assert.same({ 'CONFLICT', { value = 'blue', revision = 3 } }, { err.code, err.data })
    assert.equal('NOT_FOUND', select(2, m:call('kv.cas', 'none', 1, 'x')).code)
    assert.is_true(m:call('kv.del', 'k00001'))
    assert.equal('NOT_FOUND', select(2, m:query('kv.get', 'k00001')).code)
    assert.equal(1, m:call('kv.set', 'k00001', 'again'))
  end)

  it('is kv.lua until it is deployed, to the byte of an answer', function()
    local m = machine.new { kv = v1 }
    assert.is_nil(m:call('kv.set', 'a', 1))
    deploy(m, v2)
    assert.equal(2, m:call('kv.set', 'a', 1))
  end)
end)
