-- `tidelock members` without nodes: words become changes, and what nodes said becomes lines (lua/cli/members_text.lua).
package.path = './lua/?.lua;' .. package.path
local text = require 'cli.members_text'
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local function words(line)
  local list = {}
  for word in line:gmatch('%S+') do list[#list + 1] = word end
  return list
end

local function member(id, more)
  local one = { id = id, address = 'h:' .. id, role = 'voter', old = false, is_leader = false, silent_ms = 0, lag = 0, caught_up = true,
    steady_ms = 1, parked = false, zone = '', tags = {}, priority = 0 }
  for key, value in pairs(more or {}) do one[key] = value end
  return one
end

local function all(list, more)
  local said = { configuration = 7, joint = false, members = list, invited = {}, policy = 'manual' }
  for key, value in pairs(more or {}) do said[key] = value end
  return said
end

-- What a node says of itself.
local function own(id, more)
  local one = { id = id, leader = 1, term = 3, commit = 100, applied = 100, parked_at = 0 }
  for key, value in pairs(more or {}) do one[key] = value end
  return one
end

-- The line of the first member.
local function line(one, asked, more) return text.table_of(all({ one, member(9) }, more), asked)[1] end

describe('the words of members', function()
  it('become changes, several as one', function()
    assert.same({ { op = 'promote', id = 4 }, { op = 'demote', id = 2 } }, text.read(words 'promote 4 demote 2'))
    assert.same({ { op = 'add', id = 4, address = '127.0.0.1:7304' } }, text.read(words 'add 4=127.0.0.1:7304'))
    assert.same({ { op = 'address', id = 2, address = '[::1]:7302' } }, text.read(words 'address 2=[::1]:7302'))
    assert.same({ { op = 'replace', id = 3, with = 5, address = 'h:1' }, { op = 'remove', id = 1 } },
      text.read(words 'replace 3 5=h:1 remove 1'))
    assert.same({ { op = 'replace', id = 3, with = 5 } }, text.read(words 'replace 3 5'))
    assert.same({ { op = 'remove', id = 9007199254740991 } }, text.read(words 'remove 9007199254740991'))
  end)

  it('are refused with what is meant', function()
    for said, why in pairs { ['frob 4'] = 'not frob', ['promote'] = 'promote: a node is named by its id, a whole number from 1, not nothing',
      ['promote x'] = 'not x', ['promote 0'] = 'not 0', ['promote -1'] = 'not -1', ['promote 1.5'] = 'not 1.5',
      ['promote 9007199254740992'] = 'not 9007199254740992', ['add 4'] = 'write ID=HOST:PORT, like 4=127.0.0.1:7304, not 4',
      ['add'] = 'not nothing', ['add 0=h:1'] = 'not 0', ['add 4=h'] = 'not 4=h', ['replace 3'] = 'replace 3 by whom?',
      ['replace 3 x=h:1'] = 'not x=h:1', ['promote 4 demote'] = 'demote: a node is named' } do
      local changes, sentence = text.read(words(said))
      assert.is_nil(changes, said)
      assert.truthy(sentence:find(why, 1, true), said .. ': ' .. sentence)
    end
  end)
end)

describe('the table of members', function()
  it('says what a node says now before what was observed once', function()
    assert.equal('1    h:1                    voter    leads', line(member(1), { ['h:1'] = own(1) }))
    assert.equal('1    h:1                    voter    leads', line(member(1, { silent_ms = 5000, parked = true }), { ['h:1'] = own(1) }))
    assert.equal('2    h:2                    voter    does not answer', line(member(2), { ['h:2'] = { down = true } }))
    assert.equal('2    h:2                    voter    does not answer, silent for 3 min',
      line(member(2, { silent_ms = 180000 }), { ['h:2'] = { down = true } }))
    assert.equal('2    h:2                    voter    parked', line(member(2), { ['h:2'] = own(2, { parked_at = 5 }) }))
    assert.equal('2    h:2                    voter    node 3 answers at its address', line(member(2), { ['h:2'] = own(3) }))
    assert.equal('2    h:2                    voter    votes until the change is done', line(member(2, { old = true }), { ['h:2'] = own(2) }))
  end)

  it('takes what was observed where nobody could be asked', function()
    assert.equal('1    h:1                    voter    leads', line(member(1, { is_leader = true })))
    assert.equal('2    h:2                    voter    well', line(member(2)))
    assert.equal('2    h:2                    voter    parked, silent for 2 s', line(member(2, { silent_ms = 2000, parked = true })))
  end)

  it('believes the newest term about who leads', function()
    local asked = { ['h:1'] = own(1, { leader = 1, term = 3 }), ['h:9'] = own(9, { leader = 9, term = 4 }) }
    assert.equal('1    h:1                    voter    well', line(member(1, { is_leader = true }), asked))
    asked['h:9'].leader = 0 -- it campaigns: that is no leader yet
    assert.equal('1    h:1                    voter    leads', line(member(1), asked))
  end)

  it('shows what a learner lacks, and whether it may vote', function()
    local learner = { role = 'learner', caught_up = false, lag = 5000 }
    local asked = { ['h:4'] = own(4, { applied = 60 }), ['h:9'] = own(9) }
    assert.equal('4    h:4                    learner  catching up, lacks 40', line(member(4, learner), asked))
    assert.equal('4    h:4                    learner  catching up, lacks 5000', line(member(4, learner)))
    learner.caught_up = true
    assert.equal('4    h:4                    learner  caught up', line(member(4, learner), asked))
    assert.equal('4    h:4                    learner  does not answer', line(member(4, learner), { ['h:4'] = { down = true } }))
  end)

  it('shows zone, tags and priority; and nothing of them leaves its line', function()
    local said = line(member(2, { zone = 'b', tags = { rack = '7', disk = 'a\27[31m\nb' }, priority = 3 }))
    assert.equal('2    h:2                    voter    well  (zone b disk=a\\x1b[31m\\x0ab rack=7 priority 3)', said)
    for _, one in ipairs(text.table_of(all({ member(1) }, { alarm = 'x\ny', policy = 'p\27', waiting = { why = 'w\r' } }))) do
      assert.falsy(one:find('%c'), one)
    end
  end)

  it('shows whom it invited, until that is over', function()
    local function invited(list, replaces)
      local lines = text.table_of(all(list, { invited = { { id = 5, address = 'h:5', replaces = replaces } } }))
      return lines[#list + 1]
    end
    local learner = member(5, { role = 'learner' })
    assert.equal('5    h:5                    invited  has not joined yet', invited({ member(1) }, 0))
    assert.equal('5    h:5                    invited  has not joined yet; takes the place of 3', invited({ member(3) }, 3))
    assert.equal('5    h:5                    invited  has joined; takes the place of 3 when it has caught up',
      invited({ member(3), learner }, 3))
    assert.equal('configuration 7, policy manual', invited({ member(1), member(5) }, 3)) -- it has taken it
    assert.equal('configuration 7, policy manual', invited({ member(1), learner }, 3)) -- nobody is there to be replaced
  end)

  it('says what goes on', function()
    local lines = text.table_of(all({}, { joint = true, policy = 'autopilot', alarm = 'it threw', waiting = { why = 'node 4 is new' },
      decision = { index = 12, by = 'policy', why = 'steady',
      changes = { { 'promote', 4, 0, '' }, { 'replace', 1, 6, '' } } } }))
    assert.same({ 'configuration 7 (a change goes on), policy autopilot', 'decided at entry 12 by policy: promote 4, replace 1 by 6 (steady)',
      'the policy waits: node 4 is new', 'ALARM: the policy is not asked any more: it threw' }, lines)
  end)
end)

describe('a line of the history', function()
  local function of(more)
    local one = { index = 18, configuration = 19, by = 'join', force = false, why = 'it asked', changes = { { 'add', 4, 0, 'h:4' } },
      done = true }
    for key, value in pairs(more) do one[key] = value end
    return text.line_of(one)
  end

  it('says what became of it', function()
    assert.equal('entry 18  join: add 4=h:4 -- it asked [done, configuration 19]', of {})
    assert.equal('entry 18  operator (forced): add 4=h:4 -- it asked [not done: no leader took it]',
      of { by = 'operator', force = true, done = 'no leader took it' })
    local going = of { configuration = 0, why = 'a\nb' }
    assert.equal('entry 18  join: add 4=h:4 -- a\\x0ab [done]', going)
    assert.equal('entry 18  join: add 4=h:4 -- it asked [under way]', text.line_of { index = 18, configuration = 0, by = 'join', force = false,
      why = 'it asked', changes = { { 'add', 4, 0, 'h:4' } } })
  end)
end)

describe('what comes next', function()
  it('is a line that starts the node at members that are well, and not at the one it replaces', function()
    local said = all { member(1), member(2, { silent_ms = 1 }), member(3), member(4, { old = true }), member(5, { parked = true }), member(6),
      member(7), member(8) }
    assert.equal('tidelock start --id 9 --data DIR --listen h:9 --join h:1,h:3,h:6',
      (text.join_line({ { op = 'add', id = 9, address = 'h:9' } }, 9, said, 'x:1')))
    assert.equal('tidelock start --id 9 --data DIR --listen h:9 --join h:1,h:6,h:7',
      (text.join_line({ { op = 'replace', id = 3, with = 9, address = 'h:9' } }, 9, said, 'x:1')))
    assert.equal('tidelock start --id 9 --data DIR --listen h:9 --join x:1',
      (text.join_line({ { op = 'replace', id = 3, with = 9, address = 'h:9' } }, 9, all { member(3) }, 'x:1')))
  end)

  it('is advice where the refusal does not say it', function()
    assert.truthy(text.advice { code = 'CONFIG_PENDING' }:find('--force', 1, true))
    assert.truthy(text.advice { code = 'CONFLICT', message = 'node 4 has not caught up, and' }:find('--force', 1, true))
    assert.truthy(text.advice { code = 'DENIED' }:find('--force', 1, true))
    assert.truthy(text.advice { code = 'TIMEOUT' }:find('members history', 1, true))
    assert.is_nil(text.advice { code = 'CONFLICT', message = 'it would leave no voter' })
    assert.is_nil(text.advice { code = 'NOT_FOUND' })
  end)

  it('is what a change waits for', function()
    assert.equal('node 4 lacks 40 entries', text.progress(all { member(1), member(4, { role = 'learner', caught_up = false, lag = 40 }) }))
    assert.equal('the old and the new voters decide', text.progress(all({ member(1) }, { joint = true })))
    assert.equal('the leader carries it out', text.progress(all { member(1) }))
    assert.equal('nobody says how far it is', text.progress(nil))
  end)
end)

describe('tidelock members', function()
  -- Nobody listens at port 1.
  local function says(line_, status, wanted)
    local pipe = assert(io.popen(('timeout 20 %s members %s --to 127.0.0.1:1 2>&1; echo "#!$?"'):format(BIN, line_)))
    local said = pipe:read('*a')
    pipe:close()
    assert.equal(status, tonumber(said:match('#!(%d+)\n$')), line_ .. '\n' .. said)
    assert.truthy(said:find(wanted, 1, true), ('%s\nwanted: %s\nsaid:   %s'):format(line_, wanted, said))
  end

  it('refuses what makes no sense before anybody is asked', function()
    says('frob', 2, 'members knows add, remove')
    says('promote', 2, 'not nothing')
    says('--force', 2, 'what is to be changed?')
    says('history --why x', 2, 'what is to be changed?')
    says('history 4', 2, 'takes no more words')
    says('promote 4 --read stale', 2, 'goes through the leader')
    says('--read never', 2, 'there are linearizable, lease and stale')
    says('promote 4 --expect x', 2, '--expect x: wants a whole number')
    says('--timeout 0', 2, '--timeout 0: wants a whole number')
  end)

  it('says that nobody was reached: certainly not done', function()
    says('--timeout 200', 3, 'NO_LEADER')
    says('history --timeout 200 --json', 3, '"code":"NO_LEADER"')
    says('promote 4 --timeout 200', 3, 'NO_LEADER')
    says('promote 4 --timeout 200 --json', 3, '"definite":true')
  end)
end)
