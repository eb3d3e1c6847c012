-- The policies that ship (lua/tidelock/policy.lua), as plain functions of views that are made up; in a small model of clusters with
-- failures; and deployed, in the machine.
package.path = './lua/?.lua;' .. package.path
local policy = require 'tidelock.policy'
local membership = require 'spec.support.membership'

-- A view. Members: text like '1V 2v 3v! 4l', V leads, ! is silent for a minute, ? is parked, ~ has not caught up; @a is a zone.
-- more: by id, other facts; and what else the view has.
local function view(text, more)
  more = more or {}
  local v = { now = 1700000000000, pending = false, config_id = 1, members = {}, voters_up = 0 }
  local voters = 0
  for id, role, marks, zone in text:gmatch('(%d+)([vVl])([!?~]*)@?(%a?)') do
    local one = { id = tonumber(id), role = role == 'l' and 'learner' or 'voter', is_leader = role == 'V', lag = 0, tags = {}, zone = zone,
      address = 'a:' .. id, silent_ms = marks:find('!') and 60000 or 0, parked = marks:find('?', 1, true) ~= nil,
      caught_up = not marks:find('[!~]'), steady_ms = marks == '' and 60000 or 0 }
    for name, value in pairs(more[one.id] or {}) do one[name] = value end
    if one.role == 'voter' then
      voters = voters + 1
      if one.silent_ms == 0 then v.voters_up = v.voters_up + 1 end
    end
    if one.is_leader then v.leader = one.id end
    v.members[#v.members + 1] = one
  end
  v.quorum = math.floor(voters / 2) + 1
  for name, value in pairs(more) do if type(name) == 'string' then v[name] = value end end
  return v
end

-- ctx with a memory, as far as the shipped ones use it.
local function context()
  local rows = {}
  return { db = { tried = { get = function(_, k) return rows[k] end, put = function(_, k, v) rows[k] = v end } } }
end

-- What a policy does, as text: 'promote 4, demote 2'; 'wait 500'; 'nothing'.
local function says(p, v, ctx)
  local r = p.review(ctx or context(), v)
  if not r then return 'nothing' end
  assert(type(r.why) == 'string' and #r.why > 0, 'it does not say why')
  if r.wait then return 'wait ' .. r.wait end
  local out = {}
  for _, op in ipairs(r.op and { r } or r) do out[#out + 1] = op.op .. ' ' .. op.id .. (op.with and ' with ' .. op.with or '') end
  return table.concat(out, ', ')
end

describe('manual', function()
  it('refuses whoever was not invited with the line to type, and does nothing by itself', function()
    assert.is_nil(policy.manual.review)
    assert.is_true(policy.manual.admit({}, view '1V', { op = 'remove', id = 1, by = 'operator' }))
    local yes, why = policy.manual.admit({}, view '1V', { op = 'add', id = 4, address = 'h:1', by = 'join' })
    assert.is_nil(yes)
    assert.equal('nobody invited node 4. To let it join: tidelock members add 4=h:1', why)
  end)
end)

describe('autopilot', function()
  local pilot = policy.autopilot { target = 3 }

  it('says yes to whoever joins', function()
    assert.is_true(pilot.admit({}, view '1V', { op = 'add', id = 4, by = 'join', zone = '' }))
  end)

  it('does what there is to do', function()
    for _, case in ipairs {
      { '1V 2v 3v', 'nothing' },
      { '1V 2v 3v 4l 5l', 'nothing' },
      { '1V', 'nothing' },
      { '1V 2l', 'nothing' }, -- two voters bear no more than one
      { '1V 2l 3l', 'promote 2, promote 3' },
      { '1V 2l 3l 4l 5l', 'promote 2, promote 3' },
      { '1V 2v', 'nothing' },
      { '1V 2v 3l', 'promote 3' },
      { '1V 2v 3l~', 'nothing' }, { '1V 2v 3l?', 'nothing' },
      { '1V 2v 3v!', 'nothing' }, -- there is no spare
      { '1V 2v 3v! 4l', 'replace 3 with 4' },
      { '1V 2v 3v! 4l~', 'nothing' }, { '1V 2v 3v! 4l?', 'nothing' },
      { '1V 2v! 3v! 4l', 'nothing' }, -- too late: without a majority nothing can be done
      { '1V 2v 3v 4v', 'demote 4' },
      { '1V 2v 3v 4v 5v', 'demote 5, demote 4' },
      { '1v 2v 3V 4v! 5v', 'demote 4, demote 5' },
      { '1v 2v 3v? 4V 5v', 'demote 3, demote 5' },
      { '1v 2V! 3v', 'nothing' },
    } do
      assert.equal(case[2], says(pilot, view(case[1])), case[1])
    end
    assert.equal('nothing', says(pilot, view('1V 2v 3v! 4l', { pending = true })))
  end)

  it('waits for what time alone will bring, and for nothing else', function()
    assert.equal('wait 7000', says(pilot, view('1V 2v 3l', { [3] = { steady_ms = 3000 } })))
    assert.equal('wait 9000', says(pilot, view('1V 2l 3l', { [3] = { steady_ms = 1000 } })))
    assert.equal('nothing', says(pilot, view('1V 2l', { [2] = { steady_ms = 1000 } })))
    assert.equal('wait 29500', says(pilot, view('1V 2v 3v! 4l', { [3] = { silent_ms = 500 } })))
    assert.equal('nothing', says(pilot, view('1V 2v 3v!', { [3] = { silent_ms = 500 } })))
    assert.equal('nothing', says(pilot, view('1V 2v 3v 4l', { [4] = { steady_ms = 1000 } })))
    assert.equal('wait 3540000', says(pilot, view '1V 2v 3v 4l!'))
    assert.equal('remove 4', says(pilot, view('1V 2v 3v 4l!', { [4] = { silent_ms = 3600000 } })))
  end)

  it('takes the steadiest spare, and the voter that has been silent longest', function()
    assert.equal('promote 5', says(pilot, view('1V 2v 4l 5l', { [5] = { steady_ms = 70000 } })))
    assert.equal('replace 2 with 6', says(policy.autopilot { target = 5 }, view('1V 2v! 3v! 4v 5v 6l', { [2] = { silent_ms = 70000 } })))
  end)

  it('has settings, and refuses what is none', function()
    assert.equal('promote 3, promote 2', says(policy.autopilot { target = 5, steady = 100 }, view('1V 2l 3l', { [2] = { steady_ms = 100 } })))
    assert.equal('replace 3 with 4', says(policy.autopilot { dead = 500 }, view('1V 2v 3v! 4l', { [3] = { silent_ms = 500 } })))
    for _, case in ipairs { { { target = 4 }, 'target must be odd' }, { { targets = 3 }, "autopilot has no setting 'targets'" },
      { { steady = '10s' }, 'steady must be a number' }, { { dead = 0.5 }, 'dead must be a whole number from 1' },
      { { target = 33 }, 'at most 31' } } do
      local ok, why = pcall(policy.autopilot, case[1])
      assert.is_false(ok)
      assert.truthy(why:find(case[2], 1, true), why)
    end
  end)
end)

describe('zones', function()
  local zones = policy.zones { target = 3 }

  it('wants to know in which zone a node is', function()
    local yes, why = zones.admit({}, view '1V@a', { op = 'add', id = 4, by = 'join', zone = '' })
    assert.is_nil(yes)
    assert.equal('say in which zone the node is: --zone NAME', why)
    assert.is_true(zones.admit({}, view '1V@a', { op = 'add', id = 4, by = 'join', zone = 'b' }))
    assert.is_true(zones.admit({}, view '1V@a', { op = 'remove', id = 4, by = 'operator', zone = '' }))
  end)

  it('spreads voters, and takes one of a zone at a time', function()
    for _, case in ipairs {
      { '1V@a 2l@a 3l@b 4l@c', 'promote 3, promote 4' },
      { '1V@a 2l@a 3l@a 4l@b', 'promote 4, promote 2' },
      { '1V@a 2v@b 3v@c 4l@a', 'nothing' },
      { '1V@a 2v@b 3v!@c 4l@a 5l@c', 'replace 3 with 5' },
      { '1V@a 2v@b 3v!@c 4l@a 5l@d', 'replace 3 with 5' },
      { '1V@a 2v@a 3v@a 4l@b', 'promote 4, demote 3' },
      { '1v@a 2V@a 3v@b 4l@c', 'promote 4, demote 1' },
      { '1V@a 2v@a 3v@b 4l@b', 'nothing' },
      { '1V@a 2v@a 3v@a 4v@b 5v@c', 'demote 3, demote 5' },
      { '1V@a 2v@a 3v@a 4v@a 5v@a', 'demote 5' },
      { '1V 2v 3v 4l@b', 'promote 4, demote 3' },
    } do
      assert.equal(case[2], says(zones, view(case[1])), case[1])
    end
    assert.equal('wait 4000', says(zones, view('1V@a 2v@a 3v@a 4l@b', { [4] = { steady_ms = 6000 } })))
  end)

  it('has a zone lead that is to, and does not try without end', function()
    local p, ctx = policy.zones { leader = 'b', patience = 60000 }, context()
    assert.equal('transfer 2', says(p, view '1V@a 2v@b 3v@c', ctx))
    assert.equal('wait 59000', says(p, view('1V@a 2v@b 3v@c', { now = 1700000001000 }), ctx))
    assert.equal('transfer 2', says(p, view('1V@a 2v@b 3v@c', { now = 1700000060000 }), ctx))
    assert.equal('nothing', says(p, view '1v@a 2V@b 3v@c'))
    assert.equal('nothing', says(p, view '1V@a 2v!@b 3v@c'))
    assert.equal('nothing', says(p, view '1V@a 2v?@b 3v@c'))
    assert.equal('wait 2000', says(p, view('1V@a 2v@b 3v@c', { [2] = { steady_ms = 8000 } })))
    assert.equal('nothing', says(p, view '1V@a 2v@c 3v@c'))
  end)
end)

-- --- a model: random clusters, failures, repairs ---------------------------------------------------------------------------------

-- Carries out what was said on members, and holds it against the rules. -> the sentence that is broken, or nil
local function carry_out(v, r)
  local by_id, left_zone = {}, {}
  for _, one in ipairs(v.members) do by_id[one.id] = one end
  for _, op in ipairs(r.op and { r } or r) do
    local one = by_id[op.id]
    if not one then return 'it names a node that is not there' end
    local was = one.role
    if op.op == 'promote' then
      if was ~= 'learner' or not one.caught_up or one.silent_ms > 0 or one.parked then return 'it promotes who should not vote' end
      one.role = 'voter'
    elseif op.op == 'demote' then one.role = 'learner'
    elseif op.op == 'remove' then one.gone = true
    elseif op.op == 'replace' then
      if not by_id[op.with].caught_up or by_id[op.with].silent_ms > 0 then return 'it takes a spare that is none' end
      by_id[op.with].role = was
      one.gone = true
    end
    if was == 'voter' and (one.gone or one.role == 'learner') then
      if left_zone[one.zone] then return 'two voters of a zone leave at once' end
      left_zone[one.zone] = one.zone ~= ''
      if one.is_leader and one.silent_ms == 0 then return 'the leader leaves' end
    end
  end
  for i = #v.members, 1, -1 do if v.members[i].gone then table.remove(v.members, i) end end
end

local function count_up(v)
  local voters, up = 0, 0
  for _, one in ipairs(v.members) do
    if one.role == 'voter' then
      voters = voters + 1
      if one.silent_ms == 0 then up = up + 1 end
    end
  end
  v.quorum, v.voters_up = math.floor(voters / 2) + 1, up
  return voters, up
end

-- One run: at most so many fail at once that a majority is left. -> what broke, or the voters in the end
local function run(p, seed, steps)
  local at = seed * 7919 % 2147483647
  local function random(n)
    at = at * 16807 % 2147483647
    return at % n + 1
  end
  local v, ctx, next_id, idle = view '1V@a', context(), 2, 0
  for step = 1, steps do
    v.now = v.now + 1000
    for _, one in ipairs(v.members) do
      if one.silent_ms > 0 then one.silent_ms = one.silent_ms + 1000 elseif one.caught_up then one.steady_ms = one.steady_ms + 1000 end
    end
    local what, one = random(step > steps - 120 and 1 or 12), v.members[random(#v.members)]
    if what == 2 and #v.members < 9 then
      v.members[#v.members + 1] = { id = next_id, role = 'learner', is_leader = false, silent_ms = 0, lag = 9, caught_up = false, steady_ms = 0,
        parked = false, zone = ('abc'):sub(next_id % 3 + 1, next_id % 3 + 1), tags = {} }
      next_id = next_id + 1
    elseif what == 3 and one.silent_ms == 0 then
      one.silent_ms, one.steady_ms = 1, 0
      local _, up = count_up(v)
      if up < v.quorum then one.silent_ms = 0 end -- what no policy could help
    elseif what >= 4 and what <= 6 then one.silent_ms = 0
    elseif what >= 7 or what == 1 then one.caught_up = one.silent_ms == 0 end
    for _, other in ipairs(v.members) do -- whoever is heard and votes leads, if the leader is gone
      if other.is_leader and (other.silent_ms > 0 or other.role ~= 'voter') then other.is_leader = false end
    end
    local leads
    for _, other in ipairs(v.members) do leads = leads or other.is_leader end
    for _, other in ipairs(v.members) do
      if not leads and other.role == 'voter' and other.silent_ms == 0 then other.is_leader, leads = true, true end
    end
    local before, up_before = count_up(v)
    local r = p.review(ctx, v)
    idle = r and idle or idle + 1
    if r and not r.wait then
      local broken = carry_out(v, r)
      local after, up = count_up(v)
      if broken then return broken end
      if up < v.quorum and up_before >= math.floor(before / 2) + 1 then return 'no majority is left' end
      if after % 2 == 0 and before % 2 == 1 then return 'an even number of voters' end
      if after == 0 then return 'nobody is left' end
    end
  end
  return nil, v, idle
end

describe('in a model of clusters that fail and mend', function()
  it('the autopilot and zones never leave less than a majority, nor an even number, and come to their target (bug 111)', function()
    local reached, idle = 0, 0
    for seed = 1, 300 do
      local p = seed % 2 == 0 and policy.autopilot { target = 3 } or policy.zones { target = 3, leader = 'b' }
      local broken, v, quiet = run(p, seed, 400)
      assert.is_nil(broken, 'seed ' .. seed .. ': ' .. tostring(broken))
      local voters = count_up(v)
      if voters == 3 then reached = reached + 1 end
      idle = idle + quiet
    end
    assert.is_true(reached > 290, reached)
    assert.is_true(idle > 300 * 50, idle) -- most of the time there is nothing to wait for
  end)

  it('would find it if they did', function()
    local reckless = { review = function(_, v)
      for _, one in ipairs(v.members) do
        if one.role == 'voter' and not one.is_leader and one.silent_ms == 0 then return { op = 'demote', id = one.id } end
        local good = one.caught_up and one.silent_ms == 0 and one.steady_ms > 2000
        if one.role == 'learner' and good then return { op = 'promote', id = one.id } end
      end
    end }
    local found = 0
    for seed = 1, 20 do if run(reckless, seed, 400) then found = found + 1 end end
    assert.equal(20, found)
  end)
end)

-- --- in the machine --------------------------------------------------------------------------------------------------------------

local function source(path)
  local f = assert(io.open(path))
  local text = f:read('*a')
  f:close()
  return text
end

-- A policy's file as its bundle has it.
local function bundle(text)
  local machine = require 'spec.support.machine'
  return machine.pack { 1, 'policy', '', 'policy', { { 'policy', text }, { 'tidelock.policy', source 'lua/tidelock/policy.lua' } } }
end

describe('deployed', function()
  it('the autopilot takes one node to three, and replaces one that is dead', function()
    local m = membership.new { 1 }
    assert(m:entry(3, bundle "return require 'tidelock.policy'.autopilot { target = 3 }"))
    assert.equal('autopilot', m:membership().policy)
    m:observe()
    assert.equal(2 ^ 64, tonumber(m:status().review_due_ms))
    for _, id in ipairs { 2, 3, 4 } do
      m:join(id)
      m:carry_out()
    end
    assert.equal('1v 2l 3l 4l', m:who())
    m:observe { [2] = {}, [3] = {} }
    assert.equal(m.now + 10000, tonumber(m:status().review_due_ms))
    assert.equal('node 3 votes when it has been steady for 10 s', m:membership().waiting.why)
    m.now = m.now + 10000
    m:observe { [4] = {} }
    assert.equal('node 2, 3: steady for 10 s, so there are 3 voters of 3', m:decision().why)
    m:carry_out()
    assert.equal('1v 2v 3v 4l', m:who())
    m:observe { [2] = { silent = m.now, caught_up = false } }
    m.now = m.now + 30000
    m:observe()
    assert.equal('node 2 has been silent for 30 s; node 4 takes its place', m:decision().why)
    m:carry_out()
    assert.equal('1v 3v 4v', m:who())
    m:observe()
    assert.is_nil(m:decision())
    assert.equal(2 ^ 64, tonumber(m:status().review_due_ms))
    assert.is_nil(m:membership().alarm)
  end)

  it('manual is as none, zones has its memory', function()
    local m = membership.new { { id = 1, zone = 'a' }, { id = 2, zone = 'b' }, { id = 3, zone = 'c' } }
    assert(m:entry(3, bundle "return require 'tidelock.policy'.manual"))
    assert.truthy(select(2, m:join(4)).message:find('tidelock members add 4=127.0.0.1:7304', 1, true))
    m = membership.new { { id = 1, zone = 'a' }, { id = 2, zone = 'b' }, { id = 3, zone = 'c' } }
    assert(m:entry(3, bundle "return require 'tidelock.policy'.zones { leader = 'b' }"))
    m:observe { leader = 1 }
    assert.equal("zone 'b' is to lead", m:decision().why)
    m:ask('leader', {}, { expected = m:decision().index, why = 'no answer' })
    m.now = m.now + 1000
    m:observe()
    assert.is_nil(m:decision())
    assert.equal(m.now + 59000, tonumber(m:status().review_due_ms))
  end)

  it('the examples do what they say', function()
    local m = membership.new { 1, 2, 3 }
    assert(m:entry(3, bundle(source 'examples/policy_spares.lua')))
    assert.truthy(select(2, m:join(4)).message:find('start it with --tag spare=yes', 1, true))
    m:join(4, { tags = { spare = 'yes' } })
    m:carry_out()
    m:observe { [3] = { silent = m.now }, [4] = {} }
    assert.equal('node 3 is silent, and node 4 stands by', m:membership().waiting.why)
    m.now = m.now + 20000
    m:observe()
    m:carry_out()
    assert.equal('1v 2v 4v', m:who())

    m = membership.new { 1, 2, { id = 3, roles = membership.LEARNER } }
    m.now = 1700438400000 -- midnight before a Monday
    assert(m:entry(3, bundle(source 'examples/policy_office_hours.lua')))
    m:observe { [3] = {} }
    assert.equal(m.now + 9 * 3600000, tonumber(m:status().review_due_ms))
    assert.equal('DENIED', select(2, m:ask('operator', { op = 'remove', id = 3 })).code)
    m.now = m.now + 9 * 3600000
    m:observe()
    assert.same({ 'promote', 3 }, { m:decision().changes[1][1], m:decision().changes[1][2] })
    assert.is_nil(m:membership().alarm)
  end)
end)
