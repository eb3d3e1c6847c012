-- Reads by lease at real nodes: switched on by a limit, never stale, not even where a leader stood still while another one led.
local P = require 'spec.support.processes'

local p

before_each(function() p = P.new(3) end)
after_each(function() p:close() end)

local function start_all(words)
  for id = 1, 3 do p:start(id, 'n' .. id, words) end
  p:ready()
end

local function leader_by_lease()
  local found
  p:wait('a leader with a lease', function()
    for id, left in select(2, p:run('status --json')):gmatch('"id":(%d),"last":%d+,"leader":%d+,"lease_ms":(%d+)') do
      if tonumber(left) > 0 then found = tonumber(id) end
    end
    return found
  end)
  return found
end

describe('a query by lease', function()
  it('is answered by a leader with promises, also after all were killed', function()
    start_all('--machine examples/kv.lua --cluster ' .. p.line)
    p:says('call kv.set colour teal', 0)
    p:says('query kv.get colour --read lease', 0, 'teal') -- as a linearizable one: leases are off
    assert.equal('0\n', (p:says('limits lease_drift_ms 20', 0)):match('%d+\n'))
    leader_by_lease()
    for id = 1, 3 do p:says('query kv.get colour --read lease --to 127.0.0.1:' .. p.ports[id], 0, 'teal') end
    for id = 1, 3 do p:stop(id, 'KILL') end
    start_all()
    leader_by_lease()
    p:says('query kv.get colour --read lease', 0, 'teal')
  end)

  it('is never stale where the leader stood still while others went on', function()
    start_all('--machine examples/kv.lua --cluster ' .. p.line)
    p:says('limits lease_drift_ms 20', 0)
    for round = 1, 3 do
      local old = leader_by_lease()
      p:says('call kv.set colour old' .. round, 0)
      P.sh(('kill -STOP %d'):format(p.pids[old].pid))
      p:background(('query kv.get colour --read lease --timeout 4000 --to 127.0.0.1:%d'):format(p.ports[old]), 'asked' .. round)
      local new
      p:wait('another leads', function()
        for id, role in select(2, p:run('status --json')):gmatch('"id":(%d),.-"role":"(%l+)"') do
          if role == 'leader' and tonumber(id) ~= old then new = p.ports[tonumber(id)] end
        end
        return new
      end)
      p:says(('call kv.set colour new%d --to 127.0.0.1:%d'):format(round, new), 0)
      P.sh(('kill -CONT %d'):format(p.pids[old].pid))
      p:wait('the query ends', function() return P.sh('test -s ' .. p:path('asked' .. round .. '.status')) == 0 end)
      -- It was asked before the new value was there, so the old one would be right, too, had it been answered then.
      p:says(('query kv.get colour --read lease --to 127.0.0.1:%d'):format(p.ports[old]), 0, 'new' .. round)
      if p:read('asked' .. round .. '.status') == '0\n' then
        assert.equal('new' .. round .. '\n', p:read('asked' .. round .. '.said'))
      end
    end
  end)
end)
