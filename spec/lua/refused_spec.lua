-- A module that is refused when its entry is applied (its init fails, say) is a fact of the state: all nodes say the same of
-- it, and the other mounts work.
local machine = require 'spec.support.machine'
local W = require 'spec.support.replicas'

local good = W.counter
local bad = [[
return { name = 'bad', version = 1, state = { rows = 'map' },
  init = function(ctx) ctx.db.rows:put('a', 1) error('no luck') end,
  commands = { set = function(ctx) ctx.db.rows:put('a', 2) end },
  queries = { get = function(ctx) return ctx.db.rows:get('a') end } }]]

describe('a refused module', function()
  it('leaves nothing behind but the reason, and the others work', function()
    local m = machine.new { counter = good }
    m:entry(3, assert(machine.bundle('bad', bad)))
    local value, err = m:call('bad.set')
    assert.is_nil(value)
    assert.equal('SCRIPT_ERROR', err.code)
    assert.truthy(err.message:find('mount bad has no code', 1, true))
    assert.truthy(err.message:find('module.lua:2: no luck', 1, true), err.message)
    value, err = m:query('bad.get')
    assert.is_nil(value)
    assert.truthy(err.message:find('no luck', 1, true))
    assert.equal(2, m:call('counter.add', 'a', 2))
  end)

  it('is refused once: a second entry of it says nothing new', function()
    local m = machine.new { counter = good }
    m:entry(3, assert(machine.bundle('bad', bad)))
    local digest = m:digest()
    m:entry(3, assert(machine.bundle('bad', bad)))
    assert.equal(digest, m:digest())
  end)

  it('does not keep a cluster from its service, and restarts to the same', function()
    local w = W.formed { bundles = W.bundles { counter = good, bad = bad } }
    for node = 0, 2 do
      local reply = w:call(node, 'bad.set')
      assert.equal('SCRIPT_ERROR', reply.code)
      assert.is_true(reply.definite)
      assert.truthy(reply.message:find('no luck', 1, true))
    end
    assert.equal(1, w:call(1, 'counter.add', 'a').value)
    for node = 0, 2 do w:crash(node) end
    w:start_all()
    w:ready()
    w:equal()
    assert.equal('SCRIPT_ERROR', w:call(0, 'bad.set').code)
    assert.equal(2, w:call(2, 'counter.add', 'a').value)
  end)
end)
