-- Every way known in which one Lua text can run differently in two places, and what stands in its way here.
--
-- no. hazard                                what guards it (script/ unless said otherwise)
--  1  pairs over text keys                  pairs.c sorts                                          spec below
--  2  keys that are tables, functions       pairs refuses them; no value has them                  spec below
--  3  float and sparse keys                 pairs.c sorts: numbers before texts                    spec below
--  4  new keys while looping                pairs.c loops over a copy of the keys                  spec below
--  5  keys taken out while looping          the same; next(t, k) is refused                        spec below
--  6  # and lists with holes                sort concat unpack, keys and values refuse holes       spec below; `#` itself cannot be
--                                           replaced: a result that hangs on it shows in the digest
--  7  weak tables, finalizers               __mode and __gc are refused at load and at run time    spec below
--  8  memory in use                         no collectgarbage, gcinfo                              spec below
--  9  sort with a wrong order function      list.c: our own merge sort                             library_spec
-- 10  sort of equals                        the same: stable                                       library_spec
-- 11  aliases, cycles                       values are copies; cycles are refused                  spec below
-- 12  NaN and -0 as keys                    refused by Lua; -0 is 0 in state/key.c                 spec below
-- 13  libm of this machine                  no sin, exp, log, ...: refused at load                 spec below
-- 14  ^ is libm's pow                       refused at load (lexer.c)                              spec below
-- 15  x^2 compiled                          the same; the JIT is off
-- 16  min, max of NaN                       number.c: our own                                      spec below
-- 17  ceil(-0.5)                            number.c gives 0                                       library_spec
-- 18  -0 in general                         packed as it is; 0 in keys                             spec below
-- 19  signs of NaN                          no NaN in values, keys, answers; printed as nan        spec below
-- 20  numbers out of an integer's range     text.c, number.c, list.c: held or refused              library_spec, pattern_spec
-- 21  fused multiply-add                    the JIT is off; our C is built with -ffp-contract=off
-- 22  1LL, 2i                               refused at load; tonumber gives nil                    spec below
-- 23  1 and 1.0 in MessagePack              one form for one number (wire/pack.c)                  spec below
-- 24  beyond 2^53                           BAD_ARGS from outside                                  machine_spec
-- 25  math.random                           ours, from the cluster's id and the index              spec below
-- 26  addresses in texts                    own tostring and format                                spec below
-- 27  __tostring that gives no text         refused                                                spec below
-- 28  texts of run-time errors              LuaJIT is linked in; hello carries a fingerprint of it; our own texts are fixed
-- 29  file names in errors                  "kv.lua", never a path                                 spec below
-- 30  locale                                our own classes, cases, formats                        pattern_spec; spec below
-- 31  tonumber 'nan', 'inf'                 nil                                                    spec below
-- 32  zero bytes, UTF-8                     texts are bytes; %z in patterns                        pattern_spec
-- 33  clock, files, environment             not there; os.time() is ctx.now                        spec below
-- 34  how deep until the stack ends         DEPTH comes first, uncatchable; the stack's end parks  spec below
-- 35  the C stack's end through gsub        the same                                               pattern_spec
-- 36  nested coroutines                     none                                                   spec below
-- 37  the JIT counts no instructions        it is off (vm.c)
-- 38  loops change their own code           pairs is never LuaJIT's own                            spec below
-- 39  BUDGET caught by pcall                sticky fault (budget.c)                                machine_spec, pattern_spec
-- 40  out of memory caught by pcall         parks, is never a result                               machine_spec
-- 41  rep and .. that double                rep is bounded; .. ends in 40                          library_spec, machine_spec
-- 42  patterns that never end               match.c charges each step                              pattern_spec
-- 43  one call, much work                   every function charges by what it touches              library_spec
-- 44  table.new                             not there                                              spec below
-- 45  getfenv, loadstring                   not there                                              spec below
-- 46  the metatable of texts                hidden                                                 spec below
-- 47  libraries that can be changed         frozen                                                 spec below
-- 48  bytecode                              refused                                                spec below
-- 49  a text that crashes the parser        `start` first has a process of its own load it         live_spec
-- 50  ffi, jit, debug, string.buffer        not there                                              spec below
-- 51  globals                               refused at load and at run time                        machine_spec, spec below
-- 52  locals that outlive an entry          stores are found in the bytecode                       machine_spec
-- 53  caches in tables                      no new keys; plain stores found; an old ctx refused    machine_spec, errors_spec
-- 54  functions, threads in state           refused                                                spec below
-- 55  xpcall, levels of error               no xpcall; levels as in Lua                            spec below
-- 56  hash flooding                         LuaJIT's seeds stay random: no order hangs on them     all specs
local machine = require 'spec.support.machine'
local core = require 'spec.support.core'

