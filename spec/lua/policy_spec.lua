-- A membership policy, through the machine alone: when it is asked, what it is shown, what becomes of what it says (script/policy.h,
-- machine/membership.h).
local machine = require 'spec.support.machine'
local membership = require 'spec.support.membership'

local function policy(body, head)
  return "local P = { name = 'p', " .. (head or "state = { seen = 'map' }") .. ' }\n' .. body .. '\nreturn P'
end

local function code(_, err) return err and err.code end
local function due(m)
  local at = m:status().review_due_ms
  return at < 2ULL ^ 53 and tonumber(at) or nil
end

-- Nodes 1 to 3 vote, 4 is a learner that has caught up; the policy came first.
local function four(text, more)
  local nodes = { 1, 2, 3, { id = 4, roles = membership.LEARNER }, policy = text }
  for k, v in pairs(more or {}) do nodes[k] = v end
  local m = membership.new(nodes)
  return m
end

local function alarm_of(text, facts)
  local m = four(text)
  m:observe(facts or {})
  local told = m:membership()
  assert.is_nil(told.decision)
  return told.alarm, m
end

describe('a policy', function()
  it('is asked at an observation, and what it says is decided, with its why (bug 111)', function()
    local m = four(policy [[function P.review(ctx, view) return { op = 'promote', id = 4, why = 'it has caught up' } end]])
    assert.equal('p', m:membership().policy)
    assert.is_nil(m:decision())
    assert.equal(m.now, due(m))
    m:observe()
    local decision = m:decision()
    assert.same({ 'policy', 'it has caught up', false, 1 }, { decision.by, decision.why, decision.force, decision.configuration })
    assert.same({ 'promote', 4, 0, '', 0, '', {}, 0 }, decision.changes[1])
    assert.is_nil(due(m))
    m:carry_out()
    assert.equal('1v 2v 3v 4v', m:who())
    local history = m:history()
    assert.is_true(history[1].done)
    assert.equal('learner', history[1].observed[4].role)
  end)

  it('is not asked while a decision waits or a change goes on, and soon after', function()
    local m = four(policy [[function P.review(ctx, view)
      local n = ctx.db.seen:add('asked', 1)
      return { op = n == 1 and 'promote' or 'remove', id = 4, why = tostring(n) } end]])
    m:observe()
    m:observe()
    assert.equal('1', m:decision().why)
    m:carry_out(true)
    m:observe()
    assert.is_nil(m:decision())
    assert.is_nil(due(m))
    m:configure { { id = 1 }, { id = 2 }, { id = 3 }, { id = 4 } }
    assert.equal(m.now, due(m))
    m:observe()
    assert.equal('2', m:decision().why)
  end)

  it('sees members by id, with what was observed, and nothing else', function()
    local m = membership.new { { id = 7, address = 'a:7', zone = 'x', tags = { disk = 'ssd' } }, 8, 9,
      { id = 11, roles = membership.LEARNER },
      policy = "local json = require 'tidelock.json'\n" .. policy [[function P.review(ctx, view)
        view.members = nil
        return { op = 'transfer', id = 8, why = json.encode(view) } end]] }
    local t = m.now
    m:observe { leader = 9, [8] = { silent = t, lag = 5, caught_up = false }, [11] = { parked = true } }
    m.now = t + 1500
    m:ask('leader', {}, { expected = m:decision().index })
    m:observe { [7] = {} }
    assert.equal(('{"config_id":1,"leader":9,"now":%d,"pending":false,"quorum":2,"voters_up":2}'):format(t + 1500), m:decision().why)
    assert.same({ id = 8, role = 'voter', is_leader = false, silent_ms = 1500, lag = 5, caught_up = false, steady_ms = 0, parked = false },
      m:history()[2].observed[2])
  end)

  it('is given members as tables of its own, fresh each time', function()
    local m = membership.new { { id = 7, address = 'a:7', zone = 'x', tags = { disk = 'ssd' } }, 8,
      policy = policy [[function P.review(ctx, view)
        local a, b = view.members[1], view.members[2]
        local text = table.concat({ a.id, a.address, a.role, tostring(a.is_leader), a.silent_ms, a.lag, tostring(a.caught_up), a.zone,
          a.tags.disk, b.zone, #view.members, tostring(a.parked) }, ' ')
        a.id = 99
        return { op = 'transfer', id = 8, why = text } end]] }
    for _ = 1, 2 do
      m:observe { leader = 7 }
      assert.equal('7 a:7 voter true 0 0 true x ssd  2 false', m:decision().why)
      m:ask('leader', {}, { expected = m:decision().index })
    end
  end)

  it('knows how long a member has been silent, or heard and caught up', function()
    local m = four(policy [[function P.review(ctx, view)
      return { op = 'transfer', id = 2, why = view.members[4].silent_ms .. ' ' .. view.members[4].steady_ms } end]])
    local t = m.now
    local function look(after, facts)
      m.now = t + after
      local waits = m:decision()
      if waits then m:ask('leader', {}, { expected = waits.index }) end
      m:observe(facts)
      return m:decision().why
    end
    assert.equal('0 0', look(0, { [4] = { caught_up = false } }))
    assert.equal('0 0', look(1000, { [4] = {} }))
    assert.equal('0 5000', look(6000, { [4] = { lag = 3 } }))
    assert.equal('1 0', look(7000, { [4] = { silent = t + 7000 } }))
    assert.equal('2000 0', look(9000, {}))
    assert.equal('0 0', look(10000, { [4] = {} }))
    assert.equal('0 1000', look(11000, {}))
    assert.equal('0 0', look(12000, { [4] = { parked = true } }))
  end)

  it('is told what happened, before it is asked', function()
    local m = four(policy [[
      function P.observe(ctx, e)
        local asked = e.change and ' ' .. e.change.op .. ' by ' .. e.change.by or ''
        ctx.db.seen:put(ctx.db.seen:len() + 1, e.kind .. ' ' .. e.id .. ' ' .. e.zone .. asked)
      end
      function P.review(ctx, view)
        local all = {}
        for _, text in ctx.db.seen:pairs() do all[#all + 1] = text end
        ctx.db.seen:clear()
        return { op = 'transfer', id = 1, why = table.concat(all, ', ') } end
      function P.admit(ctx, view, change) return true end]])
    local function said(facts)
      m:observe(facts)
      local why = m:decision().why
      m:ask('leader', {}, { expected = m:decision().index })
      return why
    end
    assert.equal('', said {})
    assert.equal('silent 2 ', said { [2] = { silent = m.now } })
    assert.equal('', said { [2] = { silent = m.now } })
    assert.equal('back 2 , parked 3 ', said { [2] = {}, [3] = { parked = true } })
    m:join(5, { zone = 'b' })
    m:carry_out()
    assert.equal('requested 5 b add by join, joined 5 b', said {})
    assert.equal('caught_up 5 b', said { [5] = {} })
    m:ask('operator', { op = 'demote', id = 3 }, { force = true }) -- of that it is not told
    m:carry_out()
    assert.equal('', said {})
  end)

  it('asks for several operations as one joint change', function()
    local m = four(policy [[function P.review(ctx, view)
      return { { op = 'promote', id = 4 }, { op = 'remove', id = 2 }, why = 'both' } end]])
    m:observe()
    assert.equal(2, #m:decision().changes)
    assert.equal('both', m:decision().why)
    m:carry_out()
    assert.equal('1v 3v 4v', m:who())
    assert.equal(1, #m:history())
  end)

  it('hands leadership over', function()
    local m = four(policy [[function P.review(ctx, view) if view.leader ~= 3 then return { op = 'transfer', id = 3 } end end]])
    m:observe { leader = 1 }
    assert.is_nil(m:decision().members)
    m.term = 2
    m:entry(1, '')
    m:observe { leader = 3 }
    assert.is_nil(m:decision())
    assert.is_true(m:history()[1].done)
  end)

  it('is asked again when it says so, or each `every` ms, or not at all', function()
    local m = four(policy([[function P.review(ctx, view) end]], 'every = 2500'))
    m:observe()
    assert.equal(m.now + 2500, due(m))
    m = four(policy [[function P.review(ctx, view) return { wait = 700, why = 'node 4 is new' } end]])
    m:observe()
    assert.equal(m.now + 700, due(m))
    assert.same({ ['until'] = m.now + 700, why = 'node 4 is new' }, m:membership().waiting)
    m = four(policy [[function P.review(ctx, view)
      if ctx.db.seen:add('n', 1) == 1 then return { wait = 1 } end end]])
    m:observe()
    assert.equal(m.now + 100, due(m)) -- no more often than that
    m.now = m.now + 100
    m:observe()
    assert.is_nil(due(m))
    assert.is_nil(m:membership().waiting)
    m = four(policy [[function P.observe(ctx, event) end]])
    m:observe()
    assert.is_nil(due(m))
  end)

  it('is asked again a second after the leader gave its decision back', function()
    local m = four(policy [[function P.review(ctx, view) return { op = 'promote', id = 4 } end]])
    m:observe()
    m:ask('leader', {}, { expected = m:decision().index, why = 'refused' })
    assert.equal(m.now + 1000, due(m))
    m:observe()
    assert.is_not_nil(m:decision())
    assert.equal('refused', m:history()[1].done)
  end)

  it('invites with add, for only the node itself knows who it is', function()
    local m = four(policy [[function P.review(ctx, view)
      if #view.members == 4 then return { op = 'add', id = 5, address = '127.0.0.1:7305' } end end]])
    m:observe()
    assert.is_nil(m:decision())
    assert.equal(5, m:membership().invited[1].id)
    assert.equal('DENIED', code(m:join(6)))
    assert.is_not_nil(m:join(5))
  end)
end)

describe('admit', function()
  it('is asked for joins and for operators, and says why not', function()
    local m = four(policy [[function P.admit(ctx, view, change)
      if change.op == 'remove' then return nil, 'nobody is removed from here' end
      if change.id == 9 then return false end
      return change.by == 'join' or change.by == 'operator' end]])
    local _, err = m:ask('operator', { op = 'remove', id = 4 })
    assert.same({ code = 'DENIED', message = 'the policy p says no: nobody is removed from here' }, err)
    assert.same({ code = 'DENIED', message = 'the policy p says no' }, select(2, m:join(9)))
    assert.equal('DENIED', code(m:ask('operator', { op = 'add', id = 9, address = 'a:9' })))
    assert.equal('DENIED', code(m:ask('operator', { { op = 'promote', id = 4 }, { op = 'remove', id = 1 } })))
    assert.is_nil(m:decision())
    assert.same({}, m:membership().invited)
    assert.is_not_nil(m:join(5, { zone = 'b', tags = { a = 'b' } }))
    assert.equal('b', membership.members_of(m:decision().members)[5].zone)
  end)

  it('is not asked where the request is forced, or was admitted before', function()
    local m = four(policy [[function P.admit(ctx, view, change)
      if change.op == 'add' and change.by == 'operator' then return true end
      return nil, 'no' end]])
    assert.equal('DENIED', code(m:ask('operator', { op = 'remove', id = 4 })))
    assert.is_not_nil(m:ask('operator', { op = 'remove', id = 4 }, { force = true }))
    assert.is_true(m:history()[1].force)
    m:carry_out()
    m:ask('operator', { op = 'add', id = 5, address = '127.0.0.1:7305' })
    assert.is_not_nil(m:join(5))
    assert.is_nil(m:membership().alarm)
  end)

  it('is not asked about what makes no sense', function()
    local m = four(policy [[function P.admit(ctx, view, change) error('asked') end]])
    assert.equal('NOT_FOUND', code(m:ask('operator', { op = 'remove', id = 99 })))
    assert.is_nil(m:membership().alarm)
  end)

  it('is as under manual if the policy has none', function()
    local m = four(policy [[function P.review(ctx, view) end]])
    assert.equal('nobody invited node 5. To let it join: tidelock members add 5=127.0.0.1:7305', select(2, m:join(5)).message)
    assert.is_not_nil(m:ask('operator', { op = 'remove', id = 4 }))
  end)
end)

describe('a policy that fails', function()
  it('changes nothing, says why, and is as manual until it is deployed anew', function()
    local alarm, m = alarm_of(policy [[
      function P.observe(ctx, event) ctx.db.seen:put('kept', event.kind) end
      function P.review(ctx, view)
        ctx.db.seen:put('torn', 1)
        local nobody = nil
        return nobody.id end]], { [2] = { silent = 1 } })
    assert.equal("review: policy.lua:6: attempt to index local 'nobody' (a nil value)", alarm)
    assert.equal('p', m:membership().policy)
    assert.is_nil(due(m))
    local rows = m:status().rows
    m:observe { [3] = { parked = true } }
    assert.equal(rows + 1, m:status().rows) -- the facts of node 3, and nothing of the policy's
    assert.equal('nobody invited node 5. To let it join: tidelock members add 5=127.0.0.1:7305', select(2, m:join(5)).message)
    assert.is_not_nil(m:ask('operator', { op = 'remove', id = 4 }))
  end)

  it('loops, recurses, fills the memory, hides it in pcall: the same', function()
    for body, said in pairs {
      ['while true do end'] = 'review: BUDGET policy.lua:2: the budget of instructions is spent',
      ['while true do pcall(function() while true do end end) end'] = 'review: BUDGET policy.lua:2: the budget of instructions is spent',
      ['local function f() return 1 + f() end return f()'] = 'review: DEPTH policy.lua:2: ',
      ["local s = ('x'):rep(1000000) while true do s = s .. s end"] = 'review: it takes more memory than a policy has, 67108864 bytes',
      ["for i = 1, 3 do ctx.db.seen:put(i, ('x'):rep(400000)) end"] = 'its maps would hold more than 1048576 bytes',
      ["error { code = 'X', message = 'no luck' }"] = 'no luck',
    } do
      local alarm, m = alarm_of(policy('function P.review(ctx, view) ' .. body .. ' end'))
      assert.truthy(alarm:find(said, 1, true), body .. ': ' .. alarm)
      assert.equal(0, tonumber(m:status().parked_at))
      assert.is_not_nil(m:ask('operator', { op = 'promote', id = 4 }))
    end
  end)

  it('asks for what makes no sense: everyone removed, nobody known, no majority left', function()
    for returned, said in pairs {
      ["{ { op = 'remove', id = 1 }, { op = 'remove', id = 2 }, { op = 'remove', id = 3 }, { op = 'remove', id = 4 } }"] =
        'review asks for what makes no sense: it would leave no voter',
      ["{ op = 'promote', id = 9 }"] = 'review asks for what makes no sense: node 9 is no member',
      ["{ op = 'promote', id = 1 }"] = 'node 1 is a voter already',
      ["{ op = 'dismiss', id = 1 }"] = 'there is no operation dismiss; there are add promote demote remove replace address transfer',
      ["{ op = 'remove', id = 1, why = 'x', z = 1, [true] = 1, y = 1, x = 1, b = 1, d = 1 }"] = "an operation has no field 'b'",
      ["{ op = 'remove', id = 1, whyy = 'x' }"] = "an operation has no field 'whyy'",
      ["{ op = 'remove', id = '1' }"] = 'id must be a whole number from 1, got string',
      ["{ op = 'remove', id = 1.5 }"] = 'id must be a whole number from 1, got 1.5',
      ["{ op = 'remove', id = 1, why = 7 }"] = 'why must be text, got number',
      ["{ op = 'remove' }"] = 'an id is a whole number from 1',
      ["{ 'remove', 1 }"] = "an element is a string: an operation is like { op = 'promote', id = 4 }",
      ["'remove'"] = 'review returns nil, an operation, a list of operations, or { wait = ms',
      ["{ wait = 100, op = 'remove' }"] = "{ wait = ms, why = '...' } has no field 'op'",
      ["{ op = 'remove', id = 3 }"] = 'of the 2 voters that it would leave, 1 are heard, and no majority',
      ["{ op = 'add', id = 1, address = 'a:1' }"] = 'node 1 is a member already',
    } do
      local text = policy('function P.review(ctx, view) ctx.db.seen:put(1, 1) return ' .. returned .. ' end')
      local alarm = alarm_of(text, { [2] = { silent = 1 } })
      assert.truthy(alarm and alarm:find(said, 1, true), returned .. ': ' .. tostring(alarm))
    end
  end)

  it('fails in observe or admit: the same, and the request is refused with the reason', function()
    local m = four(policy [[function P.observe(ctx, event) ctx.db.seen:put(1, 1) error('observe is broken') end
      function P.review(ctx, view) return { op = 'remove', id = 4 } end]])
    m:observe { [2] = { silent = 1 } }
    assert.is_nil(m:decision())
    assert.truthy(m:membership().alarm:find('^observe: policy.lua:2: observe is broken'), m:membership().alarm)
    m = four(policy [[function P.admit(ctx, view, change) return 'yes' end]])
    local _, err = m:ask('operator', { op = 'remove', id = 4 })
    assert.equal('DENIED', err.code)
    assert.truthy(err.message:find('from now on it is as manual.*admit returns true, or nil and why not; got string'), err.message)
    assert.is_not_nil(m:ask('operator', { op = 'remove', id = 4 }))
  end)

  it('leaves nothing in its memory of what it did when it failed', function()
    local look = policy [[function P.review(ctx, view)
      return { op = 'transfer', id = 1, why = tostring(ctx.db.seen:get('torn')) .. ' ' .. tostring(ctx.db.seen:get('kept')) } end]]
    for body, facts in pairs {
      ["function P.observe(ctx, e) ctx.db.seen:put('torn', 1) error('no') end"] = { [2] = { silent = 1 } },
      ["function P.review(ctx, view) ctx.db.seen:put('torn', 1) error('no') end"] = {},
      ["function P.review(ctx, view) ctx.db.seen:put('torn', 1) return { op = 'remove', id = 99 } end"] = {},
    } do
      local m = four(policy [[function P.review(ctx, view) ctx.db.seen:put('kept', 7) end]])
      m:observe()
      m:deploy(policy(body))
      m:observe(facts)
      assert.is_not_nil(m:membership().alarm)
      m:deploy(look)
      m:observe()
      assert.equal('nil 7', m:decision().why, body)
    end
  end)

  it('is skipped by an operator: it is not asked any more, and what was observed counts', function()
    local m = four(policy [[function P.review(ctx, view) return { op = 'remove', id = 4 } end]])
    m.C.machine_skip(m.m, m.index + 1)
    m:observe { [2] = { silent = m.now } }
    assert.truthy(m:membership().alarm:find('an operator had the entry skipped', 1, true))
    assert.is_nil(m:decision())
    assert.equal(m.now, m:membership().observed[2][2])
  end)

  it('has ctx.db, index, log, now and random, and nothing that changes the world', function()
    for expression, said in pairs { ["ctx.emit('x')"] = "no field 'emit'", ['ctx.after(1, "x")'] = "no field 'after'",
      ["ctx.call('kv.set')"] = "no field 'call'", ['ctx.id()'] = "no field 'id'",
      ['ctx.term'] = 'there are db index log now random', ['ctx.session'] = "no field 'session'",
      ["ctx.db.other"] = "there is no map 'other'", ["ctx.db.seen:put(1, 1, { ttl = 5 })"] = 'there is no ttl' } do
      local alarm = alarm_of(policy('function P.review(ctx, view) local x = ' .. expression .. ' return x end'))
      assert.truthy(alarm:find(said, 1, true), alarm)
    end
    local m = four(policy [[function P.review(ctx, view)
      ctx.log('asked at %d', ctx.index)
      return { op = 'transfer', id = 1, why = ctx.now == view.now and ctx.index .. ' ' .. ctx.random(1000) } end]])
    m:observe()
    assert.truthy(m:decision().why:find('^' .. m.index .. ' %d+$'), m:decision().why)
  end)
end)

describe("a policy's memory", function()
  local counting = policy [[
    local kept = { { n = 0 } }
    function P.review(ctx, view)
      for _, one in ipairs(kept) do one.n = one.n + 1 end
      local n = ctx.db.seen:add({ 'n', true }, 1)
      local list = {}
      for k, v in ctx.db.seen:pairs('n') do list[#list + 1] = k[1] .. '=' .. v end
      for k in ctx.db.seen:range('m', 'o') do list[#list + 1] = k[1] end
      local k, v = ctx.db.seen:first()
      return { op = 'transfer', id = 1, why = kept[1].n .. ' ' .. n .. ' ' .. table.concat(list, ',') .. ' ' .. k[1] .. v } end]]

  local function ask(m)
    m:observe()
    local why = m:decision().why
    m:ask('leader', {}, { expected = m:decision().index })
    return why
  end

  it('is its maps alone: a room ends with its entry', function()
    local m = four(counting)
    assert.equal('1 1 n=1,n n1', ask(m))
    assert.equal('1 2 n=2,n n2', ask(m))
    local built = m:through()
    assert.equal('1 3 n=3,n n3', ask(built))
    assert.equal('1 3 n=3,n n3', ask(m))
    assert.equal(m:digest(), built:digest())
  end)

  it('is no map of a service: not in its rows, nor its quota, nor its formats', function()
    local nodes = { 1, policy = counting }
    local m = membership.new(nodes)
    assert(m:entry(3, assert(machine.bundle('kv', [[return { name = 'kv', version = 1, state = { seen = 'map' },
      queries = { get = function(ctx, k) return ctx.db.seen:get(k) end } }]]))))
    m:limit('quota', 1)
    local before = m:status().quota_bytes
    assert.equal('1 1 n=1,n n1', ask(m))
    assert.equal(before, m:status().quota_bytes)
    assert.is_nil(m:query('kv.get', 'n'))
    local format = assert(machine.format [[return { name = 'f', version = 1,
      write = function(out, view) for mount, name, map in view:maps() do
        out:write(mount .. '.' .. name .. '\n') for k in map:pairs() do out:write('row\n') end end end,
      read = function(inp, ctx) for line in inp:lines() do if line ~= 'kv.seen' then return nil, line end end return true end }]])
    assert(m:entry(3, format))
    local built = m:through()
    assert.equal('1 2 n=2,n n2', ask(built))
  end)

  it('stays over a deploy for the maps that are still declared, and goes for the others', function()
    local two = policy([[function P.review(ctx, view)
      ctx.db.a:add('n', 1) ctx.db.b:add('n', 1)
      return { op = 'transfer', id = 1, why = ctx.db.a:get('n') .. ' ' .. ctx.db.b:get('n') } end]], "state = { a = 'map', b = 'map' }")
    local one = policy([[function P.review(ctx, view)
      return { op = 'transfer', id = 1, why = tostring(ctx.db.a:get('n')) } end]], "version = 2, state = { a = 'map' }")
    local m = four(two)
    assert.equal('1 1', ask(m))
    assert.equal('2 2', ask(m))
    assert(m:deploy(one))
    assert.equal('2', ask(m))
    assert(m:deploy(two))
    assert.equal('3 1', ask(m))
    assert.is_true(m:undeploy())
    assert(m:deploy(two))
    assert.equal('1 1', ask(m))
  end)
end)

describe('a policy in force', function()
  local quiet = policy [[function P.review(ctx, view) end]]
  local broken = policy [[function P.review(ctx, view) error('broken') end]]

  it('is changed by a deploy, against the one that was looked at', function()
    local m = four(quiet)
    local answer = m:deploy(policy([[function P.review(ctx, view) return { op = 'transfer', id = 2 } end]], 'version = 7'))
    assert.equal(7, answer.version)
    assert.is_false(answer.unchanged)
    assert.equal(m.now, due(m))
    local _, err = m:deploy(quiet, 'f00')
    assert.equal('CONFLICT', err.code)
    assert.truthy(err.message:find('^the policy was changed meanwhile'), err.message)
    _, err = m:deploy('return { name = "x" }', nil, true)
    assert.truthy(err.message:find('a policy has a function review, admit or observe', 1, true), err.message)
    assert.is_true(m:undeploy())
    assert.equal('manual', m:membership().policy)
    assert.is_false(m:undeploy())
    assert.is_nil(due(m))
  end)

  it('that failed is asked again after any deploy, of the same bundle, too', function()
    local m = four(broken)
    m:observe()
    assert.is_not_nil(m:membership().alarm)
    assert.is_false(m:deploy(broken).unchanged)
    assert.is_nil(m:membership().alarm)
    assert.equal(m.now, due(m))
    assert.is_true(m:deploy(broken).unchanged)
    m:observe()
    assert.is_not_nil(m:membership().alarm)
    m:undeploy()
    assert.is_nil(m:membership().alarm)
  end)

  it('is told and given as code', function()
    local m = four(quiet)
    local list = m:query('tidelock.code')
    assert.same({ 'policy', '', 'p', 1 }, { list[1].kind, list[1].mount, list[1].name, list[1].version })
    assert.equal(assert(membership.bundle(quiet)), (m:query('tidelock.code', '(policy)')))
    m:undeploy()
    assert.equal('no policy is in force: it is manual', select(2, m:query('tidelock.code', '(policy)')).message)
  end)

  it('that the first bundles bring and that cannot be loaded is refused, and the rest goes on', function()
    local m = four(nil)
    m:entry(3, machine.pack { 1, 'policy', '', 'policy', { { 'policy', 'return 1' } } })
    assert.equal('manual', m:membership().policy)
    assert.is_not_nil(m:ask('operator', { op = 'remove', id = 4 }))
    assert.is_not_nil(m:deploy(quiet))
  end)

  it('is refused with what is wrong, by name', function()
    for text, said in pairs {
      ["return { name = 'p', review = 1 }"] = 'review must be a function',
      ["return { name = 'P', review = function() end }"] = 'name must be text',
      ["return { name = 'p', version = 0, review = function() end }"] = 'version must be a whole number from 1',
      ["return { name = 'p', every = 10, review = function() end }"] = 'every must be a whole number of milliseconds from 100 to 86400000',
      ["return { name = 'p', rewiew = function() end, admit = function() end }"] = "there is no field 'rewiew'; did you mean review?",
      ["return { name = 'p', version = 1, commands = {} }"] = 'this is a service, not a membership policy: give it with --machine',
      ["return { name = 'p', state = { a = 'list' }, admit = function() end }"] = 'state.a: state is a table like',
      ["x = 1 return { name = 'p', admit = function() end }"] = 'x',
    } do
      local bundle, why = membership.bundle(text)
      assert.is_nil(bundle)
      assert.truthy(why:find(said, 1, true), why)
    end
    local _, why = machine.bundle('p', quiet)
    assert.truthy(why:find('this is a membership policy, for it has review, admit or observe, and no service: give it with', 1, true), why)
  end)
end)

describe('every node', function()
  it('comes to the same, also when it was built of a snapshot in the midst of a decision', function()
    local text = policy [[
      function P.observe(ctx, e) ctx.db.seen:add(e.kind, 1) end
      function P.review(ctx, view)
        if ctx.random(12) == 1 then error('sometimes') end
        local n = ctx.db.seen:add('n', 1)
        for _, one in ipairs(view.members) do
          if one.role == 'learner' and one.caught_up and one.silent_ms == 0 then return { op = 'promote', id = one.id, why = 'n ' .. n } end
        end
        if #view.members > 3 then return { op = 'remove', id = view.members[ctx.random(#view.members)].id, why = 'n ' .. n } end
        return { wait = 1000 }
      end
      function P.admit(ctx, view, change) return ctx.random(2) == 1, 'a coin fell' end]]
    local random = math.random
    math.randomseed(4)
    local a = membership.new { 1, 2, 3, policy = text }
    local b = a:through()
    local seen_alarm, decided = false, 0
    for step = 1, 600 do
      local what, id = random(6), random(6)
      local facts = { leader = random(3), [id] = { silent = random(3) == 1 and a.now or 0, caught_up = random(2) == 1, lag = random(9) } }
      for _, m in ipairs { a, b } do
        m.now = m.now + 250
        if what == 1 then m:join(id) elseif (what == 2 or what == 6) and m:decision() and m:decision().members then m:carry_out()
        elseif what == 3 and m:membership().alarm then m:deploy(text) else m:observe(facts) end
      end
      if what == 1 or what == 4 then b = b:through() end
      assert.equal(a:digest(), b:digest(), step)
      assert.same(a:membership(), b:membership())
      seen_alarm = seen_alarm or a:membership().alarm ~= nil
      decided = math.max(decided, #a:history())
    end
    assert.same(a:history(), b:history())
    assert.is_true(seen_alarm and decided > 10, decided)
  end)
end)
