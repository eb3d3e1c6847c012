-- tidelock test examples/spec/session_store_spec.lua
local test = require 'tidelock.test'

describe('session_store', function()
  local h, id
  before_each(function()
    h = test.host 'examples/session_store.lua'
    id = h:call('open', 'ada', { ttl = 1000 })
  end)

  it('gives ids that nobody guesses, and that differ', function()
    assert.matches('^%x+$', id)
    assert.equal(32, #id)
    assert.are_not.equal(id, (h:call('open', 'ada')))
  end)

  it('goes on while it is used, and ends when it is not', function()
    h:call('set', id, 'theme', 'dark')
    for _ = 1, 5 do
      h:advance(900)
      assert.same({ user = 'ada', data = { theme = 'dark' } }, h:call('use', id))
    end
    h:through_snapshot():advance(1000)
    local _, err = h:call('use', id)
    assert.equal('NOT_FOUND', err.code)
    assert.emitted(h, 'ended', 'ada', id)
    assert.same({ session_store = {} }, h:state())
  end)

  it('closes one, or all of a user', function()
    h:call('close', id)
    assert.equal(0, h:query('count', 'ada'))
    for _ = 1, 3 do h:call('open', 'ada') end
    h:call('open', 'bob')
    assert.equal(3, h:call('close_all', 'ada'))
    assert.equal(1, h:query('count', 'bob'))
  end)
end)
