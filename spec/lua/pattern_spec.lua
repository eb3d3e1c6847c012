-- The sandbox's own patterns: the results of LuaJIT's string library, and an end to those that would never end.
local machine = require 'spec.support.machine'
local core = require 'spec.support.core'

local module = [==[
local m = { name = 'm', version = 1, state = {}, commands = {}, queries = {} }
-- Each case { name, text, pattern, more... } gives { ok, results as text... }.
local function as_text(ok, ...)
  local out = { ok }
  for i = 1, select('#', ...) do
    local value = (select(i, ...))
    out[i + 1] = type(value) .. ' ' .. (type(value) == 'table' and value.message or tostring(value))
  end
  return out
end
local given = { list = { a = 'A', b = false, ab = 7 }, call = function(...) return select('#', ...) .. '<' .. (...) .. '>' end,
  none = function() end }
local functions = { find = string.find, match = string.match, gsub = string.gsub, sub = string.sub, byte = string.byte,
  rep = string.rep, upper = string.upper, lower = string.lower, reverse = string.reverse, len = string.len, char = string.char,
  gmatch = function(text, pattern)
    local all = {}
    for a, b in string.gmatch(text, pattern) do all[#all + 1] = tostring(a) .. ',' .. tostring(b) end
    return table.concat(all, ';')
  end }
function m.queries.run(_, cases)
  local out = {}
  for i, case in ipairs(cases) do
    local with = case[4]
    if case[1] == 'gsub' and given[with] then with = given[with] end
    out[i] = as_text(pcall(functions[case[1]], case[2], case[3], with, case[5], case[6]))
  end
  return out
end
function m.queries.find(_, text, pattern) return { string.find(text, pattern) } end
return m
]==]

local m = machine.new { t = module, lua_bytes_max = 256 * 1024 * 1024 }

-- The same module under LuaJIT's own library; interpreted, for its compiler cuts ('hey'):sub(-4, -5) wrong.
local native = assert(loadstring(module))().queries.run
require('jit').off(native, true)

local function plain(list)
  local out = {}
  for i, one in ipairs(list) do
    out[i] = {}
    for at, value in ipairs(one) do
      out[i][at] = type(value) == 'string' and value:gsub('^table ', 'string '):gsub('module%.lua:%d+: ', '')
        :gsub('^(string .-)%[string .-%]:%d+: ', '%1') or value
    end
  end
  return out
end

local function compare(cases)
  local got, err = m:query('t.run', cases)
  assert.is_nil(err)
  local want = plain(native(nil, cases))
  got = plain(got)
  for i, case in ipairs(cases) do
    for at = 1, math.max(#want[i], #got[i]) do
      if want[i][at] ~= got[i][at] then
        error(('%s(%q, %q, %s, %s): %s, LuaJIT says %s'):format(case[1], case[2], tostring(case[3]), tostring(case[4]),
          tostring(case[5]), table.concat({ tostring(got[i][1]), tostring(got[i][2]), tostring(got[i][3]) }, ' | '),
          table.concat({ tostring(want[i][1]), tostring(want[i][2]), tostring(want[i][3]) }, ' | ')), 2)
      end
    end
  end
end

local items = { 'a', 'b', 'c', '.', '%a', '%d', '%s', '%w', '%p', '%l', '%u', '%x', '%c', '%z', '%g', '%A', '%D', '%S', '%W', '%Z',
  '%%', '%.', '[ab]', '[^a]', '[a-c]', '[%a_]', '[]]', '[^]]', '[a-]', '[%d%-]', '[^%s]', '[b-a]', '[%a-z]', '%bab', '%b()',
  '%f[%a]', '%f[^a]', '%1', '%2', '()', '(', ')', '(a)', '(.-)', '(%a*)', '((a)b)', '$', '^', '-', '*', '?', '+', ' ', '1', ']',
  '%e', '%Q', 'ab' }
local broken = { '%', '[', '[a', '[^', '[%', '%b', '%ba', '%f', '%fa', '%0', '%9', '[a%' }
local suffixes = { '', '', '', '', '*', '+', '-', '?' }
local bytes = { 'a', 'b', 'c', 'a', 'b', 'A', 'Z', '1', '9', ' ', '\t', '_', '-', '(', ')', '.', ']', '\0', '\255', '\128', '%', '^' }
local replacements = { 'x', '%0', '<%1>', '%1%2', '%%', '', '%', 'a%', '%a', 'list', 'call', 'none' }

describe('patterns', function()
  it('give what LuaJIT gives, errors too, for thousands of random ones', function()
    local random = core.random(20261124)
    local function pick(list) return list[random(#list)] end
    local function text(most)
      local out = {}
      for i = 1, random(0, most) do out[i] = pick(bytes) end
      return table.concat(out)
    end
    for _ = 1, 60 do
      local cases = {}
      for i = 1, 200 do
        local pattern = {}
        if random(6) == 1 then pattern[1] = '^' end
        for _ = 1, random(0, 5) do pattern[#pattern + 1] = pick(items) .. pick(suffixes) end
        if random(25) == 1 then pattern[#pattern + 1] = pick(broken) end
        if random(8) == 1 then pattern[#pattern + 1] = '$' end
        local name = ({ 'find', 'match', 'gmatch', 'gsub', 'find' })[random(5)]
        local case = { name, text(14), table.concat(pattern) }
        if name == 'gsub' then
          case[4] = pick(replacements)
          if random(3) == 1 then case[5] = random(-1, 3) end
        elseif name ~= 'gmatch' and random(2) == 1 then
          case[4] = random(-16, 16)
          if name == 'find' and random(4) == 1 then case[5] = true end
        end
        cases[i] = case
      end
      compare(cases)
    end
  end)

  it('know every byte of every class', function()
    local all = {}
    for i = 0, 255 do all[i + 1] = string.char(i) end
    local subject, cases = table.concat(all), {}
    for i = 1, 127 do
      local class = string.char(i)
      cases[#cases + 1] = { 'gsub', subject, '%' .. class .. (class == 'b' and '()' or class == 'f' and '[%w]' or ''), '<%0>' }
      if class ~= '^' and class ~= '%' then cases[#cases + 1] = { 'gsub', subject, '[%' .. class .. '-z]', '' } end
      if class ~= '%' then cases[#cases + 1] = { 'gsub', subject, '[^' .. class .. ']', '' } end
    end
    compare(cases)
  end)

  it('cut, count and change texts as LuaJIT does', function()
    local cases = {}
    for i = -5, 5 do
      for j = -5, 5 do cases[#cases + 1] = { 'sub', 'hey', i, j } end
      cases[#cases + 1] = { 'sub', 'hey', i + 0.5 }
      cases[#cases + 1] = { 'byte', 'hey', i }
      cases[#cases + 1] = { 'byte', 'hey', i, 3 }
      cases[#cases + 1] = { 'rep', 'ab', i }
    end
    local every = {}
    for i = 0, 255 do every[i + 1] = string.char(i) end
    for _, name in ipairs { 'upper', 'lower', 'reverse', 'len' } do
      for _, text in ipairs { '', 'x', table.concat(every), ('aZ.'):rep(1000) } do cases[#cases + 1] = { name, text } end
    end
    cases[#cases + 1] = { 'sub', 123, 2 }
    cases[#cases + 1] = { 'find', 12345, 34 }
    cases[#cases + 1] = { 'gsub', 121, 1, 3 }
    compare(cases)
  end)

  it('take no notice of how numbers are converted on this machine', function()
    local one = m:query('t.run', { { 'sub', 'hey', -1e300, 1e300 }, { 'sub', 'hey', 1e10 }, { 'sub', 'hey', -2147483649, 2 },
      { 'find', 'hey', 'y', 4294967297 }, { 'rep', 'x', 1e10 }, { 'rep', '', 1e300 }, { 'char', 256 }, { 'char', -1 } })
    assert.same({ { true, 'string hey' }, { true, 'string ' }, { true, 'string he' }, { true, 'nil nil' } },
      { one[1], one[2], one[3], one[4] })
    assert.truthy(one[5][2]:find('string.rep: more than 1 MiB', 1, true))
    assert.same({ true, 'string ' }, one[6])
    for i = 7, 8 do assert.truthy(one[i][2]:find('a byte is 0 to 255', 1, true), one[i][2]) end
  end)

  it('refuse a zero byte, with what to write instead', function()
    local got = m:query('t.run', { { 'match', 'a\0b', 'a\0b' }, { 'find', 'a\0b', '\0b', 1, true }, { 'match', 'a\0b', 'a%zb' } })
    assert.truthy(got[1][2]:find('a zero byte in a pattern: write %z', 1, true))
    assert.same({ { true, 'number 2', 'number 3' }, { true, 'string a\0b' } }, { got[2], got[3] })
  end)

  it('take any number of repetitions on texts of any size', function()
    assert.same({ 1, 300 }, m:query('t.find', ('a'):rep(300), ('a?'):rep(300)))
    assert.same({ 1, 900001 }, m:query('t.find', ('a'):rep(900000) .. 'b', '^%a-[^a]$'))
    assert.same({ 1, 900001, 'b' }, m:query('t.find', ('a'):rep(900000) .. 'b', '^a*(%a+)$'))
    local _, err = m:query('t.find', ('a'):rep(2000), ('a?'):rep(2000))
    assert.truthy(err.message:find('pattern too complex', 1, true), err.message)
  end)

  -- Each of these takes seconds to ages in LuaJIT's own library.
  for name, case in pairs {
    ['a*a*a*a*b'] = { ('a'):rep(2000), 'a*a*a*a*b' }, ['.-.-.-b'] = { ('a'):rep(3000), '.-.-.-b' },
    ['a?...'] = { ('a'):rep(30), ('a?'):rep(30) .. ('a'):rep(30) }, ['(.-)%1x'] = { ('ab'):rep(20000), '(.-)%1x' },
    ['a long set'] = { ('b'):rep(500000), '[' .. ('a'):rep(500000) .. ']*x' }, ['%b()'] = { ('('):rep(300000), '%b()' },
    ['%f'] = { ('a'):rep(500000), '%f[^' .. ('a'):rep(100000) .. ']' } } do
    it('end with BUDGET: ' .. name, function()
      local started = os.clock()
      local _, err = m:query('t.find', case[1], case[2])
      assert.equal('BUDGET', err and err.code)
      assert.is_true(os.clock() - started < 20)
    end)
  end

  it('end with BUDGET in gsub and gmatch too, whatever pcall says', function()
    local n = machine.new { t = [[
      local m = { name = 'm', version = 1, state = {}, commands = {}, queries = {} }
      local text = ('a'):rep(3000)
      function m.commands.gsub() local ok = pcall(string.gsub, text, '.-.-.-b', '') return ok end
      function m.commands.gmatch() return (pcall(function() for a in text:gmatch('.-.-.-b') do return a end end)) end
      function m.commands.grow() return #text:gsub('', text) end
      function m.commands.recurse() local function f(s) return (s:gsub('a', f)) end return f(text) end
      return m ]] }
    assert.equal('BUDGET', select(2, n:call('t.gsub')).code)
    assert.equal('BUDGET', select(2, n:call('t.gmatch')).code)
    assert.equal('TOO_LARGE', select(2, n:call('t.grow')).code)
    assert.equal('DEPTH', select(2, n:call('t.recurse')).code)
  end)
end)
