-- Snapshot formats of the user's own (CONTRACT.md §2): round trips of anything a state can hold, and what is refused, with why.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local snapshots = require 'spec.support.snapshots'
local ffi = core.ffi

local function file(path)
  local f = assert(io.open(path))
  local text = f:read('*a')
  f:close()
  return text
end

local packed_format = [[
  return { name = 'packed', version = 2,
    write = function(out, view)
      for mount, name, map in view:maps() do
        for key, value in map:pairs() do out:pack(mount) out:pack(name) out:pack(key) out:pack(value) end
      end
    end,
    read = function(inp, ctx)
      while true do
        local more, mount = inp:unpack()
        if not more then return true end
        local _, name = inp:unpack()
        local _, key = inp:unpack()
        local _, value = inp:unpack()
        ctx.db[mount][name]:put(key, value)
      end
    end }
]]

local formats = { jsonl = file('examples/formats/jsonl.lua'), sorted_text = file('examples/formats/sorted_text.lua'),
  csv_orders = file('examples/formats/csv_orders.lua'), packed = packed_format }

local function bundle(text) return assert(machine.format(text)) end

local service = [[
  local m = { name = 'm', version = 1, state = { rows = 'map', other = 'map', empty = 'map' }, commands = {}, queries = {} }
  function m.commands.put(ctx, map, key, value) ctx.db[map]:put(key, value) end
  function m.commands.id(ctx) return ctx.id() end
  return m
]]

local function new(format)
  local m = machine.new { m = service, kv = file('examples/kv.lua'), orders = file('examples/orders.lua') }
  if format then m:entry(3, format) end
  return m
end

-- --- random states ------------------------------------------------------------------------------------------------------

