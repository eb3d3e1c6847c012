-- What a host does besides when an author tries a service out (script/desk.h): copies of rows are watched, and what must not matter is made
-- different.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local ffi, C = core.ffi, machine.C

local COPIES, COLLECT, KEEP, MIXED, ROOMY, BALLAST = 1, 2, 4, 8, 16, 32

local module = [[
local function touch(row)
  row.n = row.n + 1
end
return { name = 'm', version = 1, state = { rows = 'map', other = 'map' },
  init = function(ctx) for _, k in ipairs { 'a', 'b', 'c' } do ctx.db.rows:put(k, { n = 1, list = { 1, 2, 3 } }) end end,
  commands = {
    forgets = function(ctx)
      local row = ctx.db.rows:get('a')
      row.n = 2
      return row.n
    end,
    forgets_deep = function(ctx)
      local row = ctx.db.rows:get('a')
      table.insert(row.list, 4)
    end,
    forgets_elsewhere = function(ctx)
      local row = ctx.db.rows:get('b')
      touch(row)
      return 1
    end,
    forgets_in_loop = function(ctx)
      for _, row in ctx.db.rows:pairs() do
        row.n = 5
      end
    end,
    forgets_first = function(ctx)
      local _, row = ctx.db.rows:first()
      row.n = 7
    end,
    puts_another = function(ctx)
      local row = ctx.db.rows:get('a')
      row.n = 2
      ctx.db.rows:put('b', row)
    end,
    puts = function(ctx)
      local row = ctx.db.rows:get('a')
      row.n = 2
      ctx.db.rows:put('a', row)
      row.shown = true
      return row
    end,
    updates = function(ctx)
      ctx.db.rows:update('a', function(row) touch(row) return row end)
      for k, row in ctx.db.rows:pairs() do row.n = 9 ctx.db.rows:put(k, row) end
    end,
    removes = function(ctx)
      local row, gone = ctx.db.rows:get('a'), ctx.db.rows:take('b')
      row.n, gone.n = 3, 4
      ctx.db.rows:del('a')
    end,
    reads = function(ctx) return ctx.db.rows:get('a') end,
    refused = function(ctx)
      ctx.db.rows:get('a').n = 2
      return ctx.fail('NO', 'no')
    end,
    equal = function(ctx, list, map)
      local row = ctx.db.rows:get('c')
      ctx.db.other:put('list', list)
      ctx.db.other:put('map', map)
      ctx.db.other:put('row', row)
      ctx.db.other:put('empty', ctx.map())
      local n = 0
      for _ in ipairs(list) do n = n + 1 end
      return { list, map, n, #list, ctx.db.other:get('empty') }
    end,
    works = function(ctx, n) for i = 1, n do ctx.db.other:put(i, i) end end,
  },
  queries = { decorates = function(ctx)
    local row = ctx.db.rows:get('a')
    row.shown = true
    return row
  end } }
]]

local function remark(m)
  local text = C.machine_take_remark(m.m)
  return text ~= nil and ffi.string(text) or nil
end

describe('a host at the desk', function()
  it('says where a copy of a row was written to and not put back', function()
    local m = machine.new { m = module, desk = COPIES }
    local found = {}
    for _, name in ipairs { 'forgets', 'forgets_deep', 'forgets_elsewhere', 'forgets_in_loop', 'forgets_first', 'puts_another', 'refused' } do
      m:call('m.' .. name)
      local text = remark(m) or 'nothing'
      found[name] = text:match('^%S+') .. ' ' .. tostring(text:match('gave at (%S-),'))
      assert.is_nil(remark(m)) -- it is said once
    end
    assert.same({ forgets = 'module.lua:9: module.lua:8', forgets_deep = 'module.lua:14: module.lua:13',
      forgets_elsewhere = 'module.lua:2: module.lua:17', forgets_in_loop = 'module.lua:23: module.lua:22',
      forgets_first = 'module.lua:28: module.lua:27', puts_another = 'module.lua:32: module.lua:31',
      refused = 'module.lua:53: module.lua:53' }, found)
  end)

  it('says nothing of copies that are put back, decorated for an answer, or only read', function()
    local m = machine.new { m = module, desk = COPIES }
    for _, name in ipairs { 'puts', 'updates', 'removes', 'reads' } do
      m:call('m.' .. name)
      assert.is_nil(remark(m))
    end
    m:query('m.decorates')
    assert.is_nil(remark(m))
  end)

  it('changes no answer and no digest, whatever it does', function()
    local list = { { n = 0 }, { 1, 2, 3, { a = 'x', b = { 1, 2 } } }, { k = 1, deep = { list = { 5, 6, 7, 8 }, empty = { map = true } } } }
    local function all(desk)
      local m, out = machine.new { m = module, desk = desk }, {}
      for _, name in ipairs { 'forgets', 'forgets_in_loop', 'puts', 'updates', 'removes', 'refused' } do
        out[#out + 1] = { m:call('m.' .. name) }
      end
      for _, one in ipairs(list) do out[#out + 1] = { m:call('m.equal', one, one) } end
      out[#out + 1] = { m:call('m.works', 200) }
      return m:digest(), out, m
    end
    local digest, answers, plain = all(0)
    for _, desk in ipairs { COPIES, COLLECT, KEEP, MIXED, ROOMY, BALLAST, COPIES + MIXED, COLLECT + ROOMY + BALLAST } do
      local other, same, m = all(desk)
      assert.equal(digest, other)
      assert.same(answers, same)
      assert.equal(tonumber(plain:status().spent), tonumber(m:status().spent))
    end
  end)

  it('counts what calls charge to their budgets', function()
    local m = machine.new { m = module }
    local function spent_by(n)
      local before = tonumber(m:status().spent)
      m:call('m.works', n)
      return tonumber(m:status().spent) - before
    end
    m:call('m.works', 100)
    local ten, hundred = spent_by(10), spent_by(100)
    assert.is_true(ten > 0 and hundred > 5 * ten, ten .. ' ' .. hundred)
    assert.equal(hundred, spent_by(100))
  end)

  it('lists the rows of the service, without those whose time has come', function()
    local m = machine.new { m = [[
      return { name = 'm', version = 1, state = { a = 'map', b = 'map' }, commands = { fill = function(ctx)
        ctx.db.b:put({ 'x', 1 }, { 1, 2 })
        ctx.db.a:put('k', 'v')
        ctx.db.a:put('t', 'soon gone', { ttl = 100 })
      end } }]] }
    m:call('m.fill')
    local function rows()
      local out = core.buffer()
      C.machine_pack_rows(m.m, out)
      return (machine.unpack(core.buffer_text(out)))
    end
    assert.same({ { 'm', 'a', 'k', 'v' }, { 'm', 'a', 't', 'soon gone', m.now + 100 }, { 'm', 'b', { 'x', 1 }, { 1, 2 } } }, rows())
    m.now = m.now + 100
    m:call('m.fill2')
    assert.same({ { 'm', 'a', 'k', 'v' }, { 'm', 'b', { 'x', 1 }, { 1, 2 } } }, rows())
  end)
end)
