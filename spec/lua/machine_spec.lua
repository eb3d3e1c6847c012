-- What a service's author can rely on (the Lua contract), through the machine alone.
local machine = require 'spec.support.machine'

local function module(body)
  return "local m = { name = 'm', version = 1, state = { rows = 'map', other = 'map' }, commands = {}, queries = {} }\n"
    .. 'local C, Q = m.commands, m.queries\n' .. body .. '\nreturn m'
end

local function file(path)
  local f = assert(io.open(path))
  local text = f:read('*a')
  f:close()
  return text
end

describe('a service', function()
  local m = machine.new { t = module [[
    function C.put(ctx, k, v) ctx.db.rows:put(k, v) end
    function C.fail_after(ctx) ctx.db.rows:put('torn', 1) return nil, { code = 'NOT_FOUND', message = 'no' } end
    function C.throw(ctx) ctx.db.rows:put('torn', 1) local x = nil; return x.y end
    function C.text(ctx) return nil, 'just text' end
    function C.raise(ctx) error { code = 'OUT_OF_STOCK', message = 'none left', data = { left = 0 } } end
    function C.loop(ctx) while true do end end
    function C.loop_in_pcall(ctx) while true do pcall(function() while true do end end) end end
    function C.recurse(ctx) local function f() return 1 + f() end return f() end
    function C.save(ctx)
      ctx.db.rows:put('kept', 1)
      local ok, err = pcall(function() ctx.db.rows:put('undone', 1) ctx.fail('CONFLICT', 'inner') end)
      return { ok, err.code, ctx.db.rows:has('kept'), ctx.db.rows:has('undone') }
    end
    function C.id(ctx) return ctx.id() end
    function C.random(ctx) return { ctx.random(1000000), math.random(1000000) } end
    function C.visit(ctx)
      for i = 1, 5 do ctx.db.other:put(i, i) end
      local seen = {}
      for k in ctx.db.other:pairs() do seen[#seen + 1] = k ctx.db.other:del(k) ctx.db.other:put(k + 100, 1) end
      return seen
    end
    C.typed = { args = 'a n:int=7 [f:flag] [t:ms] rest...', run = function(ctx, a, n, f, t, ...) return { a, n, f or false, t or 0, ... } end }
    function Q.get(ctx, k) return ctx.db.rows:get(k) end
    function Q.write(ctx) ctx.db.rows:put('x', 1) end
    function Q.order(ctx) local o = {} for k in pairs { b = 1, a = 1, c = 1, [2] = 1, [1] = 1 } do o[#o + 1] = tostring(k) end return o end
    function C.bad(ctx) ctx.db.rows:put('h', { 1, nil, 3 }) end
    function C.nan(ctx) ctx.db.rows:put('h', { a = 0 / 0 }) end
  ]], kv = file('examples/kv.lua'), bank = file('examples/bank.lua'), counter = file('examples/counter.lua') }

  it('stores what is put, and lists keys in order', function()
    for i = 10, 1, -1 do m:call('kv.set', 'k' .. i, i) end
    assert.same({ { 'k1', 1 }, { 'k10', 10 }, { 'k2', 2 } }, m:query('kv.list', 'k', 3))
    assert.same({ { 'k2', 2 } }, m:query('kv.list', 'k', 1, 'k10'))
  end)

  it('leaves nothing behind when a command fails, however it fails (bug 108)', function()
    for name, code in pairs { fail_after = 'NOT_FOUND', throw = 'SCRIPT_ERROR' } do
      local value, err = m:call('t.' .. name)
      assert.is_nil(value)
      assert.equal(code, err.code)
      assert.is_nil((m:query('t.get', 'torn')))
    end
  end)

  it('gives refusals of any form as code, message and data', function()
    assert.same({ code = 'FAILED', message = 'just text' }, select(2, m:call('t.text')))
    assert.same({ code = 'OUT_OF_STOCK', message = 'none left', data = { left = 0 } }, select(2, m:call('t.raise')))
  end)

  it('says file and line of a run-time error, and no address', function()
    local _, err = m:call('t.throw')
    assert.truthy(err.message:find('module.lua:5: ', 1, true), err.message)
    assert.falsy(err.message:find('0x'))
  end)

  it('ends a loop with BUDGET, also inside pcall, and goes on after (bug 108)', function()
    assert.same({ code = 'BUDGET', message = 'module.lua:8: the budget of instructions is spent' }, select(2, m:call('t.loop')))
    assert.same({ code = 'BUDGET', message = 'module.lua:9: the budget of instructions is spent' }, select(2, m:call('t.loop_in_pcall')))
    assert.is_nil(select(2, m:call('t.put', 'after', 1)))
    assert.equal(1, m:query('t.get', 'after'))
  end)

  it('ends recursion with DEPTH', function()
    assert.equal('DEPTH', select(2, m:call('t.recurse')).code)
  end)

  it('makes pcall a savepoint', function()
    assert.same({ false, 'CONFLICT', true, false }, m:call('t.save'))
  end)

  it('loops over a map as it was when the loop began', function()
    assert.same({ 1, 2, 3, 4, 5 }, m:call('t.visit'))
  end)

  it('visits tables in sorted order', function()
    assert.same({ '1', '2', 'a', 'b', 'c' }, m:query('t.order'))
  end)

  it('gives ids that grow', function()
    local a, b = m:call('t.id'), m:call('t.id')
    assert.is_true(b > a)
  end)

  it('refuses writing in a query, holes and NaN, each with a sentence', function()
    assert.truthy(select(2, m:query('t.write')).message:find('a query does not write'))
    assert.truthy(select(2, m:call('t.bad')).message:find('a list with holes'))
    assert.truthy(select(2, m:call('t.nan')).message:find('value.a: NaN', 1, true))
  end)

  it('converts declared arguments the same way from words and from values', function()
    assert.same({ 'x', 7, false, 0 }, m:call('t.typed', 'x'))
    assert.same({ 'x', 5, true, 2000, 'r', 1 }, m:call('t.typed', 'x', '5', 'true', '2s', 'r', 1))
    assert.same({ 'x', 5, true, 2000, 'r', 1 }, m:call('t.typed', 'x', 5, true, 2000, 'r', 1))
    assert.equal("argument 'n': must be a whole number up to 2^53", select(2, m:call('t.typed', 'x', 'five')).message)
    assert.equal("argument 'a': is missing", select(2, m:call('t.typed')).message)
    assert.equal('EXISTS', select(2, m:call('kv.set', 'k1', 2, { nx = true })).code)
  end)

  it('never rounds a number that comes as text', function()
    local n = machine.new { t = module [[
      C.int = { args = 'n:int', run = function(ctx, n) return string.format('%.17g', n) end }
      C.number = { args = 'n:number', run = function(ctx, n) return string.format('%.17g', n) end }
      C.ms = { args = 'n:ms', run = function(ctx, n) return string.format('%.17g', n) end }
    ]] }
    for text, got in pairs { ['9007199254740992'] = '9007199254740992', ['-9007199254740992'] = '-9007199254740992', ['1e3'] = '1000',
      ['1.50e1'] = '15', ['0'] = '0', ['-0'] = '0', ['007'] = '7', ['+5'] = '5', ['100000000000000000000e-10'] = '10000000000' } do
      assert.equal(got, n:call('t.int', text), text)
    end
    for _, text in ipairs { '9007199254740993', '-9007199254740993', '1e16', '9007199254740991.4', '1.5', '', '.', '-', 'e5', '1e', '1e+',
      '1 ', '0x10', 'nan', 'inf', '1e999999999999', '1.2.3', '9007199254740992.0000000000000000001' } do
      assert.equal("argument 'n': must be a whole number up to 2^53", select(2, n:call('t.int', text)).message, text)
    end
    for text, got in pairs { ['0.1'] = '0.10000000000000001', ['1e300'] = '1.0000000000000001e+300', ['9007199254740992.0'] =
      '9007199254740992', ['-2.5e-3'] = '-0.0025000000000000001' } do
      assert.equal(got, n:call('t.number', text), text)
    end
    for _, text in ipairs { '9007199254740993', '9007199254740992.5', '123456789012345678901234567890', '1e400', '1..2', '--1' } do
      assert.equal('BAD_ARGS', select(2, n:call('t.number', text)).code, text)
    end
    for text, got in pairs { ['1.5s'] = '1500', ['2m'] = '120000', ['500'] = '500', ['7ms'] = '7', ['1d'] = '86400000' } do
      assert.equal(got, n:call('t.ms', text), text)
    end
    for _, text in ipairs { '1.5', '-1s', '0.0001s', '9007199254740992s', 's', '5 s' } do
      assert.equal('BAD_ARGS', select(2, n:call('t.ms', text)).code, text)
    end
  end)

  it('parses JSON text where the argument is json', function()
    local n = machine.new { t = module [[
      C.json = { args = '[v:json]', run = function(ctx, v) return v end }
      C.kind = { args = 'v:json={"a":[1]}', run = function(ctx, v) return type(v) end }
    ]] }
    for text, got in pairs { ['{"a":[1,2.5,-3e2],"b":{"c":null,"d":true}}'] = { a = { 1, 2.5, -300 }, b = { d = true } },
      [' [ ] '] = {}, ['"x\\n\\u00e9\\ud83d\\ude00\\/"'] = 'x\n\195\169\240\159\152\128/', ['false'] = false, ['7'] = 7,
      ['{"$base64":"/w=="}'] = '\255', ['{"$base64":""}'] = '', ['["é"]'] = { 'é' } } do
      assert.same(got, (n:call('t.json', text)), text)
    end
    assert.is_nil((n:call('t.json', 'null')))
    assert.equal('table', n:call('t.kind'))
    assert.same({ x = 1 }, n:call('t.json', { x = 1 }))
    for text, why in pairs { ['{"a":1,"a":2}'] = 'a name stands twice', ['[null]'] = 'null in a list', ['[1,]'] = 'must be JSON',
      ['{"a":9007199254740993}'] = 'up to 2^53', ['01'] = 'must be JSON', ['1.'] = 'must be JSON', ['x'] = 'must be JSON',
      [''] = 'ends too early', ['"a'] = 'does not end', ['"\\x"'] = 'unknown escape', ['"\\ud800"'] = 'half of a surrogate',
      ['"\n"'] = 'control character', ['"\255"'] = 'UTF-8', ['{"$base64":"/x=="}'] = 'base64', ['{"$base64":1}'] = 'base64',
      ['{a:1}'] = 'name in quotes', ['{"a" 1}'] = 'a : is missing', ['[1 2]'] = 'wants , or ]', ['1 2'] = 'something follows',
      [('['):rep(40) .. (']'):rep(40)] = 'nested less deep', [('['):rep(100000)] = 'nested less deep', ['1e999'] = 'must be a number' } do
      local _, err = n:call('t.json', text)
      assert.equal('BAD_ARGS', err.code)
      assert.truthy(err.message:find(why, 1, true), text:sub(1, 40) .. ': ' .. err.message)
    end
    local deep = ('['):rep(31) .. (']'):rep(31)
    assert.is_nil(select(2, n:call('t.json', deep)))
  end)

  it('does a batch whole or not at all', function()
    assert.same({ 5, 9 }, m:batch { { 'counter.add', { 'a', 5 } }, { 'counter.add', { 'b', 9 } } })
    assert.equal('NO_FUNDS', select(2, m:batch { { 'bank.open', { 'zoe', 1 } }, { 'bank.open', { 'yan' } },
      { 'bank.transfer', { 'zoe', 'yan', 2 } } }).code)
    assert.equal('NOT_FOUND', select(2, m:query('bank.balance', 'zoe')).code)
  end)

  it('keeps the total of the bank, whatever is transferred', function()
    math.randomseed(3)
    local names = { 'ada', 'bea', 'cyd', 'dot' }
    for _, name in ipairs(names) do m:call('bank.open', name, 100) end
    for _ = 1, 500 do
      m:call('bank.transfer', names[math.random(4)], names[math.random(4)] .. (math.random(5) == 1 and '?' or ''),
        math.random(-5, 80))
    end
    assert.equal(400, m:query('bank.total'))
  end)

  it('parks when memory runs out, keeps the state, and answers nothing after', function()
    local p = machine.new { lua_bytes_max = 32 * 1024 * 1024, t = module [[
      function C.grow(ctx) ctx.db.rows:put('a', 2) local s = 'x' while true do s = s .. s end end
      function C.put(ctx) ctx.db.rows:put('a', 1) end
      function Q.get(ctx) return ctx.db.rows:get('a') end ]] }
    p:call('t.put')
    local digest = p:digest()
    assert.equal('PARKED', select(2, p:call('t.grow')).code)
    assert.equal(p.index, tonumber(p:status().parked_at))
    assert.equal(digest, p:digest())
    assert.equal('PARKED', select(2, p:query('t.get')).code)
  end)

  it('has the same digest after the same entries', function()
    local digests = {}
    for i = 1, 2 do
      local one = machine.new { kv = file('examples/kv.lua'), lua_bytes_max = 64 * 1024 * 1024 }
      for n = 1, 200 do one:call('kv.set', 'k' .. n % 37, { n = n, list = { n, n + 1 }, map = true }) end
      one:call('kv.set', 'oops')
      digests[i] = one:digest()
    end
    assert.equal(digests[1], digests[2])
  end)
end)

describe('loading a module', function()
  local refused = {
    ["os.execute 'ls'"] = 'os.execute is not there',
    ['local x = 2 ^ 3'] = '^ differs from machine to machine',
    ['local x = 1LL'] = '64-bit and complex literals',
    ["local f = io.open 'x'"] = 'io is not there',
    ['local x = math.sin(1)'] = 'math.sin is not there',
    ['x = 1'] = "'x' cannot be set",
    ['local x ='] = 'unexpected symbol',
    ['coroutine.wrap(print)'] = 'coroutine is not there',
  }
  for text, why in pairs(refused) do
    it('refuses ' .. text .. ', with file and line', function()
      local bundle, got = machine.bundle('t', '\n' .. module(text))
      assert.is_nil(bundle)
      assert.truthy(got:find(why, 1, true), got)
      assert.truthy(got:find('module.lua:%d'), got)
    end)
  end

  -- Each of these would make replicas differ, or survive a rollback: it is found before it runs.
  local hidden = {
    ['local n = 0\nfunction C.a() n = n + 1 end'] = "module.lua:4: 'n' is a local of the file: a function cannot change it",
    ['local n\nfunction C.a() local function f() n = nil end f() end'] = "module.lua:4: 'n' is a local of the file",
    ['do local s\nfunction C.a() s = "x" end end'] = "module.lua:4: 's' is a local of the file",
    ['function C.a() kept = 1 end'] = "module.lua:3: 'kept' cannot be set",
    ['function C.a() return undeclared end'] = "module.lua:3: there is no 'undeclared' here; declare it",
    ['function C.a() return xpcall(C.a, C.a) end'] = "module.lua:3: there is no 'xpcall' here; use pcall",
    ['function C.a() return string.dump(C.a) end'] = "module.lua:3: there is no 'string.dump' here; bytecode",
    ['function C.a() return table.whatever() end'] = "there is no 'table.whatever' here; this library has no such",
    ['local function counter() local n = 0 return function() n = n + 1 return n end end\nC.a = counter()'] =
      "module.lua:3: 'n' lives as long as the module",
    ['local cache = {}\nfunction C.a(ctx, k) cache[k] = 1 end'] = "module.lua:4: the table 'cache' lives as long",
    ['local t = {}\nfunction C.a(ctx, k)\nt.x = k and 1 or 2 end'] = "module.lua:5: the table 't' lives as long",
    ['local t = { a = { n = 1 } }\nfunction C.a(ctx)\nlocal a = t.a\nif ctx.now > 1 then a.n = a.n + 1 end end'] =
      "module.lua:6: the table 't' lives as long",
    ['function C.a() C.b = 1 end'] = "module.lua:3: the table 'C' lives as long",
  }
  for text, why in pairs(hidden) do
    it('refuses ' .. text:gsub('\n', ' '), function()
      local bundle, got = machine.bundle('t', module(text))
      assert.is_nil(bundle)
      assert.truthy(got:find(why, 1, true), got)
    end)
  end

  it('takes what only looks like it', function()
    local m = machine.new { t = module [[
      local total = 0
      total = 5
      local defaults = { list = { 1, 2 } }
      local function add(name, f) C[name] = f end
      add('a', function(ctx)
        local n, kept = 0, {}
        local function bump() n = n + 1 kept[n] = total kept.sum = (kept.sum or 0) + #defaults.list end
        bump() bump()
        for i = 1, 3 do kept[i] = { n } kept[i].x = n end
        local copy = defaults.list
        copy = { 7 }
        copy[2] = 8
        return { n, kept.sum, copy[2] }
      end)
      add('b', function() local t = defaults if t then t = {} end t.x = 1 return t.x end)
    ]] }
    assert.same({ 2, 4, 8 }, m:call('t.a'))
    assert.equal(1, m:call('t.b'))
  end)

  it('freezes the tables of a module against additions, and reads them as before', function()
    local m = machine.new { t = module [[
      m.commands.a = { args = '[k]', run = function() return 'run' end }
      local deep = { list = { 3, 1, 2 }, map = { a = 1 }, class = setmetatable({}, { __index = { f = 7 } }) }
      local function list() return deep.list end
      function C.insert() table.insert(list(), 4) end
      function C.remove() table.remove(list()) end
      function C.sort() table.sort(list()) end
      function C.add() local t = list() t[#t + 1] = 1 end
      function C.rawset() rawset(list(), 1, 1) end
      function C.protect() setmetatable(list(), {}) end
      function C.put(ctx) ctx.db.rows:put('k', deep.map) ctx.db.rows:put('l', deep.list) return ctx.db.rows:get('k') end
      function Q.read()
        local n, keys = 0, ''
        for i, v in ipairs(deep.list) do n = n * 10 + v end
        for k in pairs(deep.list) do keys = keys .. k end
        local heir = setmetatable({}, { __index = deep.map })
        return { n, keys, #deep.list, unpack(deep.list), heir.a, rawget(deep.map, 'a'), deep.class.f,
          tostring(getmetatable(deep.map)), tostring(deep.map.none), m.commands.a() }
      end
    ]] }
    for _, name in ipairs { 'insert', 'remove', 'sort', 'add', 'rawset', 'protect' } do
      local _, err = m:call('t.' .. name)
      assert.truthy(err.message:find('protected') or err.message:find('cannot be added'), name .. ': ' .. err.message)
    end
    assert.same({ 312, '123', 3, 3, 1, 1, 7, 'nil', 'nil', 'run' }, m:query('t.read'))
    assert.same({ a = 1 }, m:call('t.put'))
  end)

  it('takes a module of commands alone, and one of queries alone', function()
    for _, tables in ipairs { 'commands = { x = function() return 1 end }', 'queries = { x = function() return 1 end }' } do
      local m = machine.new { a = "return { name = 'a', version = 1, state = { r = 'map' }, " .. tables .. ' }' }
      assert.equal(1, tables:find('^commands') and m:call('a.x') or m:query('a.x'))
    end
  end)

  -- What `tidelock check` says of a module that is not one: text of the module, words of the refusal.
  local shapes = {
    ['m.timers = {}'] = "module.lua: there is no field 'timers'; there are name version state init commands",
    ['m.comands = {} m.quieries = {}'] = "there is no field 'comands'; did you mean commands?\nmodule.lua: there is no field 'quieries'; "
      .. 'did you mean queries?',
    ['C.a = function() end Q.a = C.a'] = "'a' is both a command and a query",
    ["C.a = { args = 'x:what', run = function() end }"] = 'module.lua:3: commands.a: args: "x:what": the types are any text',
    ["C.a = { args = '[x] y', run = function() end }"] = '"y": a required argument cannot follow an optional one',
    ["C.a = { args = 'x x', run = function() end }"] = '"x": there is an argument of that name already',
    ["C.a = { args = 'x...=1', run = function() end }"] = '"x...=1"',
    ["C.a = { args = 'x=1...', run = function() end }"] = '"x=1...": NAME... has no default',
    ["C.a = { args = 'x... y', run = function() end }"] = '"y": nothing can follow NAME...',
    ["C.a = { args = 'x:int=abc', run = function() end }"] = '"x:int=abc": the default must be a whole number',
    ["C.a = { args = 'x:bool=1', run = function() end }"] = 'the default must be true or false',
    ["C.a = { args = 'x:ms=5x', run = function() end }"] = 'the default must be a time',
    ["C.a = { args = 'x:json={', run = function() end }"] = 'the default must be JSON',
    ["C.a = { arg = 'x', run = function() end }"] = "module.lua:3: commands.a: there is no field 'arg'; did you mean args?",
    ["C.a = { args = 'x' }"] = 'commands.a: it has no function run',
    ["C.a = { run = function() end, help = 1 }"] = 'commands.a: help must be text',
    ['C.a = 1'] = 'commands.a: it must be a function, or a table with run',
    ['C[1] = function() end'] = 'commands: the names must be text',
    ['C.aB = function() end'] = 'commands.aB: a name is made of a-z',
    ['m.version = 1.5'] = 'version must be a whole number from 1',
    ["m.version = '1'"] = 'version must be a whole number from 1',
    ["m.name = 'M'"] = 'name must be text made of a-z',
    ['m.init = 5'] = 'init must be a function',
    ['m.state = { x = 1 }'] = 'state.x: state is a table like',
    ['m.apply = function() end'] = 'apply and query stand in place of the tables',
    ['m.commands, m.queries = nil, nil'] = 'a module has commands, queries, or a function apply',
    ['m.commands, m.queries, m.query = nil, nil, function() end'] = 'query goes with a function apply',
    ['do return end'] = 'a module returns a table, not nothing',
    ['while true do end'] = 'module.lua:3: the budget of instructions is spent',
    ['local function f() return 1 + f() end f()'] = 'module.lua:3: calls are nested too deep',
    ["error { code = 'X', message = 'why' }"] = 'module.lua:3: X: why',
    ["error('plain', 0)"] = 'module.lua:3: plain',
    ['local x = nil; x.y = 1'] = 'module.lua:3: attempt to index local',
  }
  for text, why in pairs(shapes) do
    it('refuses ' .. text .. ' with a reason', function()
      local bundle, got = machine.bundle('t', module(text))
      assert.is_nil(bundle)
      assert.truthy(got:find(why, 1, true), got)
    end)
  end
end)