local function random_text(random)
  local bytes = {}
  for i = 1, random(0, 12) do
    bytes[i] = random(3) == 1 and string.char(random(0, 255)) or random(4) == 1 and ('\n\t",\'[{\\ é'):sub(random(10)):sub(1, 1)
      or string.char(random(97, 122))
  end
  local words = { '', 'true', 'false', 'null', '-0', '1e5', "'quoted", '{}', '["a"]', '$base64', ' blank ', '9007199254740993', 'a,b',
    'line\nend', 'naïve', '\r', '\0', '#' }
  return random(3) == 1 and words[random(#words)] or table.concat(bytes)
end

local function random_number(random)
  local numbers = { 0, -0.0, 1, -1, 0.1, 1 / 3, -1e300, 5e-324, 2 ^ 53, 2 ^ 53 + 2, -2 ^ 60, 1e15, 123456789012345680, 1.7976931348623157e308 }
  return random(2) == 1 and numbers[random(#numbers)] or (random() - 0.5) * 10 ^ random(-20, 20)
end

local function random_scalar(random)
  local kind = random(5)
  if kind == 1 then return random(2) == 1 end
  if kind <= 3 then return random_number(random) end
  return random_text(random)
end

local function random_key(random)
  if random(3) > 1 then return random_scalar(random) end
  local list = {}
  for i = 1, random(2, 16) do list[i] = random_scalar(random) end
  return list
end

local function random_value(random, depth)
  local kind = depth > 0 and random(6) or 1
  if kind <= 3 then return random_scalar(random) end
  if kind == 4 then
    local list = {}
    for i = 1, random(0, 4) do list[i] = random_value(random, depth - 1) end
    return list
  end
  local map = { map = true } -- spec/support/machine.lua: an empty one is a map
  for _ = 1, random(0, 4) do
    local key = random(8) == 1 and ({ '$base64', '$map' })[random(2)] or random_text(random)
    if key ~= 'map' and key ~= 'n' then map[key] = random_value(random, depth - 1) end
  end
  return map
end

local function deep(levels)
  local value = 'deep'
  for i = 1, levels do value = i % 2 == 0 and { value } or { ['\255'] = value } end
  return value
end

local function fill(m, seed, rows)
  local random = core.random(seed)
  for _ = 1, rows do
    local map = random(3) == 1 and 'other' or 'rows'
    assert.is_nil(select(2, m:call('m.put', map, random_key(random), random_value(random, random(0, 6)))))
  end
  m:call('m.put', 'rows', 'deep', deep(30))
  m:call('m.put', 'rows', 'long', ('x\0'):rep(200000))
  m:call('m.id')
  for i = 1, 20 do m:call('orders.place', 'ada' .. i % 3, 'lamp, "big"', i, i / 3, i % 4 == 0 and '-1' or nil) end
  for i = 1, 20, 5 do m:call('orders.pay', i) end
end

describe('a format', function()
  for name, text in pairs(formats) do
    it('of the user gives back every state: ' .. name, function()
      snapshot.with_disk(function(disk)
        for seed = 1, 4 do
          local m = new(bundle(text))
          fill(m, seed, 150)
          local status, why = snapshot.take(m, disk, 'a', { chunk_bytes = ({ 0, 1000, 37 })[seed % 3 + 1] })
          assert.equal('OK', status, why)
          local built, head = snapshot.build(disk, 'a')
          assert.is_table(built, head)
          assert.equal(m:digest(), built:digest())
          assert.equal(name, ffi.string(head.format))
          m:call('m.id')
          built:call('m.id')
          assert.equal(m:digest(), built:digest())
        end
      end)
    end)
  end

  it('gives back the state of each example service', function()
    local commands = { counter = { 'add', 'apples', 3 }, kv = { 'set', 'a', { 1, { b = 2 } } }, bank = { 'open', 'ada', 10 },
      orders = { 'place', 'ada', 'lamp', 2, 19.5 } }
    snapshot.with_disk(function(disk)
      for service_name, command in pairs(commands) do
        for name, text in pairs(formats) do
          local m = machine.new { [service_name] = file('examples/' .. service_name .. '.lua') }
          m:entry(3, bundle(text))
          local before = m:digest()
          assert.is_nil(select(2, m:call(service_name .. '.' .. command[1], unpack(command, 2))))
          assert.is_not.equal(before, m:digest())
          assert.equal('OK', (snapshot.take(m, disk, 'a')))
          assert.equal(m:digest(), assert(snapshot.build(disk, 'a')):digest(), service_name .. ' ' .. name)
        end
      end
    end)
  end)

  it('gives the same bytes in a process with other hash seeds, and is read there', function()
    snapshot.with_disk(function(disk, path)
      for name, text in pairs(formats) do
        local m = new(bundle(text))
        fill(m, 11, 100)
        local status, why, seal = snapshot.take(m, disk, 'a')
        assert.equal('OK', status, why)
        for _ = 1, 2 do
          local code, out = core.child(([[
            local snapshot = require 'spec.support.snapshot'
            for i = 1, 1000 do _G['name' .. math.random()] = i end
            local disk = snapshot.disk('%s')
            local built = assert(snapshot.build(disk, 'a'))
            local status, why, seal = snapshot.take(built, disk, 'b')
            print(status, why, built:digest(), seal.hash.lo, seal.hash.hi)
          ]]):format(path))
          assert.equal(0, code, out)
          assert.equal(('OK\t\t%s\t%s\t%s\n'):format(m:digest(), seal.hash.lo, seal.hash.hi), out, name)
        end
      end
    end)
  end)

  it('of an empty state has no bytes, and gives it back', function()
    snapshot.with_disk(function(disk)
      for _, text in pairs(formats) do
        local m = new(bundle(text))
        assert.equal('OK', (snapshot.take(m, disk, 'a')))
        assert.equal(m:digest(), assert(snapshot.build(disk, 'a')):digest())
      end
    end)
  end)

  it('may be given for an export, which can be read without the module', function()
    snapshot.with_disk(function(disk)
      local m = new()
      fill(m, 3, 50)
      assert.equal('OK', (snapshot.take(m, disk, 'a', { format = bundle(formats.jsonl) })))
      local built, head = snapshot.build(disk, 'a')
      assert.equal(m:digest(), built:digest())
      assert.equal('jsonl', ffi.string(head.format))
      assert.equal('rows', ffi.string(select(2, snapshot.build(disk, 'a')) and 'rows'))
    end)
  end)
end)

-- --- formats that are wrong ------------------------------------------------------------------------------------------------

local jsonl_head = "local json = require 'tidelock.json'\n"
local good_write = [[
  for mount, name, map in view:maps() do
    for key, value in map:pairs() do out:write(json.encode { mount, name, key, value }, '\n') end
  end
]]
local good_read = [[
  for line in inp:lines() do
    local mount, name, key, value = unpack(json.decode(line))
    ctx.db[mount][name]:put(key, value)
  end
  return true
]]

local function text_of(write, read)
  return jsonl_head .. "return { name = 'f', version = 1,\nwrite = function(out, view)\n" .. (write or good_write) .. "\nend,\n"
    .. 'read = function(inp, ctx)\n' .. (read or good_read) .. '\nend }'
end

-- What taking says of a state of three rows, in a format with these bodies.
local function why_of(write, read, options)
  return snapshot.with_disk(function(disk)
    local m = new(bundle(text_of(write, read)))
    m:call('kv.set', 'a', 1.5)
    m:call('kv.set', 'b', { deep = { 1, 2 } })
    m:call('kv.set', 'c', 'text')
    local status, why = snapshot.take(m, disk, 'a', options)
    assert.is_nil(snapshot.build(disk, 'a'))
    return why, status
  end)
end

local function refused(expected, write, read, options)
  local why, status = why_of(write, read, options)
  assert.equal('INVALID', status)
  assert.truthy(why:find(expected, 1, true), why)
end

describe('a format that loses something is refused, with map and key:', function()
  local lost = 'the format f 1 does not give back what it was given: '

  it('a value that is rounded', function()
    refused(lost .. 'kv.rows key "a" was 1.5 and came back as 1', [[
      for mount, name, map in view:maps() do
        for key, value in map:pairs() do
          if type(value) == 'number' then value = math.floor(value) end
          out:write(json.encode { mount, name, key, value }, '\n')
        end
      end]])
  end)

  it('a row that is not written', function()
    refused(lost .. 'kv.rows key "b" is lost', [[
      for mount, name, map in view:maps() do
        for key, value in map:pairs() do
          if type(value) ~= 'table' then out:write(json.encode { mount, name, key, value }, '\n') end
        end
      end]])
  end)

  it('nothing written at all', function() refused(lost .. 'kv.rows key "a" is lost', 'out:write("")') end)

  it('less read than was written', function()
    refused(lost .. 'kv.rows key "b" is lost', nil, [[
      for line in inp:lines() do
        local mount, name, key, value = unpack(json.decode(line))
        ctx.db[mount][name]:put(key, value)
        return true
      end]])
  end)

  it('a row that was not there', function()
    refused('kv.rows key "z" was put, and the state has no such row', nil, [[
      for line in inp:lines() do
        local mount, name, key, value = unpack(json.decode(line))
        if key == 'c' then key = 'z' end
        ctx.db[mount][name]:put(key, value)
      end
      return true]])
  end)

  it('rows put twice', function()
    refused('more rows than the state has: kv.rows key "c" is one too many', nil, [[
      for line in inp:lines() do
        local mount, name, key, value = unpack(json.decode(line))
        ctx.db[mount][name]:put(key, value)
        if key == 'c' then ctx.db[mount][name]:put(key, value) end
      end
      return true]])
    refused('kv.rows key "b" was put twice', nil, [[
      for line in inp:lines() do
        local mount, name, key, value = unpack(json.decode(line))
        if key ~= 'a' then ctx.db[mount][name]:put(key, value) end
        if key == 'b' then ctx.db[mount][name]:put(key, value) end
      end
      return true]])
  end)
end)

describe('a file that lost something', function()
  it('is not built into a machine', function()
    snapshot.with_disk(function(disk)
      local m = new()
      m:call('kv.set', 'a', 1.5)
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      local found, rows = assert(snapshots.read(disk, 'a')), {}
      for i, chunk in ipairs(found.chunks) do rows[i] = { chunk[1], chunk[1] == 2 and chunk[2]:gsub('\248', '\0') or chunk[2] } end
      assert(snapshots.write(disk, 'a', found.head, rows))
      local _, why, status = snapshot.build(disk, 'a')
      assert.equal('INVALID', status)
      assert.truthy(why:find('a: its rows are not those of the state that its head tells of', 1, true), why)
      assert.is_false(snapshot.inspect(disk, 'a').good)
    end)
  end)
end)

describe('a format that fails says where, with the row it was at:', function()
  it('throwing', function()
    refused('the format f 1 failed to write: format.lua:5: no luck (row 1 taken: kv.rows "a")', [[
      for _, _, map in view:maps() do
        for key in map:pairs() do error('no luck') end
      end]])
    refused("format.lua:5: attempt to index local 'x' (a nil value) (no row taken yet)", '\nlocal x; return x.y')
    refused('CONFLICT: at odds', "error { code = 'CONFLICT', message = 'at odds' }")
  end)

  it('refusing', function()
    refused('failed to write: format.lua:3: write says: too much', "return nil, 'too much'")
    refused('read says: I do not like it (no row put yet)', nil, "return nil, 'I do not like it'")
    refused('read gave back nil: it returns true, or nil and why not', nil, 'local x = 1')
    refused('write gave back number', 'return 1')
  end)

  it('looping or recursing between two steps', function()
    refused('BUDGET format.lua:4: the budget of instructions is spent', 'while true do end')
    refused('BUDGET format.lua:4: the budget of instructions is spent', 'while true do pcall(function() while true do end end) end')
    refused('BUDGET', nil, 'while true do inp:read(1) end')
    refused('DEPTH', 'local function f() return 1 + f() end f()')
    refused('DEPTH', nil, 'local function f() return 1 + f() end f()')
  end)

  it('going on for ever by steps', function()
    refused('out: more than 64 times the bytes of the state', "local x = ('x'):rep(1000000) while true do out:write(x) end")
    refused('more rows than the state has', nil, 'while true do ctx.db.kv.rows:put("a", 1) end')
  end)

  it('out of memory', function()
    refused('out of memory: the format wants more than', "local x = 'x' while true do x = x .. x end", nil, { lua_bytes_max = 2 ^ 24 })
  end)

  it('using what is not there', function()
    refused('out:write: argument 1 must be text, got number', 'out:write(1.5)')
    refused("out has no 'print'; there are write pack", 'out.print()')
    refused("view has no 'rows'; there are index term now maps", 'return view.rows')
    refused('a view is frozen: write only reads it', "for _, _, map in view:maps() do map:put('a', 1) end")
    refused('call out:write with a colon', "out.write('x')")
    refused('out:pack: value: a function is no value', 'out:pack(function() end)')
    refused("ctx.db has no 'nowhere'; there are kv m orders", nil, "ctx.db.nowhere.rows:put('a', 1)")
    refused("ctx.db.kv has no 'row'; there are rows", nil, "ctx.db.kv.row:put('a', 1)")
    refused("there is no 'get' here: a format's read only puts rows", nil, "return ctx.db.kv.rows:get('a')")
    refused("kv.rows:put: there is no option 'ttl'; there is expires", nil, "ctx.db.kv.rows:put('a', 1, { ttl = 5 })")
    refused('kv.rows:put: the key must be text, a finite number', nil, 'ctx.db.kv.rows:put({ {} }, 1)')
    refused('kv.rows:put: value.x: NaN and infinities are no values (row 1 put: kv.rows "a")', nil,
      "ctx.db.kv.rows:put('a', { x = 0 / 0 })")
    refused('out cannot be written to', 'out.x = 1')
    refused('ctx.db.kv cannot be written to', nil, 'ctx.db.kv.rows = 1')
  end)

  it('writing what it cannot read', function()
    refused('UNREADABLE, written by the format f 1: format.lua:', "out:write('garbage\\n')")
    refused('the bytes end within a MessagePack value', "out:write('\\218')", 'inp:unpack() return true')
    refused('inp:lines: a line of more than 8388608 bytes', "for i = 1, 9 do out:write(('x'):rep(1000000)) end")
  end)
end)

describe('a format module', function()
  local function why(text) return select(2, machine.format(text)) end

  it('has name, version, write and read, and nothing else', function()
    local both = 'write = function() end, read = function() end '
    for module, expected in pairs {
      ["return { name = 'f', version = 1, write = 1, read = function() end }"] = 'a format has a function write; it is number',
      ["return { name = 'f', version = 1, write = function() end }"] = 'a format has a function read; it is missing',
      ["return { name = 'f', version = 1, write = function() end, read = 1 }"] = 'a format has a function read; it is number',
      ["return { name = 'f', version = 1, write = function() end, raed = 1 }"] = "there is no field 'raed'; did you mean read?",
      ["return { name = 'f', version = 0, " .. both .. '}'] = 'version must be a whole number',
      ["return { name = 'F', version = 1, " .. both .. '}'] = 'name must be text made of a-z',
      ['return 1'] = 'a module returns a table, not number',
      ["return { name = 'f', version = 1, commands = {} }"] = 'this is a service, not a snapshot format',
      ["local n = 0 return { name = 'f', version = 1, write = function() n = n + 1 end, read = function() end }"] = "'n' is a local",
    } do
      local said = why(module)
      assert.truthy(said:find(expected, 1, true), said)
    end
    assert.truthy(select(2, machine.bundle('m', formats.packed)):find('this is a snapshot format', 1, true))
  end)

  it('that is broken is a fact of the state, and rows serve', function()
    snapshot.with_disk(function(disk)
      local m = new(machine.pack { 1, 'format', '', 'format', { { 'format', 'return 1' } } })
      m:call('kv.set', 'a', 1)
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      local built, head = snapshot.build(disk, 'a')
      assert.equal('rows', ffi.string(head.format))
      assert.equal(m:digest(), built:digest())
      built:entry(3, bundle(formats.jsonl)) -- the refusal came first: nothing changes, on either
      m:entry(3, bundle(formats.jsonl))
      assert.equal(m:digest(), built:digest())
    end)
  end)

  it('of a newer version may read what an older wrote', function()
    local newer = [[
      local json = require 'tidelock.json'
      return { name = 'f', version = 2,
        write = function(out, view) return nil, 'not needed here' end,
        read = function(inp, ctx)
          if inp.format ~= 'f' or inp.version ~= 1 then return nil, 'only f 1 here' end
          ]] .. good_read .. [[
        end }]]
    snapshot.with_disk(function(disk)
      local m = new(bundle(text_of()))
      m:call('kv.set', 'a', 1)
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      local built = assert(snapshot.build(disk, 'a', { format = bundle(newer) }))
      assert.equal(m:digest(), built:digest())
      local other = new(bundle(formats.packed))
      assert.equal('OK', (snapshot.take(other, disk, 'b')))
      local _, why_not, status = snapshot.build(disk, 'b', { format = bundle(newer) })
      assert.equal('UNSUPPORTED', status)
      assert.truthy(why_not:find('b: UNREADABLE, written by the format packed 2: format.lua:4: read says: only f 1 here', 1, true), why_not)
    end)
  end)

  it('sees the view alone: what is lossy may be exported, and is not read back', function()
    snapshot.with_disk(function(disk)
      local m = new()
      m:call('kv.set', 'a', 1)
      local keys = bundle(text_of([[
        for _, _, map in view:maps() do for key in map:pairs(nil, { reverse = true }) do out:write(json.encode(key), '\n') end end
        out:write(json.encode { view.index, view.term, view.now })]]))
      assert.equal('OK', (snapshot.take(m, disk, 'a', { format = keys, lossy = true })))
      assert.equal('INVALID', (snapshot.take(m, disk, 'b', { format = keys })))
    end)
  end)
end)

describe('tidelock.json and tidelock.csv', function()
  local m = machine.new { t = [[
    local json, csv = require 'tidelock.json', require 'tidelock.csv'
    local m = { name = 'm', version = 1, commands = {}, queries = {} }
    function m.queries.json(ctx, v) return json.encode(v) end
    function m.queries.parse(ctx, text) return json.decode(text) end
    function m.queries.both(ctx, v) return json.decode(json.encode(v)) end
    function m.queries.csv(ctx)
      return csv.encode({ 'teal', '12', 12, true, 'true', '', nil, { 1, 'a' }, "'x", 'line\nend', 'a,b', ' x ', nil }, 13)
    end
    function m.queries.row(ctx, text) local row, n = csv.decode(text) for i = 1, n do row[i] = json.encode(row[i]) end return row end
    function m.queries.spend(ctx) local x = ('x'):rep(1000000) while true do json.encode(x) end end
    function m.queries.cycle(ctx) local t = {} t.t = t return json.encode(t) end
    return m
  ]] }
  local function why(...) return select(2, m:query(...)).message end

  it('write canonical JSON', function()
    assert.equal('{"a":[1,2.5,true],"b":"é"}', m:query('t.json', { b = 'é', a = { 1, 2.5, true } }))
    assert.equal('-0', m:query('t.json', -0.0))
    assert.equal('9007199254740994e0', m:query('t.json', 2 ^ 53 + 2))
    assert.equal('{"$base64":"/w=="}', m:query('t.json', '\255'))
    assert.equal('{"$map":[["$base64","/w=="]]}', m:query('t.json', { ['$base64'] = '/w==' }))
    assert.equal('{"$map":[["a",1],[{"$base64":"/w=="},2]]}', m:query('t.json', { a = 1, ['\255'] = 2 }))
    assert.same({ ['$map'] = { { 'x', 1 } } }, m:query('t.both', { ['$map'] = { { 'x', 1 } } }))
  end)

  it('say what is wrong', function()
    assert.truthy(why('t.parse', '{"a":'):find('json.decode: must be JSON', 1, true))
    assert.truthy(why('t.parse', '{"$map":[["a"]]}'):find('"$map" wants a list of [name, value]', 1, true))
    assert.truthy(why('t.parse', '{"$map":[["a",1],["a",2]]}'):find('a name stands twice', 1, true))
    assert.truthy(why('t.parse', ('['):rep(32) .. (']'):rep(32)):find('nested less deep', 1, true))
    assert.truthy(why('t.cycle'):find('json.encode: value', 1, true))
    assert.truthy(why('t.row', '"a'):find('csv.decode: a quoted field does not end', 1, true))
    assert.truthy(why('t.row', '"a"b'):find('after a quoted field a comma is expected', 1, true))
    local function bad(text) return select(2, machine.bundle('x', text .. " return { name = 'x', version = 1, commands = {} }")) end
    assert.truthy(bad("local json = require 'tidelock.json' json.encode = 1"):find("'encode' cannot be set", 1, true))
    bad = bad "require 'tidelock.xml'"
    assert.truthy(bad:find('the bundle has no tidelock.xml.lua', 1, true), bad)
  end)

  it('cost budget', function() assert.equal('BUDGET', select(2, m:query('t.spend')).code) end)

  it('show the type of each field of a row', function()
    local row = [[teal,'12,12,true,'true,',,"[1,""a""]",''x,"""line\nend""","a,b"," x ",]]
    assert.equal(row, m:query('t.csv'))
    assert.same({ '"teal"', '"12"', '12', 'true', '"true"', '""', 'null', '[1,"a"]', [["'x"]], [["line\nend"]], '"a,b"', '" x "', 'null' },
      m:query('t.row', row))
    assert.same({ '"a"', '1' }, m:query('t.row', 'a,1\r'))
    assert.same({ 'null' }, m:query('t.row', ''))
  end)
end)
