-- The replicated limits through the machine alone: entries LIMIT, the quota of the state, and that all of it is in the digest.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'

local module = [[
return { name = 'm', version = 1, state = { rows = 'map', other = 'map' },
  commands = {
    put = function(ctx, k, v, ttl) ctx.db.rows:put(k, v, ttl and { ttl = ttl }) end,
    two = function(ctx, a, b) ctx.db.rows:put('two', a) ctx.db.other:put('two', b) end,
    del = function(ctx, k) return ctx.db.rows:del(k) end,
    add = function(ctx, k, n) return ctx.db.rows:add(k, n) end,
    update = function(ctx, k, v) ctx.db.rows:update(k, function() return v end) end,
    clear = function(ctx) return ctx.db.rows:clear() + ctx.db.other:clear() end,
    try = function(ctx, k, v) local ok, err = pcall(function() ctx.db.rows:put(k, v) end) return { ok, err and err.code or '' } end,
    timer = function(ctx) ctx.after(1000, 'tick', ('x'):rep(100)) end,
    swap = function(ctx, k, v) ctx.db.rows:del(k) ctx.db.rows:put(k, v) end,
  },
  timers = { tick = function() end },
  queries = { len = function(ctx) return ctx.db.rows:len() end, get = function(ctx, k) return ctx.db.rows:get(k) end } }
]]

describe('the quota', function()
  local m
  before_each(function() m = machine.new { m = module } end)
  local function bytes() return tonumber(m:status().quota_bytes) end
  local function code(_, err) return err and err.code end

  it('counts the rows of services, keys and values, and nothing else', function()
    assert.equal(0, bytes())
    m:call('m.timer')
    m:session('open', 1000)
    assert.equal(0, bytes())
    m:call('m.put', 'a', 'x')
    assert.equal(4 + 3 + 2, bytes()) -- the map's number, the key's type, byte and end, the value
    m:call('m.put', 'a', 'xyz')
    assert.equal(4 + 3 + 4, bytes())
    m:call('m.del', 'a')
    assert.equal(0, bytes())
  end)

  it('is exact: to the byte, in every method, with nothing left of what was refused', function()
    m:call('m.put', 'a', 'xx')
    m:limit('quota', bytes() + 1)
    local digest = m:digest()
    assert.is_nil((m:call('m.put', 'a', 'xxx')))
    assert.is_not.equal(digest, m:digest()) -- the answer is in it
    assert.equal('QUOTA', code(m:call('m.put', 'a', 'xxxx')))
    assert.equal('QUOTA', code(m:call('m.update', 'a', 'xxxx')))
    assert.equal('QUOTA', code(m:call('m.put', 'b', 1)))
    assert.equal('QUOTA', code(m:call('m.add', 'b', 1)))
    assert.equal('QUOTA', code(m:call('m.two', 'x', 'y')))
    assert.equal('QUOTA', code(m:call('m.put', 'a', 'x', 1000)))
    assert.equal('QUOTA', code(m:batch { { 'm.put', { 'b', 1 } } }))
    assert.same({ false, 'QUOTA' }, m:call('m.try', 'b', 1))
    assert.equal('xxx', m:query('m.get', 'a'))
    assert.equal(1, m:query('m.len'))
    assert.equal(4 + 3 + 4, bytes())
    local _, err = m:call('m.put', 'b', 1)
    assert.equal('module.lua:3: rows:put: the state has 11 bytes, and with this row it would have 19; the quota is 11', err.message)
  end)

  it('lets a state that is beyond it shrink', function()
    for i = 1, 10 do m:call('m.put', i, ('x'):rep(20)) end
    m:limit('quota', 50)
    assert.equal('QUOTA', code(m:call('m.put', 1, ('x'):rep(21))))
    assert.is_nil(code(m:call('m.put', 1, ('y'):rep(20))))
    assert.is_nil(code(m:call('m.put', 1, 'short')))
    assert.is_true(m:call('m.del', 2))
    assert.equal('QUOTA', code(m:call('m.swap', 3, 'z')))
    assert.equal(9, m:call('m.clear'))
    assert.is_nil(code(m:call('m.put', 1, ('x'):rep(21))))
  end)

  it('is that of a model over random histories, through a snapshot at each', function()
    snapshot.with_disk(function(disk)
      for seed = 1, 15 do
        local random, rows, used, quota = core.random(seed), {}, 0, 200
        m = machine.new { m = module }
        m:limit('quota', quota)
        for _ = 1, 150 do
          local k, size, roll = random(12), random(60) - 1, random(10)
          if roll <= 7 then
            local more = 4 + 9 + (size < 32 and 1 or 2) + size - (rows[k] or 0)
            local fits = used + more <= quota or more <= 0
            assert.equal(not fits and 'QUOTA' or nil, (code(m:call('m.put', k, ('x'):rep(size)))))
            if fits then rows[k], used = (rows[k] or 0) + more, used + more end
          elseif roll <= 9 then
            assert.equal(rows[k] ~= nil, m:call('m.del', k))
            rows[k], used = nil, used - (rows[k] or 0)
          else
            quota = 100 + random(200)
            m:limit('quota', quota)
          end
          assert.equal(used, bytes())
        end
        assert.equal('OK', (snapshot.take(m, disk, 'a')))
        local built = assert(snapshot.build(disk, 'a'))
        assert.equal(used, tonumber(built:status().quota_bytes))
        assert.equal(m:digest(), built:digest())
        m = built
        assert.equal('QUOTA', code(m:call('m.put', 'large', ('x'):rep(400))))
      end
    end)
  end)
end)

