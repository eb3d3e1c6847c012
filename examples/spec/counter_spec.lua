-- tidelock test examples/spec/counter_spec.lua
local test = require 'tidelock.test'

describe('counter', function()
  it('counts each name for itself', function()
    local h = test.host 'examples/counter.lua'
    assert.equal(3, h:call('add', 'apples', 3))
    assert.equal(4, h:call('add', 'apples'))
    assert.equal(0, h:query('value', 'pears'))
    assert.equal('BAD_ARGS', select(2, h:call('add', 'apples', 'x')).code)
    assert.holds(h, 'count', { apples = 4 })
  end)
end)
