-- The history checker: what lin1 says, known cases, and agreement with a checker that tries all orders.
local core = require 'spec.support.core'
local history = require 'spec.support.history'

-- Lines without TIME: they get 1, 2, ... Each must be judged so; for NOT, `line` is the last one of the shortest prefix.
local function numbered(text)
  local out, n = {}, 0
  for line in text:gmatch('[^\n]+') do
    n = n + 1
    out[n] = n .. ' ' .. line:gsub('^%s+', '')
  end
  return table.concat(out, '\n') .. '\n'
end

local function is(verdict, text, line, opid, states)
  local r, where, why = history.check(text)
  assert(r, ('line %s: %s'):format(where, why))
  assert.equal(verdict, r.verdict, text)
  if line then
    assert.equal(line, r.line, text)
    assert.is_true(r.shortest)
  end
  if opid then assert.equal(opid, r.opid) end
  if states then assert.same(states, r.states) end
end

local function yes(text) is('linearizable', numbered(text)) end
local function no(text, ...) is('NOT linearizable', numbered(text), ...) end

local function bad(text, line, what)
  local r, where, why = history.check(text)
  assert.is_nil(r, text)
  assert.equal(line, where, text .. tostring(why))
  assert.truthy(why:find(what, 1, true), ('wanted: %s\nsaid:   %s'):format(what, why))
end

describe('a history', function()
  it('of nothing is linearizable', function()
    is('linearizable', '')
    is('linearizable', '# nothing\n\n   \t\n# at all')
  end)

  it('is linearizable if reads see what was written', function()
    yes [[a inv 1 put k x
      a ok 1
      b inv 2 get k
      b ok 2 =x]]
    yes [[a inv 1 put k x
      b inv 2 get k
      b ok 2 nil
      b inv 3 get k
      b ok 3 =x
      a ok 1]]
  end)

  it('is not, with a stale read', function()
    no([[a inv 1 put k x
      a ok 1
      a inv 2 put k y
      a ok 2
      b inv 3 get k
      b ok 3 =x]], 6, '3', { '=y' })
    no([[a inv 1 put k x
      a ok 1
      b inv 2 get k
      b ok 2 nil]], 4, '2', { '=x' })
  end)

  it('is not, if reads go backwards', function()
    no([[a inv 1 put k new
      b inv 2 get k
      b ok 2 =new
      c inv 3 get k
      c ok 3 nil
      a ok 1]], 5, '3', { '=new' })
  end)

  it('is not, with a lost update', function()
    no([[a inv 1 incr k 1
      b inv 2 incr k 1
      a ok 1 1
      b ok 2 1]], 4, '2', { '=1' })
    no([[a inv 1 cas k nil x
      b inv 2 cas k nil y
      a ok 1 1
      b ok 2 1]], 4, '2', { '=x' })
  end)

  it('is not, with a duplicate append', function()
    no([[a inv 1 append k x
      a info 1
      b inv 2 append k y
      b ok 2
      b inv 3 get k
      b ok 3 =xyx]], 6, '3')
  end)

  it('is not, with a read of what nobody wrote', function()
    no([[a inv 1 get k
      a ok 1 =x]], 2, '1', { 'nil' })
  end)

  it('lets what is unknown take effect late, or never, but once', function()
    local lost = 'a inv 1 put k x\na info 1\nb inv 2 put k y\nb ok 2\n'
    yes(lost .. 'b inv 3 get k\nb ok 3 =y\nb inv 4 get k\nb ok 4 =x')
    yes(lost .. 'b inv 3 get k\nb ok 3 =y\nb inv 4 get k\nb ok 4 =y')
    no(lost .. 'b inv 3 get k\nb ok 3 =x\nb inv 4 get k\nb ok 4 =y', 8, '4', { '=x' })
    yes('a inv 1 put k x\nb inv 3 get k\nb ok 3 nil\nb inv 4 get k\nb ok 4 =x')
    no('b inv 3 get k\nb ok 3 =x\na inv 1 put k x\na info 1', 2, '3')
  end)

  it('names what the key can have been, by what is unknown too', function()
    local lost = 'a inv 1 put k x\na info 1\na inv 5 put k z\nb inv 2 put k y\nb ok 2\n'
    no(lost .. 'b inv 3 get k\nb ok 3 =w', 7, '3', { '=x', '=y', '=z' })
  end)

  it('takes fail by its word', function()
    yes('a inv 1 put k x\na fail 1\nb inv 3 get k\nb ok 3 nil')
    no('a inv 1 put k x\na fail 1\nb inv 3 get k\nb ok 3 =x', 4, '3', { 'nil' })
    -- Up to line 3 the put may have happened; line 4 says that it did not.
    no('a inv 1 put k x\nb inv 3 get k\nb ok 3 =x\na fail 1\nb inv 4 get k\nb ok 4 =x', 4, '1', {})
  end)

  it('checks no result that is left out', function()
    yes('a inv 1 incr k 5\na ok 1\nb inv 2 get k\nb ok 2 ?\nb inv 3 cas k =5 a\nb ok 3 ?\nb inv 4 get k\nb ok 4 =a')
    no('a inv 1 incr k 5\na ok 1\nb inv 3 cas k =5 a\nb ok 3 ?\nb inv 4 get k\nb ok 4 =5', 6)
  end)

  it('counts a begin before an end at the same TIME', function()
    is('linearizable', '1 a inv 1 put k x\n2 a ok 1\n2 b inv 2 get k\n3 b ok 2 nil\n')
    is('NOT linearizable', '1 a inv 1 put k x\n2 a ok 1\n2.000000001 b inv 2 get k\n3 b ok 2 nil\n', 4)
    is('linearizable', '7 a ok 1\n7 a inv 1 put k x\n')
  end)

  it('goes by TIME, not by line', function()
    local a, b = '1 a inv a1 put k x\n5 a ok a1\n', '6 b inv b1 get k\n7 b ok b1 nil\n'
    is('NOT linearizable', a .. b, 4)
    is('NOT linearizable', b .. a, 2)
    is('linearizable', a .. b:gsub('6', '4'))
    is('NOT linearizable', '10 b inv b1 get k\n11 b ok b1 nil\n9.5 a inv a1 put k x\n9.75 a ok a1', 2)
    is('NOT linearizable', '1763990000000000000 a inv 1 put k x\n1763990000000000001 a ok 1\n1763990000000000002 a inv 2 get k\n'
      .. '1763990000000000003 a ok 2 nil\n', 4)
  end)

  it('has keys that do not touch each other, and shows the first that is wrong', function()
    local text = numbered [[a inv 1 put k x
      a ok 1
      b inv 2 get l
      b ok 2 nil
      c inv 3 get m
      c ok 3 =1
      b inv 4 get k
      b ok 4 nil]]
    is('NOT linearizable', text, 6, '3')
    is('NOT linearizable', text:gsub('=1', 'nil'), 8, '4')
    local r = history.check(text)
    assert.same({ 'm', 6, 3 }, { r.key, r.events, r.keys })
  end)

  it('lets a client have several operations under way', function()
    yes('a inv 1 put k x\na inv 2 put k y\na inv 3 get k\na ok 2\na ok 1\na ok 3 =x\na inv 4 get k\na ok 4 =y')
  end)
end)

