-- Real nodes that join a cluster, say what they are, leave, and come back with the wrong directory.
local P = require 'spec.support.processes'

local p

before_each(function()
  p = P.new(3)
  p:start(1, 'n1', '--machine examples/kv.lua --cluster 1=127.0.0.1:' .. p.ports[1])
  p:wait('node 1 leads', function() return (p:run('call kv.set first 1')) == 0 end)
end)
after_each(function() p:close() end)

local function address(id) return '127.0.0.1:' .. p.ports[id] end
local function join(id, name, words) p:start(id, name or 'n' .. id, ('--join %s %s'):format(address(1), words or '')) end
local function log_of(name)
  local file = io.open(p:path(name .. '.log')) -- not there at once
  local text = file and file:read('*a') or ''
  if file then file:close() end
  return text
end
local function ended(name, text)
  p:wait(name .. ' says ' .. text, function() return log_of(name):find(text, 1, true) end)
end

local function let_in(id, words)
  p:says(('members add %d=%s'):format(id, address(id)), 0)
  join(id, nil, words)
  p:wait('node ' .. id .. ' has caught up', function() return (select(2, p:run('members'))):find(('\n%d .-caught up'):format(id)) end)
end

describe('start --join', function()
  it('is refused uninvited with the line to type; let in, the node is a learner with all that it said of itself', function()
    join(2)
    ended('n2', 'nobody invited node 2. To let it join: tidelock members add 2=' .. address(2))
    let_in(2, '--zone b --tag rack=7 --priority 5')
    p:says('members', 0, 'learner', 'zone b rack=7 priority 5')
    p:says('members promote 2', 0)
    p:wait('node 2 leads, for its priority', function() return (select(2, p:run('members'))):find('\n2 .-leads') end)
    p:says('query kv.get first --to ' .. address(2), 0, '1')
    p:stop(2, 'KILL')
    p:start(2, 'n2', '--zone c')
    p:wait('it said so', function() return (select(2, p:run('members'))):find('zone c rack=7 priority 5', 1, true) end)
  end)

  it('goes without what the cluster has already, and with an address', function()
    join(2, 'n2', '--machine examples/kv.lua')
    ended('n2', '--join goes without --cluster, --machine, --format and --policy')
    p:says('start --id 2 --data ' .. p:path('n3') .. ' --listen 127.0.0.1:1 --join nowhere:x', 2, 'an address is HOST:PORT')
  end)

  it('of a directory that was restored, or is of another cluster, is refused', function()
    p:says('backup ' .. p:path('f'), 0)
    p:says(('restore %s --data %s'):format(p:path('f'), p:path('r')), 0)
    p:says(('start --id 2 --data %s --listen %s --join %s'):format(p:path('r'), address(2), address(1)), 78, 'this directory was restored')
    p:start(3, 'other', '--machine examples/kv.lua --cluster 3=' .. address(3))
    p:wait('node 3 leads', function() return (p:run('call kv.set x 1 --to ' .. address(3))) == 0 end)
    p:stop(3)
    p:says(('start --id 3 --data %s --listen %s --join %s'):format(p:path('other'), address(3), address(1)), 78, 'this directory is of cluster')
  end)

  it('of a directory that was not let in yet says what is missing', function()
    join(2)
    ended('n2', 'nobody invited')
    p:start(2, 'n2')
    ended('n2', 'this directory was made to join a cluster, and none has let it in yet: start it with --join HOST:PORT')
  end)
end)

describe('a member', function()
  it('that is removed ends and says so, and is told again when it comes back', function()
    let_in(2)
    let_in(3)
    p:says('members promote 2 promote 3', 0)
    p:says('members remove 3', 0)
    ended('n3', 'this node was removed from the cluster by the configuration at entry')
    p:stop(3)
    p:start(3, 'n3')
    p:wait('it ended again', function() return select(2, log_of('n3'):gsub(' error ', '')) >= 2 end)
    p:says('call kv.set after 1', 0)
  end)

  it('that lost its directory is refused by its id, and replaced where it was (bugs 66, 67)', function()
    let_in(2)
    let_in(3)
    p:says('members promote 2 promote 3', 0)
    p:stop(3, 'KILL')
    join(3, 'new3')
    ended('new3', ('tidelock members replace 3 NEW=%s'):format(address(3)))
    p:stop(3)
    p:says(('members replace 3 4=%s'):format(address(3)), 0, 'tidelock start --id 4')
    p.ports[4] = p.ports[3]
    join(4)
    p:wait('node 4 votes in place of 3', function()
      local said = select(2, p:run('members'))
      return said:find('\n4 .-voter') and not said:find('\n3 ')
    end)
  end)

  it('that is started elsewhere without a word is taken for a copy', function()
    let_in(2)
    p:stop(2)
    P.sh(('cp -r %s %s'):format(p:path('n2'), p:path('copy')))
    p:start(2, 'n2')
    p:says(('start --id 2 --data %s --listen 127.0.0.1:%d'):format(p:path('copy'), p.ports[3]), 78,
      'the others look for node 2 at ' .. address(2), '--advertise ' .. address(2), '--join HOST:PORT', 'else this directory is a copy')
    p:says(('start --id 2 --data %s --listen 127.0.0.1:%d --join %s'):format(p:path('copy'), p.ports[3], address(1)), 3,
      'node 2 is heard, at ' .. address(2))
    assert.truthy(p:says('members', 0):find('2 +' .. address(2)))
  end)

  it('moves to another address when it says so', function()
    let_in(2)
    p:stop(2)
    local moved = p.ports[3]
    p.ports[2] = moved
    join(2)
    p:wait('it is found there', function()
      local said = select(2, p:run('members'))
      return said:find(('2%%s+127.0.0.1:%d%%s+learner%%s+caught up'):format(moved))
    end)
  end)
end)
