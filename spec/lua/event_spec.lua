-- Events through the machine alone: what ctx.emit gives to those who watch, and that nothing undone is among it.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'

local module = [[
local function all(ctx, list)
  for _, op in ipairs(list) do
    if op[1] == 'emit' then ctx.emit(op[2], op[3], op[4])
    elseif op[1] == 'try' then pcall(function() all(ctx, op[2]) error('undo') end)
    elseif op[1] == 'good' then pcall(function() all(ctx, op[2]) end)
    elseif op[1] == 'call' then ctx.call('other.all', op[2])
    else error { code = 'STOP', message = 'refused' } end
  end
end
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = { all = all, many = function(ctx, n, size) for i = 1, n do ctx.emit('many', nil, ('x'):rep(size)) end end,
    later = function(ctx, n, list) for i = 1, n do ctx.after(i, 'all', list) end end },
  timers = { all = all },
  queries = { emit = function(ctx) ctx.emit('a') end } }
]]
module = module:gsub('local function all%(ctx, list%)', 'local all\nall = function(ctx, list)')

describe('events', function()
  local m
  before_each(function() m = machine.new { m = module, other = (module:gsub("name = 'm'", "name = 'other'")) } end)

  it('come with the index, a number in it, their topic, key and data', function()
    m:call('m.all', { { 'emit', 'set', 'a', { b = 1 } }, { 'emit', 'set' }, { 'call', { { 'emit', 'del', 'c', false } } } })
    assert.same({ { m.index, 1, 'm.set', 'a', { b = 1 } }, { m.index, 2, 'm.set', '' }, { m.index, 3, 'other.del', 'c', false } }, m.events)
    m:call('m.all', { { 'emit', 'x' } })
    assert.same({ { m.index, 1, 'm.x', '' } }, m.events)
    m:call('m.all', { { 'try', {} } })
    assert.same({}, m.events)
  end)

  it('of what is undone are none: a refusal, a pcall, a batch', function()
    m:call('m.all', { { 'emit', 'a' }, { 'refuse' } })
    assert.same({}, m.events)
    m:call('m.all', { { 'emit', 'a' }, { 'try', { { 'emit', 'b' }, { 'call', { { 'emit', 'c' } } } } }, { 'good', { { 'emit', 'd' } } } })
    assert.same({ { m.index, 1, 'm.a', '' }, { m.index, 2, 'm.d', '' } }, m.events)
    m:batch { { 'm.all', { { { 'emit', 'a' } } } }, { 'm.all', { { { 'emit', 'b' }, { 'refuse' } } } } }
    assert.same({}, m.events)
    m:batch { { 'm.all', { { { 'emit', 'a' } } } }, { 'other.all', { { { 'emit', 'b' } } } } }
    assert.same({ { m.index, 1, 'm.a', '' }, { m.index, 2, 'other.b', '' } }, m.events)
  end)

  it('are bounded: their number and their bytes', function()
    m:limit('events', 10)
    m:call('m.many', 10, 1)
    assert.equal(10, #m.events)
    local _, err = m:call('m.many', 11, 1)
    assert.equal('TOO_LARGE', err.code)
    assert.same({}, m.events)
    m:limit('event_bytes', 1024)
    _, err = m:call('m.many', 1, 1025)
    assert.equal('TOO_LARGE', err.code)
    m:call('m.all', { { 'try', { { 'emit', 'a', 'k', ('x'):rep(1100) } } }, { 'emit', 'b' } })
    assert.same({ { m.index, 1, 'm.b', '' } }, m.events)
    _, err = m:call('m.all', { { 'emit', 'a', ('k'):rep(1025) } })
    assert.equal('TOO_LARGE', err.code)
    _, err = m:query('m.emit')
    assert.truthy(err.message:find('ctx.emit: a query changes nothing', 1, true))
  end)

  it('of timers go on counting, and a DUE ends early when there are many', function()
    m:limit('events', 10)
    local four = { { 'emit', 'a' }, { 'emit', 'b' }, { 'emit', 'c' }, { 'emit', 'd' } }
    m:call('m.later', 5, four)
    m.now = m.now + 100
    m:due()
    assert.equal(12, #m.events)
    assert.same({ m.index, 12, 'm.d', '' }, m.events[12])
    m:due()
    assert.equal(8, #m.events)
  end)

  it('are in the digest', function()
    local other = machine.new { m = module, other = (module:gsub("name = 'm'", "name = 'other'")) }
    m:call('m.all', { { 'emit', 'a', 'k', 1 } })
    other:call('m.all', { { 'emit', 'a', 'k', 2 } })
    assert.not_equal(m:digest(), other:digest())
  end)

  it('of a dry run are none, and it leaves nothing', function()
    local C, r = machine.C, m.results[0]
    local digest = m:digest()
    r.count, r.bytes.size, r.events.size = 0, 0, 0
    local name, args = 'm.later', machine.pack { 3, {} }
    C.machine_try(m.m, core.slice(name), core.slice(args), core.slice(''), 0, r)
    assert.is_true(r.list[0].ok)
    assert.equal(0, tonumber(r.events.size))
    assert.equal(0, tonumber(m:status().timers))
    assert.equal(digest, m:digest())
  end)

  it('are those of a model over random commands', function()
    for seed = 1, 20 do
      local random = core.random(seed)
      local function make(model, deep)
        local list = {}
        for i = 1, random(4) do
          local roll = random(deep < 3 and 5 or 2)
          if roll <= 2 then
            list[i] = { 'emit', 'a', 'k' .. i, random(9) }
            model[#model + 1] = list[i]
          elseif roll == 3 then list[i] = { 'try', make({}, deep + 1) }
          elseif roll == 4 then list[i] = { 'good', make(model, deep + 1) }
          else list[i] = { 'call', make(model, deep + 1) } end
        end
        return list
      end
      for _ = 1, 50 do
        local model = {}
        local list = make(model, 1)
        local refused = random(4) == 1
        if refused then list[#list + 1] = { 'refuse' } end
        m:call('m.all', list)
        assert.equal(refused and 0 or #model, #m.events)
        for i, event in ipairs(m.events) do
          assert.same({ m.index, i, model[i][3], model[i][4] }, { event[1], event[2], event[4], event[5] })
        end
      end
    end
  end)
end)