describe('an operation', function()
  it('get gives nothing, or the value', function()
    yes('a inv 1 get k\na ok 1 nil')
    yes('a inv 1 put k nil\na ok 1\na inv 2 get k\na ok 2 =nil')
    no('a inv 1 put k nil\na ok 1\na inv 2 get k\na ok 2 nil', 4, '2', { '=nil' })
    yes('a inv 1 put k =x\na ok 1 ?\na inv 2 get k\na ok 2 ==x')
  end)

  it('cas compares with what is there, or nothing', function()
    yes('a inv 1 cas k nil x\na ok 1 1\na inv 2 cas k nil y\na ok 2 0\na inv 3 cas k =x y\na ok 3 1\na inv 4 get k\na ok 4 =y')
    no('a inv 1 cas k =x y\na ok 1 1', 2, '1', { 'nil' })
    no('a inv 1 put k x\na ok 1\na inv 2 cas k =x y\na ok 2 0', 4, '2', { '=x' })
    no('a inv 1 put k x\na ok 1\na inv 2 cas k =x y\na ok 2 1\na inv 3 get k\na ok 3 =x', 6, '3', { '=y' })
    yes('a inv 1 put k x\na ok 1\na inv 2 cas k =x x\na ok 2 1\na inv 3 cas k =x x\na ok 3 1')
  end)

  it('del says whether there was something', function()
    yes('a inv 1 del k\na ok 1 0\na inv 2 put k x\na ok 2\na inv 3 del k\na ok 3 1\na inv 4 get k\na ok 4 nil')
    no('a inv 1 del k\na ok 1 1', 2, '1', { 'nil' })
    no('a inv 1 put k x\na ok 1\na inv 2 del k\na ok 2 0', 4, '2', { '=x' })
  end)

  it('append goes on from what is there, or nothing', function()
    yes('a inv 1 append k x\na ok 1\na inv 2 append k yz\na ok 2\na inv 3 get k\na ok 3 =xyz\na inv 4 cas k =xyz n\na ok 4 1')
    yes('a inv 1 append k 1\na ok 1\na inv 2 append k 2\na ok 2\na inv 3 incr k 1\na ok 3 13\na inv 4 append k 4\na ok 4\n'
      .. 'a inv 5 incr k 1\na ok 5 135\na inv 6 get k\na ok 6 =135')
    no('a inv 1 append k x\na ok 1\na inv 2 append k yz\na ok 2\na inv 3 get k\na ok 3 =yzx', 6, '3')
  end)

  it('incr adds to a number, or nothing', function()
    yes('a inv 1 incr k 5\na ok 1 5\na inv 2 incr k -7\na ok 2 -2\na inv 3 get k\na ok 3 =-2\na inv 4 cas k =-2 1\na ok 4 1')
    no('a inv 1 incr k 5\na ok 1 6', 2, '1', { 'nil' })
    yes('a inv 1 incr k 0\na ok 1 0\na inv 2 get k\na ok 2 =0')
  end)

  it('incr cannot happen to what is no number', function()
    for _, value in ipairs { 'x', '007', '1.5', '+1', '-0', '0x1', '1e3', '9223372036854775808', '-', '--1' } do
      no('a inv 1 put k ' .. value .. '\na ok 1\na inv 2 incr k 1\na ok 2', 4, '2', { '=' .. value })
      yes('a inv 1 put k ' .. value .. '\na ok 1\na inv 2 incr k 1\na fail 2\na inv 3 get k\na ok 3 =' .. value)
      yes('a inv 1 put k ' .. value .. '\na ok 1\na inv 2 incr k 1\na info 2\na inv 3 put k 1\na ok 3\na inv 4 get k\na ok 4 =2')
    end
  end)

  it('incr cannot leave 64 bits', function()
    local most, least = '9223372036854775807', '-9223372036854775808'
    yes('a inv 1 incr k ' .. most .. '\na ok 1 ' .. most .. '\na inv 2 incr k ' .. least .. '\na ok 2 -1')
    yes('a inv 1 incr k ' .. least .. '\na ok 1 ' .. least .. '\na inv 2 get k\na ok 2 =' .. least)
    no('a inv 1 put k ' .. most .. '\na ok 1\na inv 2 incr k 1\na ok 2', 4)
    no('a inv 1 put k ' .. least .. '\na ok 1\na inv 2 incr k -1\na ok 2 ' .. most, 4)
  end)
end)

