-- What a script that asks for more memory than there is does to others: a command parks (machine_spec), a query ends alone.
local machine = require 'spec.support.machine'

describe('a query that runs out of memory', function()
  local m = machine.new { lua_bytes_max = 8 * 1024 * 1024, m = [[
    local m = { name = 'm', version = 1, state = { rows = 'map' }, commands = {}, queries = {} }
    function m.commands.put(ctx, k, v) ctx.db.rows:put(k, v) end
    function m.queries.get(ctx, k) return ctx.db.rows:get(k) end
    function m.queries.eat(ctx) local s = 'x' for i = 1, 40 do s = s .. s end return #s end
    return m
  ]] }

  it('ends with an error that is definite, and the node goes on', function()
    for round = 1, 20 do
      local value, err = m:query('m.eat')
      assert.is_nil(value)
      assert.equal('SCRIPT_ERROR', err.code)
      assert.truthy(err.message:find('memory', 1, true))
      m:call('m.put', 'k', round)
      assert.equal(round, (m:query('m.get', 'k')))
      assert.equal(0, tonumber(m:status().parked_at))
    end
  end)
end)
