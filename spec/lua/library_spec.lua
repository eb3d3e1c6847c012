-- The sandbox's own table, math and bit: LuaJIT's results where those are the same everywhere, one answer where they are not.
local machine = require 'spec.support.machine'
local core = require 'spec.support.core'

local source = [==[
local m = { name = 'm', version = 1, state = {}, commands = {}, queries = {} }
local orders = { up = function(a, b) return a < b end, down = function(a, b) return a > b end,
  last = function(a, b) return a % 10 < b % 10 end, }
local bad = { always = function() return true end, never = function() return false end, equal = function(a, b) return a <= b end,
  odd = function(a, b) return (a * 7 + b * 3) % 5 < 2 end }
function m.queries.sort(_, list, order) table.sort(list, orders[order] or bad[order]) return list end
local libraries = { math = math, bit = bit, table = table }
function m.queries.run(_, cases)
  local out = {}
  for i, case in ipairs(cases) do
    local function show(ok, ...)
      local all = { ok and 'ok' or 'error' }
      for at = 1, ok and select('#', ...) or 0 do all[at + 1] = tostring((select(at, ...))) end
      return table.concat(all, ' ')
    end
    out[i] = show(pcall(libraries[case[1]][case[2]], case[3], case[4], case[5]))
  end
  return out
end
return m
]==]

local m = machine.new { t = source }
local native = assert(loadstring(source))().queries
require('jit').off(native.run, true)

local function sandbox(body)
  local n = machine.new { t = "local m = { name = 'm', version = 1, state = {}, commands = {}, queries = {} }\n"
    .. 'function m.queries.run(ctx)\n' .. body .. '\nend\nreturn m' }
  return n:query('t.run')
end

describe('table.sort', function()
  it('orders as LuaJIT does where the order is one', function()
    local random = core.random(7)
    for _ = 1, 300 do
      local list, copy = {}, {}
      for i = 1, random(0, 60) do
        list[i] = random(2) == 1 and random(50) or random() * 100
        copy[i] = list[i]
      end
      for _, order in ipairs { 'up', 'down', 'none' } do
        local want = native.sort(nil, copy, order)
        assert.same(want, (m:query('t.sort', list, order)))
      end
    end
    assert.same({ '', 'a', 'ab', 'b' }, m:query('t.sort', { 'b', 'ab', '', 'a' }))
  end)

  it('keeps equals in their order', function()
    assert.same({ 10, 30, 20, 11, 31, 22, 9 }, m:query('t.sort', { 11, 10, 22, 31, 30, 9, 20 }, 'last'))
  end)

  it('refuses what is no order where it shows, everywhere alike', function()
    local list = {}
    for i = 1, 100 do list[i] = i * 37 % 101 end
    for _, order in ipairs { 'always', 'odd' } do
      local _, err = m:query('t.sort', list, order)
      assert.equal('SCRIPT_ERROR', err.code)
      assert.truthy(err.message:find('table.sort: the order contradicts itself', 1, true), err.message)
    end
    local sorted = m:query('t.sort', list, 'equal')
    for i = 2, 100 do assert.is_true(sorted[i - 1] < sorted[i]) end
    assert.same(list, m:query('t.sort', list, 'never'))
  end)

  it('leaves the list as it was when the order raises', function()
    assert.same({ false, 3, 1, 2 }, sandbox [[local t = { 3, 1, 2 } local n = 0
      local ok = pcall(table.sort, t, function(a, b) n = n + 1 if n == 3 then error('x') end return a < b end) return { ok, unpack(t) } ]])
    local _, err = sandbox "table.sort { 1, 'a', 2 }"
    assert.truthy(err.message:find('module.lua:3: attempt to compare', 1, true), err.message)
    _, err = sandbox "table.sort({ 1 }, 'x')"
    assert.truthy(err.message:find("bad argument #2 to 'sort' (function expected, got string)", 1, true), err.message)
  end)

  it('charges the budget', function()
    local _, err = sandbox 'local t = {} for i = 1, 100000 do t[i] = -i end table.sort(t) table.sort(t) table.sort(t) return #t'
    assert.equal('BUDGET', err.code)
    _, err = sandbox 'local t = {} for i = 1, 1e5 do t[i] = i end table.sort(t, function(a, b) for i = 1, 100 do end return a < b end)'
    assert.equal('BUDGET', err.code)
    assert.equal(30000, sandbox 'local t = {} for i = 1, 30000 do t[i] = i * 7919 % 30011 end table.sort(t) return #t')
    _, err = sandbox 'local t = {} for i = 1, 3e4 do table.insert(t, 1, i) end return #t'
    assert.equal('BUDGET', err.code)
  end)
end)

