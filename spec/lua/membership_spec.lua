-- Who shall be a member, where no policy says it: requests, invitations, decisions and what became of them (machine/membership.h).
local membership = require 'spec.support.membership'

local function code(_, err) return err and err.code end

-- Nodes 1 to 3 vote, 4 has joined and has caught up.
local function four()
  local m = membership.new { 1, 2, 3 }
  assert(m:ask('operator', { op = 'add', id = 4, address = '127.0.0.1:7304' }))
  assert(m:join(4))
  m:carry_out()
  m:observe { [4] = {} }
  return m
end

local function last(m)
  local history = m:history()
  return history[#history]
end

describe('membership without a policy', function()
  it('is manual: a node that nobody invited is told the line to type', function()
    local m = membership.new { 1, 2, 3 }
    assert.equal('manual', m:membership().policy)
    local _, err = m:join(4)
    assert.same({ code = 'DENIED', message = 'nobody invited node 4. To let it join: tidelock members add 4=127.0.0.1:7304' }, err)
    assert.is_nil(m:decision())
  end)

  it('lets in whom an operator invited, as a learner, once', function()
    local m = membership.new { 1, 2, 3 }
    assert.same({ invited = 4 }, m:ask('operator', { op = 'add', id = 4, address = '127.0.0.1:7304' }))
    assert.same({ { id = 4, address = '127.0.0.1:7304', replaces = 0 } }, m:membership().invited)
    assert.equal('DENIED', code(m:join(4, { address = '127.0.0.1:9999' })))
    assert.equal('DENIED', code(m:join(5)))

    assert.same({ decision = m.index + 1, configuration = 1 }, m:join(4, { zone = 'b', tags = { disk = 'ssd' }, priority = 7 }))

    local decision = m:decision()
    assert.equal('join', decision.by)
    assert.equal('it asked to join', decision.why)
    assert.same({ { 'add', 4, 0, '127.0.0.1:7304', 104, 'b', { disk = 'ssd' }, 7 } }, decision.changes)
    local new = membership.members_of(decision.members)[4]
    assert.same({ id = 4, roles = membership.LEARNER, address = '127.0.0.1:7304', incarnation = 104, zone = 'b', priority = 7,
      tags = { disk = 'ssd' } }, new)
    m:carry_out()
    assert.equal('1v 2v 3v 4l', m:who())
    assert.same({}, m:membership().invited)
    assert.is_nil(m:decision())
    assert.is_true(last(m).done)
    assert.equal(m.index, last(m).configuration)
  end)

  it('answers a join that is sent again: with the decision that waits, then with the member', function()
    local m = membership.new { 1 }
    m:ask('operator', { op = 'add', id = 2, address = '127.0.0.1:7302' })
    local first = m:join(2)
    assert.same(first, m:join(2))
    assert.equal(1, #m:history())
    m:carry_out()
    assert.same({ member = 2 }, m:join(2))
    assert.same({ member = 2 }, m:ask('operator', { op = 'add', id = 2, address = '127.0.0.1:7302' }))
  end)

  it('refuses a wiped disk, a reused id, an address twice, each with what to do', function()
    local m = four()
    local _, err = m:join(2, { incarnation = 77 })
    assert.equal('EXISTS', err.code)
    assert.truthy(err.message:find('tidelock members replace 2 NEW=127.0.0.1:7302', 1, true), err.message)
    assert.equal('EXISTS', code(m:ask('operator', { op = 'add', id = 2, address = '127.0.0.1:9999' })))
    assert.equal('EXISTS', code(m:ask('operator', { op = 'add', id = 5, address = '127.0.0.1:7302' })))
    m:ask('operator', { op = 'add', id = 5, address = '127.0.0.1:7305' })
    assert.equal('EXISTS', code(m:ask('operator', { op = 'add', id = 6, address = '127.0.0.1:7305' })))
    assert.equal('EXISTS', code(m:join(5, { address = '127.0.0.1:7302' })))
  end)

  it('takes what a member says anew of itself for a change of address', function()
    local m = membership.new { 1, 2, 3 }
    assert.equal('BUSY', code(m:join(2, { address = '127.0.0.1:9302' }))) -- it is heard where it was: this may be a copy
    m:observe { [2] = { silent = 5 } }
    assert.equal(1, m:join(2, { address = '127.0.0.1:9302', zone = 'b' }).configuration)
    assert.equal('address', m:decision().changes[1][1])
    m:carry_out()
    assert.equal('127.0.0.1:9302', m.members[2].address)
    assert.equal('b', m.members[2].zone)
    assert.equal(102, m.members[2].incarnation)
    assert.is_true(last(m).done)
  end)

  it('decides what an operator asks for, and refuses what makes no sense', function()
    local m = four()
    for _, case in ipairs {
      { { op = 'promote', id = 9 }, 'NOT_FOUND' }, { { op = 'promote', id = 1 }, 'CONFLICT' }, { { op = 'demote', id = 4 }, 'CONFLICT' },
      { { op = 'transfer', id = 4 }, 'CONFLICT' }, { { op = 'transfer', id = 9 }, 'NOT_FOUND' },
      { { op = 'replace', id = 1, with = 2 }, 'CONFLICT' }, { { op = 'replace', id = 1, with = 1, address = 'a:1' }, 'CONFLICT' },
      { { op = 'replace', id = 9, with = 5, address = 'a:1' }, 'NOT_FOUND' }, { { op = 'replace', id = 1, with = 5 }, 'BAD_ARGS' },
      { { op = 'address', id = 1 }, 'BAD_ARGS' }, { { op = 'address', id = 1, address = '127.0.0.1:7302' }, 'EXISTS' },
      { { op = 'dismiss', id = 1 }, 'BAD_ARGS' }, { { op = 'remove', id = 0 }, 'BAD_ARGS' },
      { { op = 'remove', id = 1, zone = ('z'):rep(64) }, 'BAD_ARGS' }, { { op = 'remove', id = 1, priority = 101 }, 'BAD_ARGS' },
      { { { op = 'remove', id = 1 }, { op = 'remove', id = 2 }, { op = 'remove', id = 3 } }, 'CONFLICT' },
      { { { op = 'remove', id = 1 }, { op = 'demote', id = 1 } }, 'CONFLICT' },
      { { { op = 'remove', id = 1 }, { op = 'transfer', id = 2 } }, 'CONFLICT' },
      { { { op = 'transfer', id = 2 }, { op = 'remove', id = 1 } }, 'CONFLICT' },
      { { { op = 'remove', id = 1 }, { op = 'add', id = 5, address = 'a:1' } }, 'BAD_ARGS' }, { {}, 'BAD_ARGS' },
    } do
      local _, err = m:ask('operator', case[1])
      assert.equal(case[2], err and err.code, require('spec.support.machine').pack(case[1]) .. tostring(err and err.message))
    end
    assert.is_nil(m:decision())
    assert.equal('BAD_ARGS', code(m:ask('somebody', { op = 'remove', id = 1 })))
    assert.equal('BAD_ARGS', code(m:ask('join', { op = 'remove', id = 1 })))
    assert.is_false((m:entry(12, '')))

    m:ask('operator', { { op = 'promote', id = 4 }, { op = 'demote', id = 2 } }, { why = 'for the upgrade' })
    assert.equal('for the upgrade', m:decision().why)
    m:carry_out()
    assert.equal('1v 2l 3v 4v', m:who())
    m:ask('operator', { op = 'remove', id = 2 })
    m:carry_out()
    assert.equal('1v 3v 4v', m:who())
  end)

  it('holds a request against the configuration that was looked at', function()
    local m = four()
    local id = m:ask('operator', { op = 'remove', id = 4 }, { expected = m.index + 5 })
    assert.is_nil(id)
    assert.equal('STALE_CONFIG', code(m:ask('operator', { op = 'remove', id = 4 }, { expected = 1 })))
    local now = last(m).configuration
    assert.equal(now, m:ask('operator', { op = 'remove', id = 4 }, { expected = now }).configuration)
  end)

  it('promotes only who has caught up and is heard, unless it is forced; that is recorded', function()
    local m = four()
    m:observe { [4] = { caught_up = false, lag = 500 } }
    assert.equal('CONFLICT', code(m:ask('operator', { op = 'promote', id = 4 })))
    m:observe { [4] = { silent = m.now } }
    assert.equal('CONFLICT', code(m:ask('operator', { op = 'promote', id = 4 })))
    assert.is_not_nil(m:ask('operator', { op = 'promote', id = 4 }, { force = true }))
    assert.is_true(m:decision().force)
    assert.is_true(last(m).force)
  end)

  it('leaves no voters of whom a majority is silent, unless it is forced', function()
    local m = four()
    m:observe { [2] = { silent = m.now } }
    local _, err = m:ask('operator', { op = 'remove', id = 3 })
    assert.same({ code = 'CONFLICT', message = 'of the 2 voters that it would leave, 1 are heard, and no majority' }, err)
    assert.is_not_nil(m:ask('operator', { op = 'remove', id = 2 }))
    m:carry_out()
    assert.equal('1v 3v 4l', m:who())
  end)

  it('has one change at a time; a forced one takes the place of one that only waits', function()
    local m = four()
    m:ask('operator', { op = 'demote', id = 2 })
    assert.equal('CONFIG_PENDING', code(m:ask('operator', { op = 'remove', id = 3 })))
    m:ask('operator', { op = 'remove', id = 3 }, { force = true })
    assert.equal('a forced request took its place', m:history()[2].done)
    m:carry_out(true)
    assert.is_nil(last(m).done)
    assert.is_nil(m:decision())
    assert.equal('CONFIG_PENDING', code(m:ask('operator', { op = 'remove', id = 4 }, { force = true })))
    assert.equal('CONFIG_PENDING', code(m:join(2, { zone = 'x' })))
    assert.same({ invited = 6 }, m:ask('operator', { op = 'add', id = 6, address = 'a:6' })) -- that decides nothing
  end)

  -- The leader had begun with it when the forced one came: its line said that it was not done, and it was.
  it('tells the one that was set aside from one that the leader had begun with', function()
    local m = four()
    local before = m.members
    m:ask('operator', { op = 'demote', id = 2 })
    local begun = m:decision()
    m:ask('operator', { op = 'remove', id = 3 }, { force = true })
    m:ask('operator', { op = 'remove', id = 4 }, { force = true })
    m:carry_out(false, begun)
    assert.equal('1v 2l 3v 4l', m:who())
    local lines = m:history()
    assert.same({ true, 'a forced request took its place', 'another configuration came first' },
      { lines[2].done, lines[3].done, lines[4].done })
    assert.equal(m.index, lines[2].configuration)
    m:ask('operator', { op = 'promote', id = 2 })
    m:configure { before[1], before[2], before[4] } -- what it had led to, but another configuration came since
    assert.equal('a forced request took its place', m:history()[3].done)
  end)

  it('says what became of a decision: done, undone, overtaken, given back', function()
    local m = four()
    local before = m.members
    m:ask('operator', { op = 'remove', id = 3 })
    m:carry_out(true)
    m:configure(before)
    assert.equal('the new voters did not answer, and it was undone', last(m).done)
    assert.equal(m.index, last(m).configuration)

    m:ask('operator', { op = 'remove', id = 3 })
    m:configure { before[1], before[2], before[3] }
    assert.equal('another configuration came first', last(m).done)

    local asked = m:ask('operator', { op = 'remove', id = 3 })
    assert.equal('NOT_FOUND', code(m:ask('leader', {}, { expected = 3, why = 'stale' })))
    assert.same({ withdrawn = asked.decision }, m:ask('leader', {}, { expected = asked.decision, why = 'node 3 did not catch up' }))
    assert.is_nil(m:decision())
    assert.equal('node 3 did not catch up', last(m).done)
  end)

  it('replaces a member with a node that joins first, and that has caught up', function()
    local m = membership.new { 1, 2, 3 }
    assert.same({ invited = 4 }, m:ask('operator', { op = 'replace', id = 3, with = 4, address = '127.0.0.1:7304' }))
    assert.same({ { id = 4, address = '127.0.0.1:7304', replaces = 3 } }, m:membership().invited)
    m:observe { [3] = { silent = m.now } }
    m:join(4)
    m:carry_out()
    m:observe {}
    assert.is_nil(m:decision())
    m:observe { [4] = {} }
    local decision = m:decision()
    assert.same({ 'replace', 3, 4, '', 0, '', {}, 0 }, decision.changes[1])
    assert.equal('operator', decision.by)
    m:carry_out()
    assert.equal('1v 2v 4v', m:who())
    m:observe {}
    assert.same({}, m:membership().invited)
    assert.is_nil(m:decision())
  end)

  it('takes an invitation back, and has so many and no more', function()
    local m = membership.new { 1 }
    for id = 2, 33 do assert.same({ invited = id }, m:ask('operator', { op = 'add', id = id, address = 'a:' .. id })) end
    assert.equal('CONFLICT', code(m:ask('operator', { op = 'add', id = 34, address = 'a:34' })))
    assert.same({ invited = 33 }, m:ask('operator', { op = 'add', id = 33, address = 'b:33' }))
    assert.same({ withdrawn = 2 }, m:ask('operator', { op = 'remove', id = 2 }))
    assert.equal('NOT_FOUND', code(m:ask('operator', { op = 'remove', id = 2 })))
    assert.same({ invited = 34 }, m:ask('operator', { op = 'add', id = 34, address = 'a:34' }))
  end)

  it('hands leadership over: a new term ends the decision, the next leader says whether it worked', function()
    for _, case in ipairs { { 2, true }, { 3, 'another node became leader' } } do
      local m = four()
      m:observe { leader = 1 }
      m:ask('operator', { op = 'transfer', id = 2 })
      assert.is_nil(m:decision().members)
      m.term = 2
      m:entry(1, '')
      assert.is_nil(m:decision())
      assert.is_nil(last(m).done)
      m:observe { leader = case[1] }
      assert.equal(case[2], last(m).done)
      assert.equal(case[1], m:membership().leader)
    end
  end)

  it('remembers since when a member has been silent, and of members alone', function()
    local m = four()
    local t = m.now
    m:observe { [2] = { silent = t } }
    m.now = t + 5000
    m:observe { [2] = { silent = t + 4000, lag = 3, caught_up = false }, [9] = { lag = 1 } }
    assert.same({ 2, t, 3, false, false }, m:membership().observed[2])
    assert.equal(4, #m:membership().observed)
    m:observe { [2] = { silent = t + 99999 } }
    assert.equal(t, m:membership().observed[2][2])
    m:observe { [2] = {} }
    m:observe { [2] = { silent = t + 99999 } } -- not later than now
    assert.equal(t + 5000, m:membership().observed[2][2])
    m:ask('operator', { op = 'remove', id = 2 })
    m:carry_out()
    m:configure { { id = 1 }, { id = 2, roles = membership.LEARNER, incarnation = 5 }, { id = 3 } }
    assert.same({ 2, 0, 0, false, false }, m:membership().observed[2])
  end)

  it('keeps a history of so many lines and no more, with what was seen', function()
    local m = four()
    for i = 1, 300 do
      m:ask('operator', { op = 'address', id = 4, address = 'a:' .. i })
      m:carry_out()
    end
    local history = m:history()
    assert.equal(256, #history)
    for i = 2, #history do assert.is_true(history[i].index > history[i - 1].index) end
    assert.equal('a:300', history[256].changes[1][4])
    assert.same({ id = 4, role = 'learner', is_leader = false, silent_ms = 0, lag = 0, caught_up = true, steady_ms = 0, parked = false },
      history[256].observed[4])
  end)

  it('tells when there is something new', function()
    local m = four()
    local version = tonumber(m:status().membership_version)
    local function grew()
      local before = version
      version = tonumber(m:status().membership_version)
      return version > before
    end
    m:call('x.y')
    assert.is_false(grew())
    m:ask('operator', { op = 'remove', id = 4 })
    assert.is_true(grew())
    m:carry_out()
    assert.is_true(grew())
    m:observe { [2] = { silent = m.now } }
    assert.is_true(grew())
    assert.equal(2 ^ 64, tonumber(m:status().review_due_ms))
  end)

  it('travels in snapshots, also in the midst of a change, and counts in the digest', function()
    local m = four()
    m:observe { leader = 3, [2] = { silent = m.now, lag = 7, caught_up = false } }
    m:ask('operator', { op = 'add', id = 5, address = 'a:5' })
    m:ask('operator', { op = 'remove', id = 2 })
    local built = m:through()
    assert.same(m:membership(), built:membership())
    assert.same(m:history(), built:history())
    m:carry_out(true)
    built:carry_out(true)
    built = built:through()
    for _, one in ipairs { m, built } do
      assert.equal('CONFIG_PENDING', code(one:join(5, { address = 'a:5' })))
      one:configure { { id = 1 }, { id = 3 }, { id = 4, roles = membership.LEARNER } }
    end
    assert.equal(m:digest(), built:digest())
    assert.same(m:history(), built:history())
    assert.is_true(last(m).done)
  end)

  it('is no part of the state quota', function()
    local m = four()
    local before = m:status().quota_bytes
    m:ask('operator', { op = 'remove', id = 4 })
    assert.equal(before, m:status().quota_bytes)
  end)
end)
