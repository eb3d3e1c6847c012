-- Leadership of real nodes handed over: asked for, and by a leader that ends.
local P = require 'spec.support.processes'

local p

before_each(function()
  p = P.new(3)
  for id = 1, 3 do
    p:start(id, 'n' .. id, '--election 3000 --heartbeat 100 --machine examples/kv.lua --cluster ' .. p.line)
  end
  p:ready()
end)
after_each(function() p:close() end)

-- The id of the node that leads, as another one than `not_node` says.
local function leader(not_node)
  local found
  p:wait('a leader', function()
    for id, role in select(2, p:run('status --json')):gmatch('"id":(%d),.-"role":"(%l+)"') do
      if role == 'leader' and tonumber(id) ~= not_node then found = tonumber(id) end
    end
    return found
  end)
  return found
end

describe('leadership', function()
  it('goes to the node that is named, or to another; not to somebody who is not there', function()
    local to = leader() % 3 + 1
    p:says('transfer ' .. to, 0, '"leader":' .. to)
    assert.equal(to, leader())
    p:says('call kv.set colour teal', 0)
    p:says('transfer', 0, '"leader":')
    assert.not_equal(to, leader())
    p:says('transfer 7', 5, 'NOT_FOUND: node 7 is no member of this cluster')
    p:says('transfer x', 2, 'transfer takes the id of a node')
    p:says('query kv.get colour', 0, 'teal')
  end)

  it('is handed over by a leader that ends: the next command need not wait for an election', function()
    local old = leader()
    local next_node = '127.0.0.1:' .. p.ports[old % 3 + 1]
    p:says('call kv.set colour teal', 0)
    p:stop(old)
    p:says('call kv.set colour blue --timeout 1500 --to ' .. next_node, 0) -- an election would take 3 to 6 seconds
    assert.not_equal(old, leader(old))
  end)
end)