describe('a limit', function()
  local m
  before_each(function() m = machine.new { m = module } end)
  local function refused(payload)
    local ok, err = m:entry(10, machine.pack(payload))
    assert.is_false(ok)
    assert.equal('BAD_ARGS', err.code)
    return err.message
  end

  it('is changed by an entry, at its index, which answers what it was', function()
    assert.equal(1000, m:limit('batch', 1))
    assert.equal(1, m:limit('batch', 2))
    local one = { 'm.put', { 'a', 1 } }
    assert.is_nil(select(2, m:batch { one, one }))
    assert.equal('a batch is a list of at most 2 commands', select(2, m:batch { one, one, one }).message)
    m:limit('row_bytes', 64)
    assert.equal('TOO_LARGE', select(2, m:call('m.put', 'a', ('x'):rep(65))).code)
    m:limit('key_bytes', 16)
    assert.equal('TOO_LARGE', select(2, m:call('m.put', ('k'):rep(20), 1)).code)
  end)

  it('has a range, and a name', function()
    assert.equal('there is no limit cache; there are answer_bytes args_bytes batch budget depth event_bytes events key_bytes '
      .. 'lease_drift_ms migrate_budget quota row_bytes session_answers session_bytes sessions timer_bytes timers', refused { 'cache', 5 })
    assert.equal('the limit depth must be a whole number from 20 to 200', refused { 'depth', 201 })
    for _, payload in ipairs { { 'depth', 19 }, { 'depth', 'x' }, { 'depth', 20.5 }, { 'depth', -1 }, { 'depth' },
      {}, 'depth', { 5, 5 }, { 'quota', 2 ^ 53 } } do
      refused(payload)
    end
  end)

  it('is a part of the state: the digest, and snapshots, also of rows that are larger than it is now', function()
    local before = m:digest()
    m:call('m.put', 'a', ('x'):rep(500))
    local same = machine.new { m = module }
    same:call('m.put', 'a', ('x'):rep(500))
    m:limit('row_bytes', 64)
    same:limit('row_bytes', 65)
    assert.not_equal(before, m:digest())
    assert.not_equal(same:digest(), m:digest())
    local file = io.open('examples/formats/jsonl.lua')
    m:entry(3, assert(machine.format(file:read('*a'))))
    file:close()
    snapshot.with_disk(function(disk)
      local status, why = snapshot.take(m, disk, 'a')
      assert.equal('OK', status, why)
      local built = assert(snapshot.build(disk, 'a'))
      assert.equal('TOO_LARGE', select(2, built:call('m.put', 'a', ('x'):rep(65))).code)
    end)
  end)
end)
