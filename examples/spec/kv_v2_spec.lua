-- tidelock test examples/spec/kv_v2_spec.lua: kv.lua with rows in it becomes kv_v2.lua.
local test = require 'tidelock.test'

describe('kv, deployed anew as kv_v2', function()
  it('has its rows, each with a first revision, moved in several entries', function()
    local h = test.host 'examples/kv.lua'
    for i = 1, 2500 do h:call('set', ('k%04d'):format(i), i) end
    assert.is_truthy(h:deploy 'kv=examples/kv_v2.lua')
    assert.equal(7, h:query('get', 'k0007'))
    assert.equal(2, h:call('set', 'k0007', 8))
    h:through_snapshot()
    assert.equal(8, h:query('get', 'k0007'))
  end)

  it('is refused when it is not newer, and then nothing has changed', function()
    local h = test.host 'examples/kv_v2.lua'
    h:call('set', 'a', 1)
    local digest = h:digest()
    local answer, err = h:deploy 'kv=examples/kv.lua'
    assert.is_nil(answer)
    assert.equal('CONFLICT', err.code)
    assert.equal(1, h:query('get', 'a'))
    assert.is_string(digest)
    assert.equal('BAD_ARGS', select(2, h:deploy 'kv=nowhere.lua').code)
  end)
end)
