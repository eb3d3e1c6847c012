-- tidelock history check, and tidelock.history for scripts.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'
local dir

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local function write(name, text)
  local file = assert(io.open(dir .. '/' .. name, 'w'))
  file:write(text)
  file:close()
  return dir .. '/' .. name
end

local function check(words) return sh(('timeout 60 %s history check %s 2>&1'):format(BIN, words)) end

local good, wrong, hard, bad

setup(function()
  local _, name = sh('mktemp -d')
  dir = name:gsub('%s', '')
  good = write('good.txt', '# fine\n1 a inv 1 put k x\n2 a ok 1\n3 b inv 2 get k\n4 b ok 2 =x\n')
  wrong = write('wrong.txt', '1 a inv 1 put k x\n2 a ok 1\n3 c inv 4 put other 1\n4 b inv 2 get k\n5 b ok 2 nil\n6 c ok 4\n')
  bad = write('bad.txt', '1 a inv 1 put k x\n2 a okay 1\n')
  local lines = {}
  for i = 1, 40 do lines[i] = ('1 c%d inv h%d incr hard %d\n'):format(i, i, 1000000 + 7919 * i * i) end
  hard = write('hard.txt', table.concat(lines) .. '2 r inv r get hard\n3 r ok r =123456789\n')
end)

teardown(function() sh('rm -rf ' .. dir) end)

