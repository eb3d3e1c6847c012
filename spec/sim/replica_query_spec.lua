-- Queries that take longer than a slice: over a view, beside the entries (replica/query.c).
local machine = require 'spec.support.machine'
local W = require 'spec.support.replicas'

-- sum reads every row so many times; fill eats memory; both take far longer than a slice.
local service = [[
return { name = 'many', version = 1, state = { rows = 'map' },
  commands = {
    put = function(ctx, k, v) ctx.db.rows:put(k, v) end,
    fill = function(ctx, n) for i = 1, n do ctx.db.rows:put(i, i) end end },
  queries = {
    get = function(ctx, k) return ctx.db.rows:get(k) end,
    sum = function(ctx, times)
      local sum = 0
      for _ = 1, times do for _, v in ctx.db.rows:pairs() do sum = sum + v end end
      return { sum, ctx.now, ctx.random(1000000) }
    end,
    short = function(ctx) return { 0, ctx.now, ctx.random(1000000) } end,
    loop = function(ctx) while true do end end,
    deep = function(ctx) local n = 0 while n < 50000 do n = n + 1 end local function f() return 1 + f() end return f() end,
    refuse = function(ctx) local n = 0 while n < 50000 do n = n + 1 end return nil, { code = 'NOT_FOUND', message = 'no' } end,
    memory = function(ctx) local s = 'x' while true do s = s .. s end end },
}]]

local bundles = W.bundles { many = service }

local function formed(options)
  options = options or {}
  options.bundles = bundles
  local w = W.new(options)
  w:start_all()
  w:until_true('the service answers', function()
    return w:leader() ~= W.NOBODY and w:wait(w:ask(w:leader(), { timeout = 400 }, 'many.fill', 100)).ok
  end)
  return w
end

describe('a query that takes long', function()
  it('gives what a short one would, at the same moment', function()
    local w = formed()
    local leader = w:leader()
    local value = w:query(leader, 'many.sum', 50).value
    assert.equal(5050 * 50, value[1])
    assert.equal(w:query(leader, 'many.short').value[3], value[3]) -- the same state, so the same chance
    assert.is_true(value[2] >= tonumber(w:status(leader).stamp_ms))
  end)

  it('ends as a short one would: without budget, too deep, refused, without memory', function()
    local w = formed()
    local leader = w:leader()
    for name, code in pairs { loop = 'BUDGET', deep = 'DEPTH', refuse = 'NOT_FOUND', memory = 'SCRIPT_ERROR' } do
      local reply = w:query(leader, 'many.' .. name)
      assert.same({ name, code, true }, { name, reply.code, reply.definite })
      assert.equal(5050 * 50, w:query(leader, 'many.sum', 50).value[1])
    end
    assert.equal(0, tonumber(w:status(leader).parked_at))
  end)

  it('does not keep commands waiting, and sees all that was done before it began', function()
    local w = formed { nodes = 1, apply_ms_max = 50, seed = 3 }
    for round = 1, 20 do
      local first = w:ask(0, { query = true }, 'many.sum', 60)
      local put = w:call(0, 'many.put', 'x' .. round, 1)
      assert.is_true(put.ok)
      local second = w:ask(0, { query = true }, 'many.sum', 60)
      local early, late = w:wait(first).value[1], w:wait(second).value[1]
      assert.equal((5050 + round) * 60, late)
      assert.is_true(early == (5050 + round) * 60 or early == (5050 + round - 1) * 60)
    end
  end)

  it('is refused with BUSY when too many wait, and what waits in vain is not run', function()
    local w = formed { nodes = 1, apply_ms_max = 20 }
    local asked, busy, late, ok = {}, 0, 0, 0
    for i = 1, 700 do asked[i] = w:ask(0, { query = true, timeout = 1500 }, 'many.sum', 20) end
    for i = 1, 700 do
      local reply = w:wait(asked[i])
      if reply.ok then ok = ok + 1
      elseif reply.code == 'BUSY' then busy = busy + 1
      else
        assert.equal('TIMEOUT', reply.code)
        late = late + 1
      end
      assert.is_true(reply.ok or reply.definite)
    end
    assert.is_true(ok > 20 and busy > 50 and late > 20)
    assert.is_true(w:query(0, 'many.sum', 20).ok)
  end)

  it('gives its view back: a snapshot can take the place of the state', function()
    local w = formed { snapshots = { entries = 40, keep = 1 } }
    local node = (w:leader() + 1) % 3
    for _ = 1, 3 do assert.is_true(w:wait(w:ask(node, { query = true, stale = true }, 'many.sum', 40)).ok) end
    w:isolate(node)
    for i = 1, 150 do w:call(w:leader(), 'many.put', i, i) end
    w:until_true('the log begins later', function() return w:status(w:leader()).base > w:status(node).last end)
    w:isolate(node, false)
    for _ = 1, 5 do w:ask(node, { query = true, stale = true }, 'many.sum', 200) end
    w:until_true('it was installed', function() return w:status(node).received > 0 end)
    w:equal()
  end)

  it('runs the code of its view, also over rows of older versions', function()
    local w = formed()
    local leader = w:leader()
    assert.equal(5050 * 50, w:query(leader, 'many.sum', 50).value[1])
    local second = service:gsub('version = 1', 'version = 2, upgrade_row = function(map, key, value, from) return value * 10 end')
    local hash = w:query(leader, 'tidelock.code').value[1].hash
    local facts = { kind = 'machine', mount = 'many', expect = hash }
    local reply = w:call(leader, 'tidelock.deploy', facts, (assert(machine.bundle('many', second))))
    assert.is_true(reply.ok, reply.message)
    assert.equal(50500 * 50, w:query(leader, 'many.sum', 50).value[1])
    w:call(leader, 'many.put', 1, 7)
    assert.equal((50500 - 10 + 7) * 50, w:query(leader, 'many.sum', 50).value[1])
  end)

  it('dies with its node, and the node starts again', function()
    local w = formed { nodes = 1, apply_ms_max = 30 }
    for round = 1, 10 do
      for _ = 1, 30 do w:ask(0, { query = true }, 'many.sum', 20) end
      w:run(7 * round)
      w:crash(0)
      w:start(0)
      w:until_true('it answers', function() return w:query(0, 'many.get', 1).ok end)
    end
  end)
end)
