-- tidelock test examples/spec/lock_spec.lua
local test = require 'tidelock.test'

describe('lock', function()
  local h, last
  before_each(function()
    h, last = test.host 'examples/lock.lua', 0
    h:always(function() -- tokens only grow
      local events = h:events 'granted'
      for i = 2, #events do
        if events[i].data.token <= events[i - 1].data.token then return false, 'a token came twice' end
      end
      last = #events
    end)
  end)
  local function owner() return (h:query('holder', 'door') or {}).owner end

  it('is held by one, and refused to others', function()
    local lease = h:call('acquire', 'door', 'ada')
    local _, err = h:call('acquire', 'door', 'bob')
    assert.equal('HELD', err.code)
    assert.same(lease, h:call('acquire', 'door', 'ada'))
    assert.equal(1, last)
  end)

  it('passes to those who wait in the order in which they came', function()
    local lease = h:call('acquire', 'door', 'ada')
    assert.same({ place = 1 }, h:call('acquire', 'door', 'bob', { wait = true }))
    assert.same({ place = 2 }, h:call('acquire', 'door', 'cyd', { wait = true }))
    assert.same({ place = 1 }, h:call('acquire', 'door', 'bob', { wait = true }))
    h:call('release', 'door', lease.token)
    assert.equal('bob', owner())
    h:call('release', 'door', h:query('holder', 'door').token)
    assert.equal('cyd', owner())
    assert.equal(0, h:query('waiting', 'door'))
  end)

  it('passes on when a lease runs out, and the old token is worth nothing', function()
    local lease = h:call('acquire', 'door', 'ada', { ttl = 1000 })
    h:call('acquire', 'door', 'bob', { wait = true })
    h:advance(1000)
    assert.equal('bob', owner())
    local _, err = h:call('release', 'door', lease.token)
    assert.equal('CONFLICT', err.code)
    assert.equal('bob', owner())
  end)

  it('lets nobody pass those who wait, in the moment a lease runs out', function()
    h:call('acquire', 'door', 'ada', { ttl = 1000 })
    h:call('acquire', 'door', 'bob', { wait = true })
    h:advance(1000, { due = false }) -- what is due has not happened yet
    assert.is_nil(owner())
    assert.same({ place = 1 }, h:call('acquire', 'door', 'eve', { wait = true }))
    assert.equal('bob', owner())
    h:advance(0)
    assert.equal('bob', owner())
  end)

  it('is kept by renewing', function()
    local lease = h:call('acquire', 'door', 'ada', { ttl = 1000 })
    for _ = 1, 5 do
      h:advance(600)
      assert.is_nil(select(2, h:call('renew', 'door', lease.token)))
    end
    h:through_snapshot():advance(1000)
    assert.is_nil(owner())
  end)
end)
