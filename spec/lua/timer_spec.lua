-- Timers through the machine alone: ctx.at, ctx.after, ctx.cancel and entries DUE, held against a plain model.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'

local module = [[
local function note(ctx, token) ctx.db.fired:put(ctx.id(), { token, ctx.now }) end
return { name = 'm', version = 1, state = { fired = 'map', rows = 'map' },
  commands = {
    after = function(ctx, ms, timer, ...) return ctx.after(ms, timer, ...) end,
    at = function(ctx, ms, timer, ...) return ctx.at(ms, timer, ...) end,
    cancel = function(ctx, id) return ctx.cancel(id) end,
    nothing = function(ctx) return ctx.cancel(nil) end,
    refused = function(ctx, id) ctx.after(5, 'tick', 'no') ctx.cancel(id) return nil, 'no' end,
    saved = function(ctx, id)
      local ok = pcall(function() ctx.after(5, 'tick', 'no') ctx.cancel(id) error('no') end)
      return { ok, ctx.after(7, 'tick', 'yes') }
    end,
    row = function(ctx, key, ttl) ctx.db.rows:put(key, 1, { ttl = ttl }) end,
    many = function(ctx, n, ms, ...) for i = 1, n do ctx.after(ms, ...) end end,
  },
  timers = {
    tick = function(ctx, token) note(ctx, token) end,
    chain = function(ctx, token, ms) note(ctx, token) ctx.after(ms, 'tick', token .. '+') end,
    broken = function(ctx, token) note(ctx, token) ctx.after(0, 'tick', 'never') error('broken') end,
    endless = function(ctx) while true do end end,
    cancels = function(ctx, token, id) note(ctx, { token, ctx.cancel(id) }) end,
    chance = function(ctx) note(ctx, ctx.random(1000000000)) end,
    given = function(ctx, ...) note(ctx, { n = select('#', ...) + 0, list = { ... } }) end,
    outer = function(ctx) note(ctx, { ctx.session == nil, ctx.index }) end,
  },
  queries = {
    fired = function(ctx)
      local list = {}
      for _, v in ctx.db.fired:pairs() do list[#list + 1] = v end
      return list
    end,
    arm = function(ctx) return ctx.after(1, 'tick') end,
  },
  on_expire = function(ctx, map, key) note(ctx, key) end,
  on_session_end = function(ctx) note(ctx, 'session') end }
]]

describe('a timer', function()
  local m, start
  before_each(function()
    m = machine.new { m = module }
    start = m.now
  end)
  local function fired()
    local list = {}
    for i, one in ipairs(m:query('m.fired')) do list[i] = one[1] end
    return list
  end
  local function next_due()
    local due = m:status().next_due_ms
    return due ~= 0xffffffffffffffffULL and tonumber(due) - start or nil
  end

  it('that is none is cancelled by nil', function()
    assert.is_false((m:call('m.nothing')))
  end)

  it('fires at the DUE after its time, once, with its arguments', function()
    assert.is_nil(next_due())
    m:call('m.after', 500, 'given', 'a', { b = { 1, 2 } }, false)
    assert.equal(500, next_due())
    assert.equal(1, tonumber(m:status().timers))
    m.now = start + 499
    m:due()
    assert.same({}, fired())
    m.now = start + 500
    m:due()
    assert.same({ { n = 3, list = { 'a', { b = { 1, 2 } }, false } } }, fired())
    m.now = start + 5000
    m:due()
    assert.equal(1, #fired())
    assert.is_nil(next_due())
    assert.equal(0, tonumber(m:status().timers))
  end)

  it('fires in the order of deadlines, then of creation', function()
    m:call('m.at', start + 30, 'tick', 'c')
    m:call('m.after', 20, 'tick', 'b')
    m:call('m.at', start + 10, 'tick', 'a1')
    m:call('m.at', start - 50, 'tick', 'past')
    m:call('m.after', 10, 'tick', 'a2')
    m:call('m.after', 0, 'tick', 'now')
    m.now = start + 1000
    m:due()
    assert.same({ 'past', 'now', 'a1', 'a2', 'b', 'c' }, fired())
  end)

  it('is in one order with rows that run out and sessions that end', function()
    m:session('open', 1000)
    m:call('m.row', 'row', 1000)
    m:call('m.after', 1000, 'tick', 'timer')
    m:call('m.row', 'another row', 1000)
    m:session('open', 1000)
    m:call('m.after', 999, 'tick', 'before')
    m:call('m.row', 'last row', 1001)
    m.now = start + 1001
    m:due()
    assert.same({ 'before', 'session', 'row', 'timer', 'another row', 'session', 'last row' }, fired())
  end)

  it('comes after a session that was used, in the order of when that ends', function()
    local s = m:session('open', 1000)
    m:call('m.after', 1300, 'tick', 'timer')
    m.now = start + 500
    m:session('keep', s)
    m:call('m.row', 'row', 1050)
    m.now = start + 5000
    m:due()
    assert.same({ 'timer', 'session', 'row' }, fired())
  end)

  it('is cancelled once, by its id, by its own module alone', function()
    m = machine.new { m = module, other = (module:gsub("name = 'm'", "name = 'other'")) }
    local id = m:call('m.after', 10, 'tick', 'x')
    assert.is_false(m:call('other.cancel', id))
    assert.is_true(m:call('m.cancel', id))
    assert.is_false(m:call('m.cancel', id))
    assert.is_false(m:call('m.cancel', 12345))
    m.now = m.now + 100
    m:due()
    assert.same({}, fired())
  end)

  it('is not armed, nor cancelled, by what was rolled back', function()
    local id = m:call('m.after', 10, 'tick', 'kept')
    m:call('m.refused', id)
    assert.is_false((m:call('m.saved', id))[1])
    m.now = start + 100
    m:due()
    assert.same({ 'yes', 'kept' }, fired())
  end)

  it('that a timer arms waits for the next entry, be it due', function()
    m:call('m.after', 5, 'chain', 'a', 0)
    m.now = start + 5
    m:due()
    assert.same({ 'a' }, fired())
    assert.equal(5, next_due())
    m:due()
    assert.same({ 'a', 'a+' }, fired())
  end)

  it('can cancel another that is due in the same entry', function()
    m:call('m.after', 1, 'tick', 'first')
    local victim = m:call('m.after', 3, 'tick', 'victim')
    m:call('m.after', 2, 'cancels', 'by', victim)
    m.now = start + 10
    m:due()
    assert.same({ 'first', { 'by', true } }, fired())
  end)

  it('that fails is undone, told, counted and gone; the others fire', function()
    m:call('m.after', 1, 'broken', 'a')
    m:call('m.after', 2, 'endless')
    m:call('m.after', 3, 'tick', 'b')
    m.now = start + 10
    m:due()
    assert.same({ 'b' }, fired())
    assert.equal(2, tonumber(m:status().timers_failed))
    assert.is_nil(next_due())
  end)

  it('fires with at most 127 others, each with a budget of its own and other chance', function()
    m:limit('budget', 100000)
    m:call('m.many', 300, 5, 'chance')
    m.now = start + 5
    for _, count in ipairs { 128, 256, 300, 300 } do
      m:due()
      assert.equal(count, #fired())
    end
    local seen = {}
    for _, r in ipairs(fired()) do seen[r] = true end
    local kinds = 0
    for _ in pairs(seen) do kinds = kinds + 1 end
    assert.is_true(kinds > 290, kinds)
  end)

  it('has no session, and the index of its entry', function()
    m:call('m.after', 0, 'outer')
    m:due()
    assert.same({ { true, m.index } }, fired())
  end)

  it('is bounded in number and arguments', function()
    m:limit('timers', 3)
    local _, err = m:call('m.many', 4, 5, 'tick', 'x')
    assert.equal('QUOTA', err.code)
    assert.equal(0, tonumber(m:status().timers))
    m:limit('timer_bytes', 64)
    _, err = m:call('m.after', 5, 'tick', ('x'):rep(65))
    assert.equal('TOO_LARGE', err.code)
    _, err = m:query('m.arm')
    assert.truthy(err.message:find('ctx.after: a query changes nothing; make it a command', 1, true))
  end)

  it('survives a snapshot, with its id', function()
    local id = m:call('m.after', 10, 'tick', 'x')
    m:call('m.after', 20, 'tick', 'y')
    snapshot.with_disk(function(disk)
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      m = assert(snapshot.build(disk, 'a'))
      assert.is_true(m:call('m.cancel', id))
      m.now = m.now + 100
      m:due()
      assert.same({ 'y' }, fired())
    end)
  end)
end)

-- The model: waiting is a list in the order of (deadline, id).
local function due(model)
  local last = model.id
  for _ = 1, 128 do
    table.sort(model.waiting, function(a, b) return a.at ~= b.at and a.at < b.at or a.at == b.at and a.id < b.id end)
    local t = model.waiting[1]
    if not t or t.at > model.now or t.id > last then return end
    table.remove(model.waiting, 1)
    if t.timer ~= 'broken' then model.fired[#model.fired + 1] = { t.token, model.now } end
    if t.timer == 'chain' then
      model.id = model.id + 1
      table.insert(model.waiting, { at = model.now + t.more, id = model.id, timer = 'tick', token = t.token .. '+' })
    elseif t.timer == 'cancels' then
      local found = false
      for i, other in ipairs(model.waiting) do
        if other.id == t.more then
          table.remove(model.waiting, i)
          found = true
          break
        end
      end
      model.fired[#model.fired][1] = { t.token, found }
    end
  end
end

describe('timers over random histories', function()
  it('are those of the model, through a snapshot at every fifteenth step', function()
    snapshot.with_disk(function(disk)
      for seed = 1, 20 do
        local random = core.random(seed)
        local m = machine.new { m = module }
        local model = { now = m.now, id = 0, waiting = {}, fired = {} }
        for at = 1, 150 do
          local roll = random(100)
          m.now = m.now + (random(3) == 1 and random(60) or 0)
          model.now = m.now
          if roll <= 60 then
            local timer = ({ 'tick', 'chain', 'broken', 'cancels' })[random(4)]
            local token, ms = 't' .. at, random(100) - 1
            local more = timer == 'cancels' and random(model.id + 3) or random(40) - 1
            model.id = model.id + 1
            table.insert(model.waiting, { at = m.now + ms, id = model.id, timer = timer, token = token, more = more })
            local id = roll % 2 == 0 and m:call('m.after', ms, timer, token, more) or m:call('m.at', m.now + ms, timer, token, more)
            assert.equal(model.id, id)
          elseif roll <= 70 then
            local id, found = random(model.id + 3), false
            for i, t in ipairs(model.waiting) do
              if t.id == id then
                table.remove(model.waiting, i)
                found = true
                break
              end
            end
            assert.equal(found, m:call('m.cancel', id))
          elseif roll <= 75 then m:call('m.refused', random(model.id + 3))
          else
            m:due()
            due(model)
          end
          assert.same(model.fired, m:query('m.fired'))
          assert.equal(#model.waiting, tonumber(m:status().timers))
          if at % 15 == 0 then
            assert.equal('OK', (snapshot.take(m, disk, 'a')))
            local built = assert(snapshot.build(disk, 'a'))
            assert.equal(m:digest(), built:digest())
            for _, one in ipairs { m, built } do one:due() end
            due(model)
            assert.equal(m:digest(), built:digest())
            m = built
          end
        end
      end
    end)
  end)
end)
