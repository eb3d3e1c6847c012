-- tidelock test examples/spec/kv_spec.lua
local test = require 'tidelock.test'

describe('kv', function()
  local h
  before_each(function() h = test.host 'examples/kv.lua' end)

  it('gives back what it was given, whatever its kind', function()
    for _, value in ipairs { 'teal', 7, -0.5, false, { 1, 2, { deep = { 'x' } } }, 'a\0b' } do
      h:call('kv.set', 'key', value)
      assert.same(value, h:query('kv.get', 'key'))
    end
  end)

  it('says that there is no such key', function()
    local value, err = h:query('kv.get', 'nothing')
    assert.is_nil(value)
    assert.equal('NOT_FOUND', err.code)
  end)

  it('sets a free key only, when told so', function()
    h:call('kv.set', 'a', 1, { nx = true })
    local _, err = h:call('kv.set', 'a', 2, { nx = true })
    assert.equal('EXISTS', err.code)
    assert.holds(h, 'kv.rows', { a = 1 })
  end)

  it('compares and sets', function()
    h:call('kv.set', 'a', 1)
    local _, err = h:call('kv.cas', 'a', 2, 3)
    assert.equal('CONFLICT', err.code)
    assert.equal(1, err.data)
    h:call('kv.cas', 'a', 1, 3)
    assert.equal(3, h:query('kv.get', 'a'))
  end)

  it('forgets a row when its time has come, and says so', function()
    h:call('kv.set', 'a', 1, { ttl = '5s' })
    h:advance(4999)
    assert.equal(1, h:query('kv.get', 'a'))
    h:through_snapshot():advance(1)
    assert.is_nil(h:query('kv.get', 'a'))
    assert.emitted(h, 'expired', 'a', 1)
    assert.holds(h, 'kv.rows', {})
  end)

  it('keeps the time of a row that is compared and set, and forgets it when it is set', function()
    h:call('kv.set', 'a', 1, { ttl = 100 })
    h:call('kv.set', 'b', 1, { ttl = 100 })
    h:call('kv.cas', 'a', 1, 2)
    h:call('kv.set', 'b', 2)
    h:advance(100)
    assert.holds(h, 'kv.rows', { b = 2 })
  end)

  it('lists keys in order, page by page', function()
    for _, key in ipairs { 'b', 'c', 'a', 'other' } do h:call('kv.set', key, key) end
    assert.same({ { 'a', 'a' }, { 'b', 'b' } }, h:query('kv.list', { limit = 2 }))
    assert.same({ { 'c', 'c' }, { 'other', 'other' } }, h:query('kv.list', { limit = 2, after = 'b' }))
    assert.equal(4, h:query 'kv.count')
  end)
end)
