-- tidelock test examples/spec/bank_spec.lua
local test = require 'tidelock.test'

describe('bank', function()
  local h
  before_each(function()
    h = test.host 'examples/bank.lua'
    h:call('open', 'ada', 100)
    h:call('open', 'bob', 50)
    h:always(function(query) return query('bank.total') == 150, 'money came or went' end)
  end)

  it('moves money', function()
    assert.equal(80, h:call('transfer', 'ada', 'bob', 30))
    assert.holds(h, 'accounts', { ada = 70, bob = 80 })
  end)

  it('leaves nothing of a transfer that fails half way', function()
    for _, to in ipairs { 'nobody', 'bob' } do
      local _, err = h:call('transfer', 'ada', to, to == 'bob' and 101 or 1)
      assert.matches('NO', err.code)
      assert.holds(h, 'accounts', { ada = 100, bob = 50 })
    end
  end)

  it('does all of a batch, or nothing', function()
    local _, err = h:batch { { 'transfer', 'ada', 'bob', 1 }, { 'transfer', 'bob', 'nobody', 1 } }
    assert.equal('NOT_FOUND', err.code)
    assert.holds(h, 'accounts', { ada = 100, bob = 50 })
    assert.same({ 51, 101 }, h:batch { { 'transfer', 'ada', 'bob', 1 }, { 'transfer', 'bob', 'ada', 2 } })
  end)

  it('does a request that is sent again once', function()
    local client = h:with { session = h:session {}, seq = 1 }
    assert.equal(60, client:call('transfer', 'ada', 'bob', 10))
    assert.equal(60, client:call('transfer', 'ada', 'bob', 10))
    assert.holds(h, 'accounts', { ada = 90, bob = 60 })
  end)
end)
