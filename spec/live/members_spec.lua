-- Members of real nodes come, vote, are replaced and leave, as an operator types it; and what is said where nothing can be done.
local P = require 'spec.support.processes'

local p

local function at(id) return '127.0.0.1:' .. p.ports[id] end

-- Ports for `all` nodes, of which the first `founders` form a cluster.
local function begin(all, founders, words)
  p = P.new(all)
  local line = {}
  for id = 1, founders do line[id] = ('%d=%s'):format(id, at(id)) end
  for id = 1, founders do
    p:start(id, 'n' .. id, ('--machine examples/kv.lua --cluster %s %s'):format(table.concat(line, ','), words or ''))
  end
  p:ready()
end

after_each(function() p:close() end)

-- Until `tidelock members` says the text. -> all that it said
local function shows(text)
  local said
  p:wait(text, function()
    said = select(2, p:run('members'))
    return said:find(text, 1, true)
  end)
  return said
end

-- Until the process of a node that was removed has ended by itself.
local function ends(id)
  p:wait(('node %d ends'):format(id), function() return P.sh('test -e ' .. p.pids[id].ended) == 0 end)
  p.pids[id] = nil
end

-- Starts node `id` by the very line that was printed for it, and waits until it is a learner.
local function start_as_printed(id, said)
  local to = assert(said:match(('tidelock start %%-%%-id %d %%-%%-data DIR %%-%%-listen %s (%%-%%-join %%S+)\n'):format(id,
    at(id):gsub('%p', '%%%0'))), said)
  p:start(id, 'n' .. id, to)
  return shows(('%-4d %-22s learner  caught up'):format(id, at(id)))
end

