-- Entries SKIP through the machine alone: the way past an entry that parks nodes, and that no state goes on that is another.
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'

local module = [[
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = {
    add = function(ctx, n) return ctx.db.rows:add('n', n) end,
    poison = function(ctx) local t = {} for i = 1, 100000000 do t[i] = { i } end end,
    later = function(ctx, ms, timer) ctx.after(ms, timer) end,
    ttl = function(ctx, k) ctx.db.rows:put(k, 1, { ttl = 1 }) end,
  },
  timers = {
    poison = function(ctx) local t = {} for i = 1, 100000000 do t[i] = { i } end end,
    add = function(ctx) ctx.db.rows:add('n', 100) end },
  queries = { n = function(ctx) return ctx.db.rows:get('n') or 0 end, len = function(ctx) return ctx.db.rows:len() end } }
]]

local function new()
  local m = machine.new { lua_bytes_max = 16 * 1024 * 1024, m = module }
  m:limit('budget', 1000000000)
  return m
end

-- A machine that parked at an entry is given it again, and goes on.
local function again(m, index)
  assert.is_true(machine.C.machine_skip(m.m, index))
  m.index = index - 1
end

describe('an entry that is skipped', function()
  it('lets a parked machine go on, refused, with the state of one that knew before', function()
    local parked, knew = new(), new()
    parked:call('m.add', 1)
    knew:call('m.add', 1)
    assert.same({ nil, { code = 'PARKED' } }, { parked:call('m.poison') })
    local at = parked.index
    assert.equal(at, tonumber(parked:status().parked_at))
    again(parked, at)
    assert.is_true(machine.C.machine_skip(knew.m, at))
    for _, m in ipairs { parked, knew } do
      local _, err = m:call('m.poison')
      assert.equal('SKIPPED', err.code)
      assert.equal(3, m:call('m.add', 2))
      assert.is_true(m:skip_entry(at))
      assert.is_true(m:skip_entry(at)) -- the operator said it twice
      assert.equal(0, tonumber(m:status().parked_at))
    end
    assert.equal(knew:digest(), parked:digest())
  end)

  it('parks a machine that had applied it: its state is another', function()
    local m = new()
    m:call('m.add', 1)
    local at = m.index
    m:call('m.add', 2)
    assert.is_false(machine.C.machine_skip(m.m, at))
    assert.is_nil((m:skip_entry(at)))
    local status = m:status()
    assert.equal(m.index, tonumber(status.parked_at))
    assert.equal(('entry %d is skipped by entry %d, and was applied here: rebuild this node'):format(at, m.index),
      require('ffi').string(status.parked_why))
  end)

  it('is known to a machine that was built of a snapshot', function()
    local m = new()
    local at = m.index + 1
    again(m, at)
    m:call('m.add', 1)
    snapshot.with_disk(function(disk)
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      m = assert(snapshot.build(disk, 'a'))
      assert.is_true(machine.C.machine_skip(m.m, at))
      assert.is_true(m:skip_entry(at))
      assert.equal(0, m:query('m.n'))
    end)
  end)

  it('is skipped also by a state that takes the place of the one that was told', function()
    local m = new()
    local at = m.index + 2
    snapshot.with_disk(function(disk)
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      assert.is_true(machine.C.machine_skip(m.m, at))
      machine.C.machine_swap(m.m, assert(snapshot.build(disk, 'a')).m)
      assert.equal(1, m:call('m.add', 1))
      assert.equal('SKIPPED', select(2, m:call('m.add', 1)).code)
    end)
  end)

  it('with a ticket is the answer that retries get', function()
    local m = new()
    local s = m:session('open', 10000)
    assert.is_nil((m:ticket(s, 1, 0, 'm.poison')))
    again(m, m.index)
    local _, err, bytes = m:ticket(s, 1, 0, 'm.poison')
    assert.equal('SKIPPED', err.code)
    assert.equal(bytes, (select(3, m:ticket(s, 1, 0, 'm.poison'))))
    assert.is_true((m:ticket(s, 2, 0, 'm.add', 1)))
  end)

  it('that is a DUE takes what was due, and runs none of it', function()
    local m = new()
    m:call('m.later', 1, 'add')
    m:call('m.ttl', 'k')
    m:call('m.later', 2, 'poison')
    m:call('m.later', 1000, 'add')
    m.now = m.now + 10
    assert.is_nil((m:due()))
    assert.equal(3, tonumber(m:status().timers))
    again(m, m.index)
    assert.is_true((m:due()))
    assert.equal(1, tonumber(m:status().timers))
    assert.equal(0, m:query('m.len'))
    m.now = m.now + 1000
    m:due()
    assert.equal(100, m:query('m.n'))
  end)

  it('does nothing else: a session, a limit, a bundle', function()
    local m = new()
    for _, entry in ipairs { { 6, machine.pack { 'open', 1000 } }, { 10, machine.pack { 'batch', 5 } }, { 8, 'x' } } do
      again(m, m.index + 1)
      local ok, err = m:entry(entry[1], entry[2])
      assert.is_false(ok)
      assert.equal('SKIPPED', err.code)
    end
    again(m, m.index + 1)
    m:entry(3, assert(machine.bundle('late', module)))
    assert.equal('UNKNOWN_COMMAND', select(2, m:call('late.add', 1)).code)
    assert.equal(1000, m:limit('batch', 7))
    assert.equal(0, tonumber(m:status().sessions))
  end)

  it('comes before its SKIP', function()
    local m = new()
    for _, ahead in ipairs { 1, 2, 1000 } do
      local _, err = m:skip_entry(m.index + ahead)
      assert.equal('BAD_ARGS', err.code)
    end
    for _, index in ipairs { 0, 'x', {} } do
      local _, err = m:skip_entry(index)
      assert.equal('BAD_ARGS', err.code)
    end
  end)
end)
