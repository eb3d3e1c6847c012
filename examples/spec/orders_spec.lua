-- tidelock test examples/spec/orders_spec.lua
local test = require 'tidelock.test'

describe('orders', function()
  local h
  before_each(function() h = test.host 'examples/orders.lua' end)

  it('finds the orders of a customer, oldest first', function()
    local one = h:call('place', 'ada', 'lamp', 2, 19.5)
    h:call('place', 'bob', 'desk', 1, 90)
    local three = h:call('place', 'ada', 'chair', 1, 30, 'blue')
    assert.same({ one, three }, h:query('of', 'ada'))
    assert.equal('blue', h:query('get', three).note)
  end)

  it('is paid once', function()
    local id = h:call('place', 'ada', 'lamp', 1, 5)
    h:call('pay', id)
    assert.equal('CONFLICT', select(2, h:call('pay', id)).code)
    assert.is_true(h:query('get', id).paid)
  end)

  it('is the same after a snapshot as CSV', function()
    local id = h:call('place', 'ada', 'a "lamp", new', 1, 5)
    h:through_snapshot 'examples/formats/csv_orders.lua'
    assert.equal('a "lamp", new', h:query('get', id).item)
  end)
end)