local function voters(said)
  local list = {}
  for id in said:gmatch('(%d+) +%S+ +voter') do list[#list + 1] = id end
  return table.concat(list, ' ')
end

describe('members of real nodes', function()
  it('come by the line that is printed, vote, and leave; the history has it all', function()
    begin(4, 3)
    p:says('members history', 0, 'nothing was decided yet')
    local said = p:says('members add 4=' .. at(4), 0, 'node 4 may join')
    shows(('%-4d %-22s invited  has not joined yet'):format(4, at(4)))
    p:says('members promote 4', 5, 'NOT_FOUND: node 4 is no member')
    start_as_printed(4, said)
    p:says('members add 4=' .. at(4), 0, 'node 4 is a member already')
    p:says('call kv.set a 1', 0)
    p:says('members promote 4 demote 1 --why "a better disk"', 0, 'done: promote 4, demote 1')
    assert.equal('2 3 4', voters(p:says('members', 0)))
    p:says('members promote 4', 6, 'CONFLICT: node 4 is a voter already')
    p:says('members remove 2 remove 3 remove 4', 6, 'CONFLICT: it would leave no voter')
    p:says('members remove 1 --expect 1', 6, 'STALE_CONFIG', 'see who is a member now')
    p:says('members remove 1 --json', 0, '"decision":')
    ends(1)
    p:says('members remove 1', 5, 'NOT_FOUND')
    p:says('query kv.get a --to ' .. at(4), 0, '1')
    p:says('members history', 0, 'join: add 4=' .. at(4) .. ' -- it asked to join [done',
      'operator: promote 4, demote 1 -- a better disk [done', 'operator: remove 1 -- an operator asked for it [done')
    p:says('members history --json', 0, '"why":"a better disk"')
    assert.falsy(p:says('members', 0):find(at(1), 1, true))
  end)

  it('are not let in uninvited under manual, and an invitation can be taken back', function()
    begin(2, 1)
    p:says('start --id 2 --data ' .. p:path('x2') .. ' --listen ' .. at(2) .. ' --join ' .. at(1), 7, 'members add 2=' .. at(2))
    p:says('members add 2=' .. at(2), 0)
    p:says('members remove 2', 0, 'node 2 is not invited any more')
    p:says('start --id 2 --data ' .. p:path('x2') .. ' --listen ' .. at(2) .. ' --join ' .. at(1), 7, 'members add 2=' .. at(2))
  end)

  it('that died are shown as that, and replaced by others', function()
    begin(4, 3)
    p:stop(3, 'KILL')
    shows(('%-4d %-22s voter    does not answer'):format(3, at(3)))
    local said = p:says(('members replace 3 4=%s'):format(at(4)), 0, 'node 4 may join')
    assert.falsy(said:match('%-%-join .*'):find(at(3), 1, true), said)
    p:start(4, 'n4', assert(said:match('(%-%-join %S+)\n')))
    p:wait('node 4 in its place', function()
      said = select(2, p:run('members'))
      return voters(said) == '1 2 4' and not said:find('a change goes on', 1, true)
    end)
    assert.falsy(said:find('invited', 1, true), said)
    p:says('members history', 0, 'operator: replace 3 by 4 -- ')
    p:says('call kv.set a 1', 0)
  end)

  it('may vote that have not caught up if it is forced, and that is recorded', function()
    begin(4, 3)
    start_as_printed(4, p:says('members add 4=' .. at(4), 0))
    p:stop(4)
    shows(('%-4d %-22s learner  does not answer, silent for'):format(4, at(4)))
    p:says('members promote 4', 6, 'CONFLICT: node 4 has not caught up', '--force lets it vote all the same')
    p:says('members promote 4 --force', 0, 'done: promote 4')
    p:says('members history', 0, 'operator (forced): promote 4')
    p:start(4, 'n4')
    shows(('%-4d %-22s voter    well'):format(4, at(4)))
  end)

  it('are shown by one node alone, which can change nothing', function()
    begin(3, 3)
    p:stop(2, 'KILL')
    p:stop(3, 'KILL')
    p:wait('no leader', function() return p:run('members --timeout 500') == 3 end)
    p:says('members demote 2 --timeout 500 --json', 3, '"code":"NO_LEADER"', '"definite":true')
    p:says('members --read stale', 0, 'does not answer', 'configuration 1, policy manual')
    p:says('members history --read stale --json', 0, '{"ok":[]')
  end)
end)

describe('a policy', function()
  it('is asked before operators are heard, and is passed over by force', function()
    begin(3, 3)
    local mine = p:write('mine.lua', [[return { name = 'mine', version = 1,
      admit = function(_, _, change) if change.op == 'demote' then return nil, 'nobody is demoted here' end return true end }]])
    p:says('deploy --policy ' .. mine, 0, 'the policy is version 1')
    p:says('members', 0, 'policy mine')
    p:says('members demote 3', 7, 'DENIED', 'nobody is demoted here', '--force passes it over')
    p:says('members demote 3 --force', 0, 'done: demote 3')
    p:says('deploy --policy manual', 0, 'the policy is manual from entry ')
    p:says('members promote 3', 0, 'done: promote 3')
  end)

  it('that fails is told to those who look, and the next one is asked', function()
    begin(1, 1)
    p:says('deploy --policy ' .. p:write('bad.lua', "return { name = 'bad', version = 1, review = function() error 'out of ideas' end }"), 0)
    shows('ALARM: the policy is not asked any more: ')
    p:says('members', 0, 'out of ideas')
    p:says('deploy --policy examples/policy_autopilot.lua', 0, 'the policy is version 1')
    assert.falsy(p:says('members', 0, 'policy autopilot'):find('ALARM', 1, true))
  end)
end)

describe('a cluster under load', function()
  it('grows, loses its leader for good, and shrinks, as its policy has it, and loses nothing', function()
    local bin = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'
    local status, said = P.sh(('timeout 200 %s run examples/demos/grow.lua 2>&1'):format(bin))
    assert.equal(0, status, said)
    for _, text in ipairs { 'decided by join: add 5 %-%- it asked to join', 'so there are 5 voters of 5',
      'decided by policy: replace %d by 6 %-%- ', 'decided by policy: demote %d', 'voters: 0 missing;',
      'the history is linearizable; digests of all members are equal: %x+' } do
      assert.truthy(said:find(text), text .. '\n' .. said)
    end
  end)
end)
