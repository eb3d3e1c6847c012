-- What a service's author is told: every error of maps and ctx names file, line, method and argument, once.
local machine = require 'spec.support.machine'

local head = "local m = { name = 'm', version = 1, state = { rows = 'map', other = 'map' }, commands = {}, queries = {} }\n"
  .. 'local C, Q = m.commands, m.queries\n'

local function module(body) return head .. body .. '\nreturn m' end

-- A machine with a command and a query for each line: cN and qN, whose code stands in line N + 2.
local function lines(list, more)
  local body = {}
  for i, line in ipairs(list) do
    local code = 'function(ctx) local rows, f = ctx.db.rows, ctx.log ' .. line .. ' end'
    body[i] = ('C.c%d = %s Q.q%d = %s'):format(i, code, i, code)
  end
  return machine.new { t = module(table.concat(body, '\n') .. '\n' .. (more or '')) }
end

local function each(cases, code, more)
  local texts = {}
  for text in pairs(cases) do texts[#texts + 1] = text end
  table.sort(texts)
  local m = lines(texts, more)
  for i, text in ipairs(texts) do
    local value, err = m:call('t.c' .. i)
    assert.is_nil(value, text)
    assert.truthy(err, text)
    local wanted = ('module.lua:%d: %s'):format(i + 2, cases[text])
    assert.equal(code .. ' ' .. wanted, err.code .. ' ' .. err.message:sub(1, #wanted), text)
    assert.falsy(err.message:find('module.lua:%d.*module.lua:%d'), err.message)
    assert.falsy(err.message:find('0x%x'), err.message)
  end
end

local key = 'must be text, a finite number, a boolean, or a list of 1 to 16 of those, got '

describe('errors of maps', function()
  it('name file, line, method and argument', function()
    each({
      ["rows:add('a')"] = 'rows:add: n must be a number, got no value',
      ["rows:add('a', '1')"] = 'rows:add: n must be a number, got string',
      ["return rows:add('a', nil)"] = 'rows:add: n must be a number, got nil',
      ["rows:add('a', 1 / 0)"] = 'rows:add: the sum is not finite',
      ["rows:put('s', 'x') rows:add('s', 1)"] = 'rows:add: the row must be a number, is a string',
      ['rows:get()'] = 'rows:get: the key ' .. key .. 'no value',
      ['return rows:get(nil)'] = 'rows:get: the key ' .. key .. 'nil',
      ['rows:has(f)'] = 'rows:has: the key ' .. key .. 'function',
      ['rows:del({ 1, {} })'] = 'rows:del: the key ' .. key .. 'a table inside it',
      ['rows:take(0 / 0)'] = 'rows:take: the key must be finite, got nan',
      ['rows:get({})'] = 'rows:get: the key: a list has 1 to 16 elements, got an empty one',
      ['rows:get({ 1, nil, 3 })'] = 'rows:get: the key: a list has elements 1 to n, and nothing else',
      ["rows:get({ 1, a = 2 })"] = 'rows:get: the key: a list has elements 1 to n, and nothing else',
      ['rows:get({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 })'] = 'rows:get: the key: a list has 1 to 16 elements, got more',
      ['rows:get(1, 2)'] = 'rows:get: takes at most 1 argument, got 2',
      ["rows:put('a')"] = 'rows:put: the value must not be nil; del removes a row',
      ["rows:put('a', { b = { 1, f } })"] = 'rows:put: value.b.2: a function is no value',
      ["rows:put('a', 1, 5)"] = 'rows:put: the options must be a table like { ttl = 5000 }, got number',
      ["rows:put('a', 1, { tll = 5 })"] = "rows:put: there is no option 'tll'; there is ttl",
      ["rows:put('a', 1, { 5 })"] = "rows:put: there is no option 'number'; there is ttl",
      ["rows:put('a', 1, {})"] = 'rows:put: the option ttl must be a number of milliseconds, got nil',
      ["rows:put('a', 1, { ttl = '5s' })"] = 'rows:put: the option ttl must be a number of milliseconds, got string',
      ["rows:put('a', 1, { ttl = 0 })"] = 'rows:put: the option ttl must be a whole number of milliseconds from 1, got 0',
      ["rows:put('a', 1, { ttl = 0.5 })"] = 'rows:put: the option ttl must be a whole number of milliseconds from 1, got 0.5',
      ["rows:put('a', 1, { ttl = 9007199254740992 })"] = 'rows:put: the option ttl must be a whole number of milliseconds from 1, got 9.007',
      ["rows:update('a')"] = 'rows:update: f must be a function, got no value',
      ["rows:update('a', function() return f end)"] = 'rows:update: value: a function is no value',
      ['rows:clear(f)'] = 'rows:clear: the prefix ' .. key .. 'function',
      ['rows:len(1, 2)'] = 'rows:len: takes at most 1 argument, got 2',
      ['rows:first({})'] = 'rows:first: the prefix: a list has 1 to 16 elements, got an empty one',
      ["rows.get('k')"] = 'call get of a map with a colon: map:get(...), not map.get(...)',
      ['rows.put()'] = 'call put of a map with a colon: map:put(...), not map.put(...)',
      ["rows.put({}, 'k', 1)"] = 'call put of a map with a colon',
      ['rows:delete(1)'] = "a map has no method 'delete'; there are get has put del",
      ['rows.x = 1'] = 'a map has no fields',
      ['return ctx.db.row'] = "there is no map 'row': name it in the module's state",
      ['for k in pairs(rows) do end'] = 'pairs: for the rows of a map write map:pairs()',
    }, 'SCRIPT_ERROR')
  end)

  it('know the options of pairs and range', function()
    each({
      ["rows:pairs('a', { limt = 1 })"] = "rows:pairs: there is no option 'limt'; there are limit reverse after",
      ['rows:pairs(nil, { 5 })'] = "rows:pairs: there is no option 'number'",
      ['rows:pairs(nil, { limit = -1 })'] = 'rows:pairs: the option limit must be a whole number from 0, got -1',
      ['rows:pairs(nil, { limit = 1.5 })'] = 'rows:pairs: the option limit must be a whole number from 0, got 1.5',
      ["rows:pairs(nil, { limit = '1' })"] = 'rows:pairs: the option limit must be a whole number from 0, got string',
      ['rows:pairs(nil, { limit = 0 / 0 })'] = 'rows:pairs: the option limit must be a whole number from 0, got nan',
      ['rows:range(1, 2, { reverse = 1 })'] = 'rows:range: the option reverse must be true or false, got number',
      ['rows:range(1, 2, { after = f })'] = 'rows:range: the option after ' .. key .. 'function',
      ['rows:range(1, 2, 3)'] = 'rows:range: the options must be a table like { limit = 10 }, got number',
      ['rows:range({}, 2)'] = 'rows:range: lo: a list has 1 to 16 elements, got an empty one',
      ['rows:range(1, f)'] = 'rows:range: hi ' .. key .. 'function',
    }, 'SCRIPT_ERROR')
    local m = lines { 'for i = 1, 5 do rows:put(i, i) end local s = "" '
      .. 'for k in rows:pairs(nil, { limit = 2, reverse = true, after = 4 }) do s = s .. k end '
      .. 'for k in rows:range(2, 5, { limit = 2 }) do s = s .. k end for k in rows:pairs(nil, {}) do s = s .. k end return s' }
    assert.equal('322312345', m:call('t.c1'))
  end)

  it('have the code TOO_LARGE, once, also in a pcall', function()
    each({
      ["rows:put(('x'):rep(5000), 1)"] = 'rows:put: the key of 5000 bytes',
      ["rows:put(('x'):rep(1500), 1)"] = 'rows:put: the key of more than 1024 bytes',
      ["rows:put('x', ('x'):rep(1048576))"] = 'rows:put: a row of 1048581 bytes',
      ["return ('x'):rep(1048577)"] = 'string.rep: more than 1 MiB',
      ["local ok, err = pcall(rows.put, rows, ('x'):rep(1500), 1) error(err)"] = 'rows:put: the key of more',
    }, 'TOO_LARGE')
  end)

  it('refuse writing in a query by the name of the method', function()
    local m = lines { 'rows:put(1, 1)', 'rows:add(1, 1)', 'rows:clear()', 'return ctx.id()' }
    for i, method in ipairs { 'put', 'add', 'clear' } do
      assert.equal(('module.lua:%d: rows:%s: a query does not write; make it a command'):format(i + 2, method),
        select(2, m:query('t.q' .. i)).message)
    end
    assert.equal('module.lua:6: ctx.id: a query makes no ids', select(2, m:query('t.q4')).message)
  end)
end)

describe('errors of ctx', function()
  it('name what was wrong', function()
    each({
      ['ctx:id()'] = 'ctx.id: call it with a dot, ctx.id(...), not with a colon',
      ['ctx:map()'] = 'ctx.map: call it with a dot',
      ["ctx:fail('A', 'b')"] = 'ctx.fail: call it with a dot',
      ["ctx:log('a')"] = 'ctx.log: call it with a dot',
      ['ctx:random()'] = 'ctx.random: call it with a dot',
      ["ctx:call('t.a')"] = 'ctx.call: call it with a dot',
      ['ctx.id(1)'] = 'ctx.id: takes no arguments',
      ['ctx.fail()'] = 'ctx.fail: the code must be text, got no value',
      ["ctx.fail('lower', 'x')"] = 'ctx.fail: an error must have a code like NOT_FOUND or OUT_OF_STOCK, got lower',
      ["ctx.fail('BUDGET', 'x')"] = "ctx.fail: the code BUDGET is the host's own",
      ["ctx.fail('X', {})"] = 'ctx.fail: the message of an error must be text, got table',
      ["ctx.fail('X', 'm', { a = f })"] = 'ctx.fail: the data of an error: value.a: a function is no value',
      ["ctx.random('x')"] = 'ctx.random: n must be a whole number up to 2^53, got string',
      ['ctx.random(0.5, 3)'] = 'ctx.random: m must be a whole number up to 2^53, got 0.5',
      ['ctx.random(3, 1)'] = 'ctx.random: from 3 to 1 there is nothing to draw from',
      ['ctx.random(0)'] = 'ctx.random: from 1 to 0 there is nothing to draw from',
      ['ctx.log(1)'] = 'ctx.log: the format must be text, got number',
      ["ctx.log('%d', 'x')"] = "bad argument #2 to 'string.format' (number expected, got string)",
      ['ctx.call()'] = "ctx.call: the name must be text like 'mount.command', got no value",
      ["return ctx.call('t.none')"] = 'ctx.call: there is no t.none',
      ["ctx.call('t.c1', f)"] = 'ctx.call: t.c1: argument 1: value: a function is no value',
      ['ctx.nope()'] = "ctx has no field 'nope'; there are index term now session id at after cancel emit fail call log random map db",
      ['ctx:emit("a")'] = 'ctx.emit: call it with a dot',
      ['ctx.emit()'] = 'ctx.emit: the topic is text made of a-z, 0-9 and _, that begins with a letter',
      ["ctx.emit('A')"] = 'ctx.emit: the topic is text made of a-z, 0-9 and _, that begins with a letter',
      ["ctx.emit('a', {})"] = 'ctx.emit: the key must be text, or nil, got table',
      ["ctx.emit('a', 'b', f)"] = 'ctx.emit: the data: value: a function is no value',
      ["ctx.emit('a', 'b', 1, 2)"] = 'ctx.emit: takes a topic, a key and data',
      ["ctx.after('1s', 'tick')"] = 'ctx.after: the time must be a whole number of milliseconds from 0, got string',
      ["ctx.after(-1, 'tick')"] = 'ctx.after: the time must be a whole number of milliseconds from 0, got -1',
      ["ctx.at(0/0, 'tick')"] = 'ctx.at: the time must be a whole number of milliseconds from 0, got nan',
      ["ctx.after(2 * 4503599627370495, 'tick')"] = 'ctx.after: there is no such time',
      ['ctx.after(1)'] = "ctx.after: the timer must be the name of a function in the module's timers, got no value",
      ["ctx.after(1, 'tack')"] = "ctx.after: there is no timer 'tack'; there are tick tock",
      ["ctx.after(1, 'tick', 1, f)"] = 'ctx.after: argument 2 of tick: value: a function is no value',
      ["ctx.cancel('x')"] = 'ctx.cancel: the id must be what ctx.at or ctx.after gave, got string',
      ['ctx.cancel(0.5)'] = 'ctx.cancel: the id must be what ctx.at or ctx.after gave, got 0.5',
      ['ctx.x = 1'] = 'ctx and ctx.db cannot be written to',
    }, 'SCRIPT_ERROR', 'm.timers = { tock = function() end, tick = function() end }')
    each({ ["ctx.after(1, 'tick')"] = "ctx.after: there is no timer 'tick'; the module has no timers" }, 'SCRIPT_ERROR')
    each({ ["ctx.call('t.typed')"] = "ctx.call: t.typed: argument 'n': is missing",
      ["ctx.call('t.typed', 'x')"] = "ctx.call: t.typed: argument 'n': must be a whole number" },
      'BAD_ARGS', "C.typed = { args = 'n:int', run = function() end }")
  end)

  it("have a place also when LuaJIT's own has none: from a tail call, from a library, from an answer", function()
    each({
      ["return string.format('%d', 'x')"] = "bad argument #2 to 'string.format' (number expected, got string)",
      ['return math.floor()'] = "bad argument #1 to 'math.floor' (number expected, got no value)",
      ['return ipairs()'] = "bad argument #1 to 'ipairs' (",
      ['return next({ 1 }, 1)'] = 'next only tells whether a table is empty',
      ['return f'] = 'the answer: value: a function is no value',
      ['return nil, true'] = 'an error must be text or a table, got boolean',
      ['return nil, {}'] = 'an error must have a code like NOT_FOUND or OUT_OF_STOCK, got nil',
      ["error { code = 'x' }"] = 'an error must have a code like NOT_FOUND or OUT_OF_STOCK, got x',
      ["error { code = 'X', data = f }"] = 'the data of an error: value: a function is no value',
      ['error()'] = 'an error must be text or a table, got nil',
      ['assert(false)'] = 'assertion failed!',
    }, 'SCRIPT_ERROR')
  end)

  it('leave what a service raises as it is', function()
    local m = lines { "error('plain', 0)", "error { code = 'XY', message = 'm', data = { 1 } }", "assert(nil, 'asserted')",
      "return nil, 'text'", "error('string length overflow: ' .. 'stack overflow', 0)", "error('stack overflow', 0)" }
    assert.same({ code = 'SCRIPT_ERROR', message = 'plain' }, select(2, m:call('t.c1')))
    assert.same({ code = 'XY', message = 'm', data = { 1 } }, select(2, m:call('t.c2')))
    assert.same({ code = 'SCRIPT_ERROR', message = 'asserted' }, select(2, m:call('t.c3')))
    assert.same({ code = 'FAILED', message = 'text' }, select(2, m:call('t.c4')))
    for i = 5, 6 do -- words that LuaJIT would use of itself park no node when a service says them
      assert.equal('SCRIPT_ERROR', select(2, m:call('t.c' .. i)).code)
      assert.equal(0, tonumber(m:status().parked_at))
    end
  end)

  it('give pcall the code and the place', function()
    local m = lines { "local ok, e = pcall(function() rows:add('a') end) return { ok, e.code, e.message }",
      "local ok, e = pcall(ctx.call, 't.c3') return { ok, e.code, e.message }", "error { code = 'XY', message = 'm' }" }
    assert.same({ false, 'SCRIPT_ERROR', 'module.lua:3: rows:add: n must be a number, got no value' }, m:call('t.c1'))
    assert.same({ false, 'XY', 'm' }, m:call('t.c2'))
  end)

  it('end endless ctx.call with DEPTH, which no pcall holds', function()
    local m = machine.new { t = module [[
      function C.rec(ctx) return ctx.call('t.rec') end
      function C.held(ctx) ctx.db.rows:put(1, 1) local ok = pcall(ctx.call, 't.held') return tostring(ok) end
      function C.deep(ctx, n) if n > 0 then return ctx.call('t.deep', n - 1) end return 'end' end
      function Q.has(ctx) return ctx.db.rows:has(1) end
    ]] }
    assert.same({ code = 'DEPTH', message = 'module.lua:3: calls are nested too deep' }, select(2, m:call('t.rec')))
    assert.equal('DEPTH', select(2, m:call('t.held')).code)
    assert.is_false(m:query('t.has'))
    assert.equal('end', m:call('t.deep', 60))
  end)

  it('refuse a ctx of an earlier entry', function()
    local m = machine.new { t = module [[
      local kept = { 0 }
      local function hole() return kept end -- overwriting through this is not found when loading
      function C.keep(ctx) hole()[1] = ctx return ctx.call('t.same') end
      function C.same(ctx) return kept[1] == ctx and kept[1].index == ctx.index end
      function C.id() return kept[1].id() end
      function C.db() return kept[1].db.rows:put(1, 1) end
      function Q.now() return kept[1].now end
    ]] }
    assert.is_true(m:call('t.keep'))
    local said = 'this ctx belongs to an entry that has ended: use the one that your function is given, and keep none'
    assert.equal('module.lua:7: ' .. said, select(2, m:call('t.id')).message)
    assert.equal('module.lua:8: ' .. said, select(2, m:call('t.db')).message)
    assert.is_true(m:call('t.keep'))
    assert.equal('module.lua:9: ' .. said, select(2, m:query('t.now')).message)
  end)
end)

describe('declared arguments', function()
  local m = machine.new { t = module [[
    local function give(ctx, ...) local list = { ... } for i = 1, select('#', ...) do list[i] = tostring((select(i, ...))) end
      return table.concat(list, ' ') end
    C.two = { args = 'a b:int=7', run = give }
    C.opt = { args = 'a [b] [nx:flag] [ttl:ms]', run = give }
    C.rest = { args = 'a more:int...', run = give }
    C.none = { args = '', run = give }
  ]] }
  local function args(name, ...)
    local value, err = m:call('t.' .. name, ...)
    if err then assert.equal('BAD_ARGS', err.code) end
    return value or err.message
  end

  it('are taken by place and by name alike', function()
    assert.equal('x 7', args('two', 'x'))
    assert.equal('x 8', args('two', 'x', '8'))
    assert.equal('x 8', args('two', { a = 'x', b = 8 }))
    assert.equal('x 8', args('two', 'x', { b = 8 }))
    assert.equal('x nil true 5000', args('opt', 'x', { nx = true, ttl = '5s' }))
    assert.equal('x y true 5000', args('opt', 'x', 'y', 'nx', 5000))
    assert.equal('x nil false nil', args('opt', 'x', nil, false))
    assert.equal('x', args('rest', 'x'))
    assert.equal('x 1 2', args('rest', 'x', 1, '2'))
    assert.equal('x 1 2', args('rest', { a = 'x', more = { '1', 2 } }))
    assert.equal('', args('none'))
  end)

  it('name what is wrong with them', function()
    assert.equal("argument 'a': is missing", args('two'))
    assert.equal("argument 'b': must be a whole number up to 2^53", args('two', 'x', 1.5))
    assert.equal("argument 'b': must be a whole number up to 2^53", args('two', 'x', { b = 'y' }))
    assert.equal("argument 'a': is given twice, by place and by name", args('two', 'x', { a = 'y' }))
    assert.equal("argument 'a': must be text", args('two', { 1, 2 }))
    assert.equal("there is no argument 'c'", args('two', 'x', { c = 1 }))
    assert.equal('too many arguments: at most 2', args('two', 'x', 1, 2))
    assert.equal('too many arguments: at most 0', args('none', 1))
    assert.equal("argument 'ttl': must be a time", args('opt', 'x', { ttl = '5x' }):sub(1, 30))
    assert.equal("argument 'nx': must be true or false", args('opt', 'x', 'y', 'ny'))
    assert.equal("argument 'more': must be a whole number up to 2^53", args('rest', 'x', 1, 'y'))
    assert.equal("argument 'more': is given twice, by place and by name", args('rest', 'x', 1, { more = { 2, 3 } }))
    assert.equal("argument 'more': must be a list", args('rest', 'x', { more = 5 }))
  end)
end)
