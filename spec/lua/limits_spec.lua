-- The limits that README names under "Writing a service": what is just inside each, and what is just beyond.
local machine = require 'spec.support.machine'

local function host(body, more)
  return machine.new { t = "local m = { name = 'm', version = 1, state = { rows = 'map' }, commands = {}, queries = {} }\n"
    .. 'function m.commands.run(ctx, ...)\n' .. body .. '\nend\n' .. (more or '') .. '\nreturn m' }
end

-- The body runs with `n` as it is, and is refused with the code, and words, when n is one more.
local function limit(n, body, code, words)
  local text = 'local n = ... ' .. body .. ' return "done"'
  local value, err = host(text):call('t.run', n)
  assert.equal('done', value, body .. ': ' .. tostring(err and err.message))
  value, err = host(text):call('t.run', n + 1)
  assert.is_nil(value, body)
  assert.equal(code, err.code, body)
  assert.truthy(err.message:find(words, 1, true), err.message)
end

describe('a limit', function()
  it('of keys and rows is a size', function()
    limit(1022, "ctx.db.rows:put(('k'):rep(n), 1)", 'TOO_LARGE', 'rows:put: the key of more than 1024 bytes')
    limit(1048571, "ctx.db.rows:put(1, (('v'):rep(n)))", 'TOO_LARGE', 'rows:put: a row of 1048577 bytes')
    limit(16, 'local k = {} for i = 1, n do k[i] = i end ctx.db.rows:put(k, 1)', 'SCRIPT_ERROR', 'a list has 1 to 16 elements')
    limit(31, 'local v = 1 for _ = 1, n do v = { v } end ctx.db.rows:put(1, v)', 'SCRIPT_ERROR', 'nested too deep, or a cycle')
  end)

  it('of arguments and answers is a size too', function()
    local m = host "return (...) and #(...)"
    assert.equal(1048000, m:call('t.run', ('a'):rep(1048000)))
    assert.equal('TOO_LARGE', select(2, m:call('t.run', ('a'):rep(1048576))).code)
    local give = host "local s = ('a'):rep(1048576) local list = {} for i = 1, (...) do list[i] = s end return list"
    assert.equal(7, #give:call('t.run', 7))
    local _, err = give:call('t.run', 8)
    assert.equal('TOO_LARGE', err.code)
    assert.truthy(err.message:find('module.lua:2: an answer of more than 8388608 bytes', 1, true), err.message)
  end)

  it('of arguments is a number', function()
    local many = {}
    for i = 1, 251 do many[i] = i end
    local m = host 'return select("#", ...)'
    assert.equal(250, m:call('t.run', unpack(many, 1, 250)))
    assert.equal('BAD_ARGS', select(2, m:call('t.run', unpack(many))).code)
    local names = {}
    for i = 1, 33 do names[i] = 'a' .. i end
    local head = "return { name = 'm', version = 1, commands = { a = { run = function() end, args = '%s' } } }"
    assert.truthy(machine.bundle('t', head:format(table.concat(names, ' ', 1, 32))))
    local bundle, why = machine.bundle('t', head:format(table.concat(names, ' ')))
    assert.is_nil(bundle)
    assert.truthy(why:find('too many arguments', 1, true), why)
  end)

  it('of texts that are made is a size', function()
    limit(1048576, "local s = ('x'):rep(n)", 'TOO_LARGE', 'string.rep: more than 1 MiB')
    limit(1048448 - 2, "local s = ('%s'):format(('x'):rep(n))", 'TOO_LARGE', 'string.format: more than 1 MiB')
    limit(8192, "local s = ('x'):rep(n):gsub('x', ('y'):rep(1024))", 'TOO_LARGE', 'string.gsub: more than 8 MiB')
    limit(8192, "local t = {} for i = 1, n do t[i] = ('y'):rep(1024) end table.concat(t)", 'TOO_LARGE', 'table.concat: more than 8 MiB')
    limit(200, 'local t = {} for i = 1, n do t[i] = i end unpack(t)', 'SCRIPT_ERROR', 'unpack: more than 200 values')
    limit(200, "local a = ('x'):rep(n):byte(1, -1)", 'SCRIPT_ERROR', 'string.byte: more than 200 values')
    limit(32, "local a = ('x'):rep(n):match(('()'):rep(n))", 'SCRIPT_ERROR', 'too many captures')
    limit(999, "local a = ('x'):rep(n):match(('x?'):rep(n))", 'SCRIPT_ERROR', 'pattern too complex')
  end)

  it('of calls is a depth', function()
    local more = 'm.commands.deep = function(ctx, n) if n > 1 then return ctx.call("t.deep", n - 1) end return "done" end'
    assert.equal('done', host('', more):call('t.deep', 64))
    assert.equal('DEPTH', select(2, host('', more):call('t.deep', 65)).code)
    local text = 'local function f(n) if n > 0 then return 1 + f(n - 1) end return 0 end return f((...))'
    assert.equal(150, host(text):call('t.run', 150))
    assert.equal('DEPTH', select(2, host(text):call('t.run', 1000)).code)
  end)

  it('of a message cuts it', function()
    local _, err = host "return nil, ('m'):rep(2000)":call('t.run')
    assert.equal(1024, #err.message)
  end)

  it('of maps is a number', function()
    local function maps(n)
      local list = {}
      for i = 1, n do list[i] = 'r' .. i .. " = 'map'" end
      return "return { name = 'm', version = 1, commands = { a = function() end }, state = { " .. table.concat(list, ', ') .. ' } }'
    end
    assert.truthy(machine.bundle('t', maps(200)))
    local bundle, why = machine.bundle('t', maps(201))
    assert.is_nil(bundle)
    assert.truthy(why:find('state: more than 200 maps', 1, true), why)
  end)
end)