describe('tidelock history check', function()
  it('gives a verdict a file', function()
    local status, said = check(good)
    assert.same({ 0, good .. ': linearizable: 2 operations, keys: 1\n' }, { status, said })
    status, said = check(wrong)
    assert.equal(1, status)
    assert.equal(wrong .. ': NOT linearizable: key k, by the first 5 of 6 events, to line 5\n  line 1: 1 a inv 1 put k x\n'
      .. '  line 2: 2 a ok 1\n  line 4: 4 b inv 2 get k\n  line 5: 5 b ok 2 nil\n'
      .. '  operation 2 cannot have happened with this result: key k can have been =x\n', said)
    status, said = check('--timeout 0.2 ' .. hard)
    assert.same({ 2, hard .. ': unknown: key hard is too hard to decide within the limits; 1 key is undecided\n' }, { status, said })
    status, said = check(bad)
    assert.same({ 3, "tidelock: " .. bad .. ":2: there is no event 'okay'; expected inv, ok, fail or info\n" }, { status, said })
    status, said = check('- < ' .. good)
    assert.same({ 0, '-: linearizable: 2 operations, keys: 1\n' }, { status, said })
    status, said = check('/nowhere/h.txt')
    assert.same({ 3, 'tidelock: /nowhere/h.txt: No such file or directory\n' }, { status, said })
  end)

  it('ends with the worst of its files', function()
    for words, status in pairs { [good .. ' ' .. good] = 0, [good .. ' ' .. wrong] = 1, [wrong .. ' ' .. bad .. ' ' .. good] = 3,
      [hard .. ' ' .. good] = 2, [hard .. ' ' .. wrong] = 1, [hard .. ' ' .. bad] = 3 } do
      assert.equal(status, (check('--timeout 0.1 ' .. words)), words)
    end
  end)

  it('has a form for programs', function()
    local status, said = check('--json --timeout 0.1 ' .. table.concat({ good, wrong, bad, hard }, ' '))
    assert.equal(3, status)
    local lines = {}
    for line in said:gmatch('[^\n]+') do lines[#lines + 1] = line end
    assert.equal(4, #lines, said)
    assert.truthy(lines[1]:find('"operations":2,"undecided":0,"verdict":"linearizable"}', 1, true), said)
    for _, part in ipairs { '"key":"k"', '"line":5', '"lines":[1,2,4,5]', '"opid":"2"', '"prefix":5', '"shortest":true',
      '"states":["=x"]', '"verdict":"NOT linearizable"' } do
      assert.truthy(lines[2]:find(part, 1, true), lines[2])
    end
    assert.truthy(lines[3]:find('"error":"there is no event', 1, true) and lines[3]:find('"line":2', 1, true), lines[3])
    assert.truthy(lines[4]:find('"key":"hard"', 1, true) and lines[4]:find('"verdict":"unknown"', 1, true), lines[4])
  end)

  it('says how it is used', function()
    for words, text in pairs { [''] = 'check which file?', ['--timeout 0 x'] = 'wants seconds', ['--timeout x x'] = 'wants seconds' } do
      local status, said = check(words)
      assert.equal(2, status)
      assert.truthy(said:find(text, 1, true), said)
    end
    local status, said = sh(BIN .. ' history chek x 2>&1')
    assert.equal(2, status)
    assert.truthy(said:find('history check FILE...', 1, true), said)
  end)

  it('does not let a file steer a terminal', function()
    local _, said = check(write('esc.txt', '1 a \27[31m 1 get k\n'))
    assert.truthy(said:find('control byte (27)', 1, true) and not said:find('\27', 1, true), said)
  end)
end)

describe('tidelock.history', function()
  local function script(code)
    return sh(('timeout 60 %s run %s 2>&1'):format(BIN, write('script.lua', "local history = require 'tidelock.history'\n" .. code)))
  end

  it('writes what a client does, and judges it', function()
    local status, said = script [[
      local t = 0
      local h = history.new(function() t = t + 0.5 return t end)
      local op = h:inv('c', 'put', 'k', 7)
      h:ok(op)
      op = h:inv('c', 'get', 'k')
      h:ok(op, 7)
      op = h:inv('c', 'get', 'none')
      h:ok(op, nil)
      op = h:inv('c', 'cas', 'k', '7', 'x')
      h:ok(op, true)
      op = h:inv('c', 'cas', 'none', nil, 'x')
      h:ended(op, nil, { code = 'LOST', definite = false })
      op = h:inv('c', 'incr', 'n', -2)
      h:ok(op, -2)
      op = h:inv('c', 'append', 'k', 'y')
      h:ended(op, nil, { code = 'BUSY', definite = true })
      op = h:inv('c', 'del', 'k')
      h:ended(op, true)
      op = h:inv('c', 'get', 'k')
      h:ended(op, nil, { code = 'NOT_FOUND', definite = true })
      op = h:inv('c', 'cas', 'k', '7', 'x')
      h:ended(op, nil, { code = 'CONFLICT', definite = true })
      op = h:inv('c', 'get', 'k')
      h:ok(op, history.unchecked)
      io.write(h:text(), history.explain('h', history.check(h:text())))]]
    assert.equal(0, status, said)
    assert.equal([[
0.500000000 c inv c.1 put k 7
1.000000000 c ok c.1
1.500000000 c inv c.2 get k
2.000000000 c ok c.2 =7
2.500000000 c inv c.3 get none
3.000000000 c ok c.3 nil
3.500000000 c inv c.4 cas k =7 x
4.000000000 c ok c.4 1
4.500000000 c inv c.5 cas none nil x
5.000000000 c info c.5
5.500000000 c inv c.6 incr n -2
6.000000000 c ok c.6 -2
6.500000000 c inv c.7 append k y
7.000000000 c fail c.7
7.500000000 c inv c.8 del k
8.000000000 c ok c.8 1
8.500000000 c inv c.9 get k
9.000000000 c ok c.9 nil
9.500000000 c inv c.10 cas k =7 x
10.000000000 c ok c.10 0
10.500000000 c inv c.11 get k
11.000000000 c ok c.11
h: linearizable: 11 operations, keys: 3
]], said)
  end)

  it('goes on with a file, each line there at once', function()
    local path = dir .. '/h.txt'
    local code = ([[
      local h = assert(history.open(%q))
      local op = h:inv(%%q, 'put', 'k', 'v')
      h:ok(op)
      local n = select(2, h:text():gsub('\n', ''))
      io.write(n, ' ')
      h:inv(%%q, 'del', 'k')
      os.exit(9)]]):format(path)
    local status, said = script(code:format('a', 'a'))
    assert.same({ 9, '2 ' }, { status, said })
    status, said = script(code:format('b', 'b'))
    assert.same({ 9, '5 ' }, { status, said })
    assert.same({ 0, path .. ': linearizable: 4 operations, keys: 1\n' }, { check(path) })
    status, said = script("print(history.open('/nowhere/h'))")
    assert.equal('nil\t/nowhere/h: No such file or directory\n', said, status)
  end)

  it('refuses what lin1 cannot hold, where it was called', function()
    for code, text in pairs { ["h:inv('c', 'put', 'k', 'a b')"] = 'a value must be text without blanks',
      ["h:inv('c', 'put', 'k')"] = 'a value must be text', ["h:inv('c', 'get', '#k')"] = 'a key must be text',
      ["h:inv('c', 'get', '')"] = 'a key must be text', ["h:inv('', 'get', 'k')"] = 'a client must be text',
      ["h:inv('c', 'set', 'k', 1)"] = 'there is no operation set', ["h:ok('c.1')"] = 'c.1 never began, or has ended',
      ["h:ok(h:inv('c', 'get', 'k'), 'a\\n')"] = 'a value must be text' } do
      local status, said = script('local h = history.new()\n' .. code)
      assert.equal(1, status, code)
      assert.truthy(said:find(text, 1, true) and said:find('script.lua:3:', 1, true), code .. '\n' .. said)
    end
  end)
end)