describe('the table library', function()
  it('refuses a list with holes, whatever # makes of it', function()
    for call, name in pairs { ['table.sort(t)'] = 'table.sort', ['return table.concat(t)'] = 'table.concat',
      ['return unpack(t)'] = 'unpack' } do
      for _, list in ipairs { 'local t = { 1, 2, nil, 4 }', 'local t = { 1, 2 } t[4] = 4', 'local t = { [4] = 4, [2] = 2, [1] = 1 }' } do
        local _, err = sandbox(list .. ' t.name = 1 ' .. call)
        assert.truthy(err.message:find(name .. ': a list with holes: there is nothing at 3, and something at 4', 1, true), err.message)
      end
    end
    assert.same({ 'nil', 2 }, sandbox 'local function give(a, b) return { tostring(a), b } end return give(unpack({ nil, 2 }, 1, 2))')
  end)

  it('inserts, removes and joins as Lua does', function()
    assert.same({ 'a-b-c', 'b-c', 'b', '', '1,2.5', 3, 'c', 'a', 'nil' }, sandbox [[
      local t = { 'a', 'b', 'c' }
      local out = { table.concat(t, '-'), table.concat(t, '-', 2), table.concat(t, '-', 2, 2), table.concat(t, '-', 3, 2),
        table.concat({ 1, 2.5 }, ',') }
      table.insert(t, 'd') table.remove(t, 4) out[6] = #t
      out[7] = table.remove(t) out[8] = table.remove(t, 1) table.remove(t, 5) out[9] = tostring((table.remove {}))
      return out ]])
    for body, why in pairs { ['table.insert({}, 2, 1)'] = 'table.insert: the place must be from 1 to n + 1',
      ['table.insert({ 1 }, 0 / 0, 1)'] = 'a number is expected, got nan', ['table.insert({}, 1, 2, 3)'] = 'table.insert: takes a list',
      ['table.concat { 1, {} }'] = 'table.concat: the element at 2 must be text or a number, is table' } do
      local _, err = sandbox(body)
      assert.truthy(err.message:find(why, 1, true), err.message)
    end
    local _, err = sandbox "local s = ('x'):rep(1e6) return table.concat({ s, s, s, s, s, s, s, s, s })"
    assert.equal('TOO_LARGE', err.code)
  end)
end)

describe('numbers', function()
  it('are those of LuaJIT where IEEE fixes them', function()
    local random, cases = core.random(11), {}
    local values = { 0, 1, -1, 0.5, -0.5, 2.5, 1e15, -1e15, 123456.789, 2147483647, 2147483648, 4294967295, -2147483648, 3, 7, 31, 32, 33 }
    for _ = 1, 40 do values[#values + 1] = (random() - 0.5) * 2 ^ random(-30, 50) end
    for _, name in ipairs { 'abs', 'ceil', 'floor', 'sqrt', 'modf', 'frexp', 'max', 'min', 'fmod', 'ldexp' } do
      for _, x in ipairs(values) do
        local y = values[random(#values)]
        if name == 'ldexp' then y = random(-80, 80) end
        local zero = (name == 'ceil' or name == 'modf') and x > -1 and x < 0 -- LuaJIT gives -0 or 0, as it likes
        if not zero and not (name == 'fmod' and y == 0) then cases[#cases + 1] = { 'math', name, x, y } end
      end
    end
    for _, name in ipairs { 'tobit', 'bnot', 'bswap', 'band', 'bor', 'bxor', 'lshift', 'rshift', 'arshift', 'rol', 'ror', 'tohex' } do
      for _ = 1, 60 do
        local y = random(0, 40)
        cases[#cases + 1] = { 'bit', name, random(-2147483648, 2147483647) * random(0, 2), name == 'tohex' and random(-8, 8) or y }
      end
    end
    local got, want = m:query('t.run', cases), native.run(nil, cases)
    for i, case in ipairs(cases) do
      assert.equal(want[i], got[i], table.concat({ case[1], case[2], tostring(case[3]), tostring(case[4]) }, ' '))
    end
  end)

  it('have one answer where machines differ', function()
    assert.equal('inf 0 0 -inf', sandbox [[local z = math.ceil(-0.5)
      return tostring(1 / z) .. ' ' .. math.ldexp(1, -1e300) .. ' ' .. select('#') .. ' ' .. tostring(-math.ldexp(1, 1e300))]])
    for body, why in pairs { ['bit.bor(1e300)'] = 'a whole number up to 2^53 is expected', ['bit.bor(0 / 0)'] = 'a whole number',
      ['bit.tobit(0.5)'] = 'a whole number', ["string.format('%d', 1e300)"] = 'a number up to 2^53 is expected',
      ["string.format('%d', 0 / 0)"] = 'a number up to 2^53', ["string.format('%c', 256)"] = 'a byte is 0 to 255',
      ['select(-1e300)'] = 'index out of range', ['math.ipow(2, 0 / 0)'] = 'the exponent must be' } do
      local _, err = sandbox(body)
      assert.truthy(err and err.message:find(why, 1, true), body)
    end
    assert.equal('nil', sandbox 'return tostring((select(1e300, 1, 2)))')
  end)
end)