describe('a text that makes no sense', function()
  it('is refused with its line, and what was expected', function()
    bad('1 a', 1, 'expected TIME CLIENT inv|ok|fail|info OPID')
    bad('# x\n\nx a inv 1 get k', 3, "TIME is 'x'; expected a number")
    for _, time in ipairs { '-1', '1.', '.5', '1e3', '1.0000000000', '12345678901234567890', '1,5', '0x1' } do
      bad(time .. ' a inv 1 get k', 1, 'TIME is')
    end
    bad('1 a ink 1 get k', 1, "there is no event 'ink'")
    bad('1 a inv 1 set k v', 1, "there is no operation 'set'; expected get, put")
    bad('1 a inv 1 get', 1, 'expected TIME CLIENT inv OPID OP KEY')
    bad('1 a inv 1 get k v', 1, 'get has 1 arguments')
    bad('1 a inv 1 put k', 1, 'put has 0 arguments after its key; expected TIME CLIENT inv OPID put KEY V')
    bad('1 a inv 1 put k #v', 1, 'put has 0 arguments')
    bad('1 a inv 1 cas k x y', 1, "cas expects 'x'; OLD is nil, or = and the value, like =x")
    bad('1 a inv 1 cas k =x', 1, 'cas has 1 arguments')
    for _, n in ipairs { 'x', '1.5', '+1', '01', '9223372036854775808', '' } do
      bad('1 a inv 1 incr k ' .. n, 1, 'incr')
    end
    bad('1 a inv 1 get k\n2 a inv 1 get k', 2, 'OPID 1 began in line 1 already')
    bad('1 a ok 1', 1, 'OPID 1 never began')
    bad('1 a inv 1 get k\n2 a ok 1 nil\n3 a info 1', 3, 'OPID 1 ended in line 2 already')
    bad('1 a inv 1 get k\n2 b ok 1 nil', 2, 'OPID 1 is of client a')
    bad('5 a inv 1 get k\n4 a ok 1 nil', 2, 'ends before the TIME of its begin, in line 1')
    bad('1 a inv 1 get k\n2 a ok 1 x', 2, "get gave 'x'; expected nil")
    bad('1 a inv 1 get k\n2 a ok 1 =x y', 2, 'more words than expected')
    bad('1 a inv 1 get k\n2 a fail 1 x', 2, 'more words than expected: TIME CLIENT fail OPID')
    bad('1 a inv 1 put k x\n2 a ok 1 x', 2, "put gave 'x'; it gives nothing")
    bad('1 a inv 1 del k\n2 a ok 1 2', 2, "del gave '2'; expected 0, 1 or ?")
    bad('1 a inv 1 cas k nil x\n2 a ok 1 =1', 2, "cas gave '=1'")
    bad('1 a inv 1 incr k 1\n2 a ok 1 =1', 2, "incr gave '=1'")
    bad('1 a inv 1 get k\n2 a ok 1 nil\0', 2, 'byte 13 is a control byte (0)')
    bad('1 a inv 1 get \27[31m', 1, 'control byte (27)')
    bad('1 a inv 1 get k\n2 a ink\200 1', 2, "there is no event 'ink\\xc8'")
  end)

  it('is bounded', function()
    local r = history.check('1 a inv 1 put k ' .. ('x'):rep(1000000) .. '\n2 a ok 1 # \r\n')
    assert.equal('linearizable', r.verdict)
    bad('1 a inv 1 put k ' .. ('x'):rep(1100000), 1, 'the line has 1100016 bytes; expected at most 1048576')
    for _, line in ipairs { '1 %s inv 1 get k', '1 a inv %s get k', '1 a inv 1 get %s' } do
      assert.truthy(history.check(line:format(('x'):rep(1024))))
      bad(line:format(('x'):rep(1025)), 1, 'has 1025 bytes; expected at most 1024')
    end
    bad('1 a inv 1 ' .. ('get '):rep(1000) .. 'k', 1, 'arguments')
  end)

  it('of any bytes is survived', function()
    local random = core.random(5)
    local good = numbered [[a inv 1 put k x
      b inv 2 cas k =x y
      a ok 1
      b ok 2 1
      c inv 3 incr n -5
      c ok 3 -5
      c inv 4 get k
      c ok 4 =y # comment
      a inv 5 append k z
      a info 5
      b inv 6 del k
      b fail 6]]
    local read = 0
    for _ = 1, 5000 do
      local text = good
      for _ = 1, random(4) do
        local at, kind = random(#text), random(4)
        local piece = kind == 1 and string.char(random(0, 255)) or kind == 2 and '' or kind == 3 and text:sub(at, at + random(30))
          or ('0123456789 =nil\n'):sub(random(16)):sub(1, random(3))
        text = text:sub(1, at - 1) .. piece .. text:sub(at + random(0, 3))
      end
      local r, line, why = history.check(text, { steps = 100000 })
      if r then read = read + 1 else assert(line >= 1 and line <= 30 and #why > 10, why) end
    end
    assert(read > 100 and read < 4900, read)
  end)
end)

-- --- agreement ---------------------------------------------------------------------------------------------------------------

local function maker(random)
  local kind = random(5)
  local mixed = { 'get', 'get', 'put', 'append', 'cas', 'incr', 'del' }
  local sets = { { 'get', 'get', 'put' }, { 'get', 'get', 'put', 'cas' }, { 'get', 'append' }, { 'get', 'incr', 'incr' }, mixed }
  local set = sets[kind]
  return function(key)
    local op = { key = key, op = set[random(#set)] }
    if op.op == 'put' or op.op == 'append' then op.a = tostring(random(3)) end
    if op.op == 'incr' then op.a = tostring(random(-1, 2)) end
    if op.op == 'cas' then
      op.a, op.b = random(4) == 1 and 'nil' or '=' .. random(3), tostring(random(3))
    end
    return op
  end
end

-- Changes a result, or moves or drops an event's meaning.
local function mutate(random, events)
  for _ = 1, random(2) do
    local e = events[random(#events)]
    local op = e.op
    if e.what == 'ok' and op.op ~= 'put' and op.op ~= 'append' and random(3) > 1 then
      local n = tostring(random(0, 4))
      if op.op == 'get' then op.result = random(4) == 1 and 'nil' or '=' .. n
      elseif op.op == 'incr' then op.result = n
      else op.result = tostring(random(0, 1)) end
    elseif e.what ~= 'inv' and random(3) == 1 then e.what = ({ 'ok', 'fail', 'info' })[random(3)]
    elseif random(2) == 1 then
      -- Ends an operation earlier.
      local at = random(2, #events)
      if events[at].what ~= 'inv' and events[at - 1].op ~= events[at].op then
        events[at], events[at - 1] = events[at - 1], events[at]
      end
    end
  end
end

local function agree(seed, count, mutated, options)
  local random = core.random(seed)
  local seen = { [true] = 0, [false] = 0 }
  for n = 1, count do
    local events = history.generate(random, random(2, 12), random(6), random(2), random(3) == 1 and 0.4 or 0, maker(random))
    if mutated then mutate(random, events) end
    local text = history.text(events)
    local r, line, why = history.check(text, options)
    assert(r, ('history %d, line %s: %s\n%s'):format(n, line, why, text))
    local fine, shown = history.brute(events)
    seen[fine] = seen[fine] + 1
    if r.verdict ~= (fine and 'linearizable' or 'NOT linearizable') or not fine and (r.events ~= shown or not r.shortest) then
      error(('history %d: %s, %s events; all orders say %s, %s events\n%s'):format(n, r.verdict, r.events, fine, shown, text))
    end
  end
  return seen
end

describe('the search', function()
  it('agrees with trying all orders when it is cut short and looks at a few operations alone', function()
    local seen = agree(13, 8000, true, { first_steps = 2 })
    assert(seen[true] > 700 and seen[false] > 1300, seen[true] .. ' ' .. seen[false])
  end)

  it('agrees with trying all orders on what really happened', function()
    assert.equal(0, agree(11, 3000, false)[false])
  end)

  it('agrees with trying all orders on what was changed, and on the shortest prefix', function()
    local seen = agree(12, 12000, true)
    assert(seen[true] > 1000 and seen[false] > 2000, seen[true] .. ' ' .. seen[false])
  end)
end)

-- --- sizes --------------------------------------------------------------------------------------------------------------------

local function register(random)
  return function(key)
    local kind = random(3)
    if kind == 1 then return { key = key, op = 'get' } end
    if kind == 2 then return { key = key, op = 'put', a = tostring(random(5)) } end
    return { key = key, op = 'cas', a = '=' .. random(5), b = tostring(random(5)) }
  end
end

local function list(random)
  return function(key)
    if random(2) == 1 then return { key = key, op = 'get' } end
    return { key = key, op = 'append', a = random(100) .. ',' }
  end
end

-- The last read but `back` of them gives what is nowhere.
local function spoil(events, back)
  for i = #events, 1, -1 do
    local e = events[i]
    if e.what == 'ok' and e.op.op == 'get' and e.op.result then
      if back == 0 then
        e.op.result = '=nowhere'
        return i
      end
      back = back - 1
    end
  end
end

describe('a large history', function()
  it('of 200,000 operations on 1,000 keys is settled', function()
    local random = core.random(21)
    local events = history.generate(random, 200000, 8, 1000, 0.02, register(random))
    local r = history.check(history.text(events))
    assert.same({ 'linearizable', 200000, 1000 }, { r.verdict, r.ops, r.keys })
    local at = spoil(events, 1000)
    r = history.check(history.text(events))
    assert.same({ 'NOT linearizable', at, true, 0 }, { r.verdict, r.events, r.shortest, r.undecided })
  end)

  it('of 170 events of 6 clients on one key, many unknown, is settled', function()
    local random = core.random(22)
    local wrong = 0
    for n = 1, 60 do
      local events = history.generate(random, 92, 6, 1, 0.3, register(random))
      local r = history.check(history.text(events), { steps = 1e7 })
      assert.equal('linearizable', r.verdict, n)
      local at = spoil(events, n % 5)
      r = history.check(history.text(events), { steps = 1e7 })
      assert.equal('NOT linearizable', r.verdict, n)
      wrong = wrong + (r.events == at and 1 or 0)
    end
    assert.equal(60, wrong)
  end)

  it('on one key takes what its concurrency takes, not its length', function()
    local random = core.random(23)
    local events = history.generate(random, 100000, 4, 1, 0, register(random))
    -- And one operation that lasts all the time.
    local long = { key = 'k1', op = 'put', a = '3', client = 9, id = 'long' }
    table.insert(events, 1, { op = long, what = 'inv' })
    events[#events + 1] = { op = long, what = 'ok' }
    local r = history.check(history.text(events), { bytes = 32 * 1024 * 1024 })
    assert.equal('linearizable', r.verdict)
    local at = spoil(events, 0)
    r = history.check(history.text(events), { bytes = 64 * 1024 * 1024 })
    assert.same({ 'NOT linearizable', at, true }, { r.verdict, r.events, r.shortest })
  end)

  it('of appends, some lost, is settled', function()
    local random = core.random(24)
    local events = history.generate(random, 3000, 6, 1, 0.05, list(random))
    assert.equal('linearizable', history.check(history.text(events), { steps = 1e6 }).verdict)
    local at = spoil(events, 3)
    local r = history.check(history.text(events), { steps = 1e6 })
    assert.same({ 'NOT linearizable', at }, { r.verdict, r.events })
  end)
end)

describe('a long history on one key, some of it lost', function()
  it('is settled if values are written once, as by a stress test', function()
    local random = core.random(25)
    local count, last = 0, 'x'
    local events = history.generate(random, 20000, 4, 1, 0.01, function(key)
      local draw = random(10)
      count = count + 1
      if draw <= 4 then return { key = key, op = 'get' } end
      if draw <= 7 then
        last = 'v' .. count
        return { key = key, op = 'put', a = last }
      end
      if draw <= 9 then return { key = key, op = 'cas', a = '=' .. last, b = 'w' .. count } end
      return { key = key, op = 'del' }
    end)
    assert.equal('linearizable', history.check(history.text(events), { steps = 1e7 }).verdict)
    -- Near the end somebody reads what was read long before.
    local reads = {}
    for i, e in ipairs(events) do
      if e.what == 'ok' and e.op.op == 'get' and e.op.result and e.op.result ~= 'nil' then reads[#reads + 1] = i end
    end
    local at = reads[#reads - 20]
    events[at].op.result = events[reads[#reads - 400]].op.result
    local r = history.check(history.text(events), { steps = 1e7 })
    assert.same({ 'NOT linearizable', at, true }, { r.verdict, r.events, r.shortest })
  end)
end)

describe('a hard history', function()
  -- Which of 40 lost additions make the sum? No order of all of them does, and there are 2^40 choices.
  local lines = {}
  for i = 1, 40 do
    lines[#lines + 1] = ('1 c%d inv h%d incr hard %d'):format(i, i, 1000000 + 7919 * i * i)
  end
  local hard = table.concat(lines, '\n') .. '\n2 r inv r get hard\n3 r ok r =123456789\n'

  it('is unknown when the steps are used up, and says which key', function()
    local r = history.check(hard, { steps = 300000 })
    assert.same({ 'unknown', 1, 'hard' }, { r.verdict, r.undecided, r.key })
    assert(r.steps >= 300000 and r.steps < 310000, r.steps)
    assert.same(r, history.check(hard, { steps = 300000 }))
  end)

  it('is unknown when the memory is used up', function()
    local r = history.check(hard, { bytes = 4 * 1024 * 1024 })
    assert.same({ 'unknown', 1 }, { r.verdict, r.undecided })
    assert(r.steps < 10000000, r.steps)
  end)

  it('does not hide what another key shows, nor take the steps of easy ones', function()
    local r = history.check(hard .. '4 a inv 1 get easy\n5 a ok 1 =x\n', { steps = 300000 })
    assert.same({ 'NOT linearizable', 'easy', false, 1 }, { r.verdict, r.key, r.shortest, r.undecided })
  end)
end)