local function source(body)
  return "local m = { name = 'm', version = 1, state = { rows = 'map' }, commands = {}, queries = {} }\n"
    .. 'function m.commands.run(ctx, arg)\n' .. body .. '\nend\n'
    .. "function m.commands.stir(ctx, n) local t = {} for i = 1, n do t['k' .. i] = { i } t[i * 3] = i end end\nreturn m"
end

-- Runs the body in hosts of different histories and seeds; all must say the same. -> value, error
local function everywhere(body, arg)
  local first
  for round = 1, 3 do
    local m = machine.new { t = source(body) }
    m:call('t.stir', (round - 1) * 500)
    local value, err = m:call('t.run', arg)
    local packed = machine.pack({ n = 2, value, err }) .. m:digest()
    first = first or packed
    assert.equal(first, packed, body)
    if round == 3 then return value, err end
  end
end

local function refused(body, why)
  local bundle, got = machine.bundle('t', source(body))
  assert.is_nil(bundle, body)
  assert.truthy(got:find(why, 1, true), got)
end

local function fails(body, why)
  local _, err = everywhere(body)
  assert.truthy(err and err.message:find(why, 1, true), body .. ': ' .. tostring(err and err.message))
end

describe('one text in several places (bug 107)', function()
  it('visits keys in one order, however the table was made (1, 3)', function()
    local keys = {}
    for i = 1, 40 do keys[i] = 'key' .. i * 7919 % 101 end
    local out = everywhere([[local t, all = { [true] = 1, [false] = 1, [0.5] = 1, [-3] = 1, [1e300] = 1, [70000] = 1, 1, 2, 3 }, {}
      for _, k in ipairs(arg) do t[k] = 1 end for k in pairs(t) do all[#all + 1] = tostring(k) end return table.concat(all, ' ') ]], keys)
    assert.equal('false true -3 0.5 1 2 3 70000 1e+300', out:match('^(.-) key'))
    assert.equal('2 3', everywhere 'local t = {} t[3] = 1 t[2] = 1 local s = "" for k in pairs(t) do s = s .. " " .. k end return s:sub(2)')
  end)

  it('refuses keys that have no order (2)', function()
    fails('for k in pairs { [{}] = 1 } do end', 'a table as key has no order that is the same everywhere')
    fails('for k in pairs { [pairs] = 1 } do end', 'a function as key has no order')
  end)

  it('loops over the keys there were (4, 5)', function()
    assert.equal('a c ', everywhere [[local t, s = { a = 1, b = 1, c = 1 }, ''
      for k in pairs(t) do s = s .. k .. ' ' t.b = nil for i = 1, 100 do t['new' .. k .. i] = 1 end end return s ]])
    fails('return next({ 1 }, 1)', 'next only tells whether a table is empty')
    assert.same({ 'true', 'nil' }, everywhere 'return { tostring(next { x = 1 }), tostring(next {}) }')
  end)

  it('takes no list with holes for state (6)', function()
    for _, list in ipairs { '{ 1, nil, 3 }', '{ [1] = 1, [3] = 3 }', '{ 1, 2, [4] = 4 }' } do
      fails('ctx.db.rows:put(1, ' .. list .. ')', 'a list with holes')
      fails('return ' .. list, 'a list with holes')
    end
  end)

  it('has nothing that the collector decides (7, 8)', function()
    refused("local t = setmetatable({}, { __mode = 'k' })", '__mode and __gc are not there')
    refused("local mt = {} mt['__mode'] = 'k'", '__mode and __gc are not there')
    refused('local t = setmetatable({}, { __gc = function() end })', '__mode and __gc are not there')
    fails("local name = '__mo' .. 'de' setmetatable({}, { [name] = 'k' })", 'setmetatable: __mode depends on the collector')
    refused("return collectgarbage 'count'", 'collectgarbage is not there')
    refused('return gcinfo()', "there is no 'gcinfo' here")
  end)

  it('keeps copies, and refuses what cannot be copied (11, 54)', function()
    assert.same({ false, 1 }, everywhere [[local a = { 1 } ctx.db.rows:put(1, { a, a })
      local b = ctx.db.rows:get(1) return { b[1] == b[2], b[2][1] } ]])
    fails('local a = {} a.a = a ctx.db.rows:put(1, a)', 'nested too deep, or a cycle')
    fails('ctx.db.rows:put(1, { f = pairs })', 'value.f: a function is no value')
    fails('ctx.db.rows:put(1, ctx.db.rows)', 'a userdata is no value')
    fails('ctx.db.rows:put(1, setmetatable({}, { __index = {} }))', 'a table with a metatable is no value')
  end)

  it('has one zero as key, and no NaN (12, 18, 19)', function()
    assert.equal('inf 0 -inf', everywhere [[ctx.db.rows:put(-0.0, -0.0) local k = ctx.db.rows:first()
      return tostring(1 / k) .. ' ' .. tostring(k) .. ' ' .. tostring(1 / ctx.db.rows:get(0)) ]])
    fails('local t = {} t[0 / 0] = 1', 'table index is NaN')
    for _, body in ipairs { 'ctx.db.rows:put(1, 0 / 0)', 'return 0 / 0', 'return { a = -(0 / 0) }', 'return 1 / 0' } do
      fails(body, 'NaN and infinities are no values')
    end
    assert.equal('nan nan nan nan', everywhere "local n = 0 / 0 return tostring(n) .. ' ' .. tostring(-n) .. (' %g %.1f'):format(n, -n)")
  end)

  it('has no function of libm that differs (13, 14, 15)', function()
    for _, name in ipairs { 'sin', 'cos', 'tan', 'asin', 'acos', 'atan', 'atan2', 'sinh', 'cosh', 'tanh', 'exp', 'log', 'log10', 'pow' } do
      refused('return math.' .. name .. '(1)', 'math.' .. name .. ' is not there')
      fails("local lib = { math } return lib[1]['" .. name .. "']", "there is no '" .. name .. "' here")
    end
    refused('return 2 ^ 0.5', '^ differs from machine to machine')
    assert.equal(1.4142135623730951, everywhere 'return math.sqrt(2)')
    assert.equal(1024, everywhere 'return math.ipow(2, 10)')
  end)

  it('takes the first of numbers that do not compare (16)', function()
    assert.equal('1 nan 1 nan', everywhere [[local n = 0 / 0
      return math.min(1, n) .. ' ' .. tostring(math.min(n, 1)) .. ' ' .. math.max(1, n) .. ' ' .. tostring(math.max(n, 1)) ]])
  end)

  it('has one kind of number (22, 23, 31)', function()
    for _, literal in ipairs { '1LL', '1ULL', '0x1LL', '2i' } do refused('return ' .. literal, '64-bit and complex literals') end
    assert.equal('nil nil nil nil nil nil', everywhere [[local s = ''
      for _, text in ipairs { '1LL', '2i', 'nan', 'inf', '-inf', '1e999' } do s = s .. ' ' .. tostring(tonumber(text)) end return s:sub(2) ]])
    local digests = {}
    for i, number in ipairs { '1', '1.0', '1e0' } do
      local m = machine.new { t = source 'ctx.db.rows:put(1, tonumber(arg))' }
      m:call('t.run', number)
      digests[i] = m:digest()
    end
    assert.same({ digests[1], digests[1], digests[1] }, digests)
  end)

  it('draws numbers from the entry (25)', function()
    local one = everywhere 'return { ctx.random(1000000), math.random(1000000), math.random(), ctx.random() }'
    assert.equal(4, #one)
    local m = machine.new { t = source 'return math.random(1000000)' }
    assert.are_not.equal(m:call('t.run'), m:call('t.run'))
    refused('math.randomseed(1)', 'math.randomseed is not there')
  end)

  it('shows no address, and no path (26, 27, 29)', function()
    assert.equal('table table userdata function function table', everywhere [[return table.concat({ tostring(ctx), tostring({}),
      tostring(ctx.db.rows), tostring(pairs), tostring(function() end), ('%s'):format({}) }, ' ') ]])
    fails("return ('%p'):format({})", 'string.format: there are %d')
    fails("return ('%a'):format(1)", 'string.format: there are %d')
    fails('return tostring(setmetatable({}, { __tostring = function() return 5 end }))', '__tostring must give text')
    for _, body in ipairs { 'error({})', 'local x = {} x()', 'local x = {} return x + 1', 'return {} .. {}', 'return {} < {}',
      'return #nil' } do
      local _, err = everywhere(body)
      assert.truthy(err.message:find('^module%.lua:%d+: '), err.message)
      assert.falsy(err.message:find('0x'), err.message)
      assert.falsy(err.message:find('/'), err.message)
    end
  end)

  it('reads no clock, file, environment (33)', function()
    for _, name in ipairs { 'os.clock()', 'os.date()', "os.getenv('HOME')", "os.setlocale('C')", 'os.exit()', 'os.tmpname()' } do
      refused('return ' .. name, 'is not there')
    end
    fails('return os.time { year = 2000 }', 'os.time: takes no arguments')
    assert.equal(1700000000, everywhere 'return os.time()')
    refused("return io.open('x')", 'io is not there')
  end)

  it('ends at the same depth and count, whatever ran before (34, 38)', function()
    local _, err = everywhere 'local n = 0 local function f() n = n + 1 pcall(f) f() end f()'
    assert.equal('DEPTH', err.code)
    _, err = everywhere 'local t = setmetatable({}, { __index = function(t, k) return t[k] end }) return t.x'
    assert.equal('DEPTH', err.code)
    _, err = everywhere "local mt = {} mt.__concat = function(a, b) return a .. b end local x = setmetatable({}, mt) return x .. 'a'"
    assert.equal('DEPTH', err.code)
    -- Nesting through C alone, where no instruction is counted.
    for _, deep in ipairs { 'tostring(setmetatable({}, { __tostring = tostring }))', 'setmetatable({}, { __call = pcall })()',
      "('%s'):format(setmetatable({}, { __tostring = tostring }))", 'pcall(setmetatable({}, { __call = pcall }))' } do
      _, err = everywhere('return ' .. deep)
      assert.equal('DEPTH', err and err.code, deep)
    end
    -- The end of LuaJIT's own stack can still come first, for functions with very many values: it parks, and no pcall holds it.
    local names = {}
    for i = 1, 180 do names[i] = 'a' .. i end
    local deep = machine.new { t = source('local t = {} for i = 1, 200 do t[i] = i end local function f(n, ...) local '
      .. table.concat(names, ',') .. ' = ... if n == 0 then return 0 end return 1 + f(n - 1, ...) end return (pcall(f, 185, unpack(t)))') }
    assert.equal('PARKED', select(2, deep:call('t.run')).code)
    assert.truthy(core.ffi.string(deep:status().parked_why):find('stack overflow', 1, true))
    -- The most rounds of a loop with pairs that the budget allows: the same in a fresh host and in a used one.
    local body = 'local t = { 1, 2, 3, a = 1 } for i = 1, arg do for k, v in pairs(t) do t[k] = v end end return arg'
    local fresh, used = machine.new { t = source(body) }, machine.new { t = source(body) }
    for _ = 1, 20 do used:call('t.run', 10) end
    used:call('t.stir', 1000)
    local lo, hi = 100000, 400000
    while hi - lo > 1 do
      local middle = math.floor((lo + hi) / 2)
      if fresh:call('t.run', middle) then lo = middle else hi = middle end
    end
    assert.equal(lo, (used:call('t.run', lo)))
    assert.equal('BUDGET', select(2, used:call('t.run', hi)).code)
    assert.equal(lo, (machine.new { t = source(body) }):call('t.run', lo))
    assert.equal('BUDGET', select(2, (machine.new { t = source(body) }):call('t.run', hi)).code)
  end)

  it('has nothing that leads out (36, 44, 45, 48, 50, 51, 55)', function()
    for _, name in ipairs { 'coroutine', 'ffi', 'jit', 'debug', 'package', 'getfenv', 'setfenv', 'load', 'loadstring', 'loadfile', 'dofile',
      'module', 'newproxy', 'io' } do
      refused('return ' .. name, name .. ' is not there')
    end
    for _, name in ipairs { 'xpcall', '_G', 'string.dump', 'table.new', 'table.clear', 'table.foreach', 'undefined' } do
      refused('return ' .. name, "there is no '" .. name .. "' here")
    end
    fails("return require 'ffi'", "there is no 'require' here")
    local bundle, why = machine.bundle('t', "local buffer = require 'string.buffer'\n" .. source '')
    assert.is_nil(bundle)
    assert.truthy(why:find('the bundle has no string.buffer.lua', 1, true), why)
    assert.is_nil((machine.bundle('t', '\27LJ\2' .. source(''))))
    assert.is_nil((machine.bundle('t', string.dump(function() end))))
    local _, err = everywhere "local function f() error('x', 2) end f()"
    assert.equal('module.lua:3: x', err.message)
  end)

  it('keeps its libraries as they are (46, 47)', function()
    assert.equal('nil', everywhere "return tostring(getmetatable(''))")
    for body, why in pairs { ['string.foo = 1'] = "'foo' cannot be set", ['local s = string s.rep = nil'] = "'rep' cannot be set",
      ['rawset(math, "floor", nil)'] = 'protected', ['setmetatable(table, {})'] = 'protected', ["local s = '' s.x = 1"] = 'attempt to index',
      ['table.insert(bit, 1)'] = 'protected', ['setmetatable(ctx, {})'] = 'protected', ['rawset(ctx, "x", 1)'] = 'protected' } do
      fails(body, why)
    end
    assert.equal('nil nil nil', everywhere [[local s = tostring(getmetatable(string))
      return s .. ' ' .. tostring(getmetatable(ctx)) .. ' ' .. tostring(getmetatable(ctx.db)) ]])
  end)

  it('does not know the locale (30)', function()
    local status, out = core.child [[
      local ffi = require 'ffi'
      ffi.cdef 'char *setlocale(int, const char *);'
      for _, name in ipairs { 'C.UTF-8', 'de_DE.UTF-8', 'de_DE', 'tr_TR.UTF-8' } do ffi.C.setlocale(6, name) end
      local machine = require 'spec.support.machine'
      local m = machine.new { t = "local m = { name = 'm', version = 1, state = {}, commands = {} }\n"
        .. "function m.commands.run(_, a, b) return ('%.2f %g'):format(1234.5, 0.5) .. (' \228\196iI'):upper() .. tostring('Z' < '\228') "
        .. "   .. tostring(1.5) .. tostring(tonumber('2.5')) .. tostring(('\228'):find('%a')) .. b end\n"
        .. "m.commands.num = { args = 'n:number', run = function(_, n) return n end }\nreturn m" }
      io.write(m:call('t.run', 1.25, 'x'), ' ', m:call('t.num', '0.125'))
    ]]
    assert.equal(0, status, out)
    assert.equal('1234.50 0.5 \228\196IItrue1.52.5nilx 0.125', out)
  end)
end)
