-- tidelock test examples/spec/rate_limiter_spec.lua
local test = require 'tidelock.test'

describe('rate_limiter', function()
  local h
  before_each(function() h = test.host 'examples/rate_limiter.lua' end)

  it('lets as much through at once as the bucket holds', function()
    for left = 9, 0, -1 do assert.equal(left, h:call('take', 'ada')) end
    local _, err = h:call('take', 'ada')
    assert.equal('RATE_LIMITED', err.code)
    assert.same({ retry_ms = 1000 }, err.data)
    assert.equal(9, h:call('take', 'bob'))
  end)

  it('lets it through after the time that it said', function()
    h:call('take', 'ada', { cost = 10 })
    local _, err = h:call('take', 'ada', { cost = 3, rate = 2 })
    assert.equal(1500, err.data.retry_ms)
    h:advance(1499)
    assert.is_nil(h:call('take', 'ada', { cost = 3, rate = 2 }))
    h:advance(1)
    assert.equal(0, h:call('take', 'ada', { cost = 3, rate = 2 }))
  end)

  it('keeps no bucket that is full', function()
    h:call('take', 'ada', { cost = 4 })
    h:advance(4000)
    assert.holds(h, 'buckets', {})
    assert.equal(10, h:query('level', 'ada'))
  end)
end)
