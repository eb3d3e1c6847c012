-- A script that drives a cluster on virtual time: one seed fixes all that it sees and writes; its faults do what they say; what it
-- must not have is not there.
local BUILD = os.getenv('TIDELOCK_BUILD') or 'build/release'
local BIN = BUILD .. '/tidelock'

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local dir
setup(function() dir = select(2, sh('mktemp -d')):gsub('%s', '') end)
teardown(function() sh('rm -rf ' .. dir) end)

local function write(name, text)
  local file = assert(io.open(dir .. '/' .. name, 'w'))
  file:write(text)
  file:close()
  return dir .. '/' .. name
end

local function tidelock(words) return sh(('timeout -s KILL 120 %s %s 2>&1'):format(BIN, words)) end

-- Runs the code below an opened cluster `c`; -> exit status, what it wrote.
local function play(code, words)
  local file = write('script.lua', "local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'sim' }\n"
    .. code)
  return tidelock(('sim %s %s'):format(words or '', file))
end

local function gives(code, wanted, words)
  local status, said = play(code, words)
  assert.equal(wanted, said)
  assert.equal(0, status, said)
end

local function fails(code, wanted)
  local status, said = play(code)
  assert.equal(1, status, said)
  assert.truthy(said:find(wanted, 1, true), said)
end

describe('one seed', function()
  it('gives the same bytes again, in every build, and another seed others', function()
    local all = {}
    for _, words in ipairs { 'run --mode sim --seed 1 examples/demos/failover.lua 200',
      'run --mode sim --seed 2 examples/demos/failover.lua 200',
      'sim --seed 3 examples/demos/partition.lua', 'sim --seed 3 --trace examples/demos/partition.lua' } do
      local status, said = sh(('timeout 120 %s %s 2> /dev/null'):format(BIN, words))
      assert.equal(0, status, said)
      assert.truthy(#said > 300, said)
      assert.equal(said, (select(2, sh(('timeout 120 %s %s 2> /dev/null'):format(BIN, words)))), words)
      all[#all + 1] = said
    end
    assert.not_equal(all[1], all[2])
    local file = assert(io.open(BUILD .. '/script.outputs', 'w')) -- spec/support/suite.sh compares it between builds
    file:write(table.concat(all))
    file:close()
  end)

  it('draws the random numbers of the script, too', function()
    local code = 'print(math.random(1000000), math.random(1000000)) print(c:leader().id)'
    local _, one = play(code, '--seed 1')
    local _, again = play(code, '--seed 1')
    local _, two = play(code, '--seed 2')
    assert.equal(one, again)
    assert.not_equal(one, two)
  end)
end)

describe('the demos', function()
  it('lose nothing in a failover', function()
    local status, said = tidelock('run --mode sim --seed 11 examples/demos/failover.lua 300')
    assert.equal(0, status, said)
    assert.truthy(said:find('found on every node (all)', 1, true), said)
  end)

  it('grow and shrink by a policy, and lose nothing', function()
    local status, said = tidelock 'sim examples/demos/grow.lua --seeds 1..3'
    assert.equal(0, status, said)
    assert.truthy(said:find('none failed', 1, true), said)
  end)

  it('tell no lie in a partition, of three nodes and of five', function()
    for nodes, seeds in pairs { [3] = '1..12', [5] = '1..4' } do
      local status, said = tidelock(('sim examples/demos/partition.lua --seeds %s --nodes %d'):format(seeds, nodes))
      assert.equal(0, status, said)
      assert.truthy(said:find('none failed', 1, true), said)
    end
  end)
end)

describe('a script on virtual time', function()
  it('has sorted pairs, virtual time, and no addresses', function()
    gives('for k in pairs { b = 1, a = 1, 7 } do print(k) end print(tostring {}, os.time()) c:sleep(3600000) print(os.time())',
      '1\na\nb\ntable\t1700000001\n1700003601\n')
  end)

  it('may keep what it likes in locals and globals', function()
    gives('local n = 0 local function more() n = n + 1 all = n end more() more() print(n, all)', '2\t2\n')
  end)

  it('reaches nothing outside', function()
    for code, text in pairs { ['io.open("x")'] = 'io.open is not there', ['os.getenv("HOME")'] = "there is no 'getenv' here",
      ['print(jit)'] = "there is no 'jit' here", ['require "ffi"'] = "neither a library 'ffi'",
      ['require "tidelock.sys"'] = 'neither a library', ['print(math.sin(1))'] = "there is no 'sin' here",
      ['print(2 ^ 3)'] = 'script.lua:2: ^ differs', ['setmetatable({}, { __mode = "k" })'] = 'script.lua:2: __mode',
      ['print(coroutine)'] = "there is no 'coroutine' here", ['loadstring("x")'] = "there is no 'loadstring' here" } do
      fails(code, text)
    end
  end)

  it('requires files beside it, once', function()
    write('beside.lua', 'print("loaded", ...) return { three = 3 }')
    gives('print(require("beside").three, require("beside") == require "beside")', 'loaded\tbeside\n3\ttrue\n')
  end)

  it('is ended when it lets no time pass, whatever it catches', function()
    local code = 'while true do pcall(function() while true do end end) end'
    local status, said = tidelock(([[run -e 'print(require("tidelock.scene").play { source = "%s", name = "loop", args = {},
      seconds = 0.3 })']]):format(code))
    assert.equal(0, status, said)
    assert.truthy(said:find('let no virtual time pass', 1, true), said)
  end)

  it('gives its exit status, its arguments and its lines', function()
    local file = write('exit.lua', "print(arg[1], ...) io.write('a', 1, '\\n') return 7")
    assert.same({ 7, 'x\tx\ty\na1\n' }, { tidelock(('run --mode sim %s x y'):format(file)) })
    local status, said = tidelock('sim ' .. write('raise.lua', '\n\nlocal t = nil\nprint(t.x)'))
    assert.equal(1, status)
    assert.truthy(said:find('raise.lua:4: attempt to index', 1, true), said)
    assert.falsy(said:find('0x', 1, true), said)
  end)

  it('is started over from real time before anything has happened, else not', function()
    local code = "local c = require 'tidelock.cluster' { machine = 'examples/kv.lua', mode = 'sim', nodes = 1, seed = 4 } c:leader() "
    assert.same({ 0, '1\t4\n' }, { tidelock('run ' .. write('over.lua', code .. 'print(#c:nodes(), c.seed)')) })
    assert.same({ 0, '2\t9\n' }, { tidelock('run --mode sim --seed 9 --nodes 2 ' .. dir .. '/over.lua') })
    local status, said = tidelock('run ' .. write('late.lua', "print('here')\n" .. code))
    assert.equal(1, status, said)
    assert.truthy(said:find('late.lua:2: cluster: mode \'sim\' starts the script over', 1, true), said)
    assert.truthy(said:find('--mode sim', 1, true), said)
    status, said = tidelock('run --mode live ' .. write('live.lua', code .. 'print(c.mode, c.seed) c:close()'))
    assert.same({ 0, 'live\tnil\n' }, { status, said })
  end)

  it('names the seed that failed', function()
    local file = write('seeds.lua', [[
      local c = require 'tidelock.cluster' { machine = 'examples/kv.lua', mode = 'sim' }
      if c.seed == 3 then error('three') end]])
    local status, said = tidelock(('sim %s --seeds 1..5'):format(file))
    assert.equal(1, status, said)
    assert.truthy(said:find('seeds.lua:2: three', 1, true), said)
    assert.truthy(said:find(('repeat it by: tidelock sim %s --seed 3'):format(file), 1, true), said)
  end)
end)

describe('what a script does at once', function()
  it('runs together, in one order, and its results come back', function()
    gives([[
      local said = {}
      local function work(name, ms) for i = 1, 3 do c:sleep(ms) said[#said + 1] = name .. i end return name, nil, ms end
      local a, b = c:go(work, 'a', 20), c:go(work, 'b', 30)
      print(a:wait()) print(b:wait()) print(table.concat(said, ' '))]], 'a\tnil\t20\nb\tnil\t30\na1 b1 a2 a3 b2 b3\n')
  end)

  it('is no secret when it fails', function()
    gives("local t = c:go(function() c:sleep(5) error('x', 0) end) print(pcall(t.wait, t))", 'false\tx\n')
    fails("c:go(function() c:sleep(5) error('lost', 0) end) c:sleep(100) print('never')", 'lost')
    fails("c:go(function() error('lost', 0) end)", 'lost')
    fails('local t t = c:go(function() c:sleep(1) t:wait() end) t:wait()', 'every task waits for another')
  end)
end)

describe('faults', function()
  it('kill: an answer that did not come is unknown; a restart has what was acknowledged', function()
    gives([[
      local n = c:wait_leader()
      c:call('kv.set', 'a', 1)
      local one = c:go(function() return select(2, c:with { node = n }:call('kv.set', 'b', 1)) end)
      c:kill(n)
      local err = one:wait()
      print(err.code, err.definite)
      for _, each in ipairs(c:nodes()) do if each ~= n then each:kill() end end
      local _, down = c:with { timeout = 300 }:call('kv.set', 'c', 1)
      print(down.code, down.definite)
      for _, each in ipairs(c:nodes()) do each:start() end
      c:wait_equal()
      print(c:query('kv.get', 'a'), c:check_history())]], 'LOST\tfalse\nNO_LEADER\ttrue\n1\tlinearizable\ttable\n')
  end)

  it('pause: a node does nothing, and then what it was asked', function()
    gives([[
      local n = c:wait_leader()
      n:pause()
      local _, err = c:with { node = n, timeout = 100 }:query('kv.get', 'a')
      print(err.code, n:alive(), n:status())
      c:wait_leader { not_node = n }
      n:resume()
      print((c:wait_equal()))
      print(c:node(n.id) == n, c:stop(n), n:alive())]], 'TIMEOUT\ttrue\tnil\n4\ntrue\t0\tfalse\n')
  end)

  it('call gives something true for a command that gives nothing', function()
    gives("assert(c:call('kv.set', 'a', 1)) print((c:query('kv.count')), (c:call('kv.set')))", '1\tnil\n')
  end)

  it('partition and cut: a minority commits nothing, heal ends it', function()
    gives([[
      local n = c:wait_leader()
      c:partition({ n }, 'rest')
      local new = c:wait_leader { not_node = n }
      print(select(2, c:with { node = n, timeout = 2000 }:call('kv.set', 'a', 1)) ~= nil, new ~= n)
      print(c:with { node = new }:call('kv.set', 'a', 2))
      c:heal()
      c:wait_equal()
      print(c:with { node = n }:query('kv.get', 'a'))
      for _, other in ipairs(c:nodes()) do if other ~= n then c:cut(n, other) end end
      c:call('kv.set', 'a', 3)
      print(pcall(c.wait_equal, c, { within = 500 }))]],
      'true\ttrue\ntrue\tnil\t5\n2\tnil\t5\nfalse\twaited 500 ms for all nodes equal\n')
  end)

  it('corrupt: names where, and a node that finds it says so', function()
    gives([[
      c:wait_leader()
      for i = 1, 5 do c:call('kv.set', 'a', i) end
      c:wait_equal()
      print(pcall(c.corrupt, c, 1, { file = 'log' }))
      c:kill(1)
      print(c:corrupt(1, { file = 'log', at = 4100, bytes = 4 }))
      print(c:corrupt(1, { file = 'vote' }))
      c:start(1)
      print(c:node(1):alive(), c:node(1):failed():match('^node 1 ended: file log%-00000001, offset 4096'))
      print(pcall(c.wait_equal, c) )]], [[
false	corrupt: node 1 runs: stop or kill it first
log-00000001 at 4100
vote at 4135
false	node 1 ended: file log-00000001, offset 4096
false	node 1 ended: file log-00000001, offset 4096: a frame's header does not agree with its checksum; the log is damaged, ]]
      .. 'so this node must not vote with it: restore the file, or set the directory aside and let the node join anew\n')
  end)

  it('are refused where they make no sense', function()
    for code, text in pairs { ['c:partition({ 1 }, { 1 })'] = 'node 1 is in two groups', ['c:partition(1)'] = 'takes lists of nodes',
      ['c:kill(9)'] = 'script.lua:2: there is no node 9', ['c:kill(1) c:kill(1)'] = 'node 1 does not run',
      ['c:start(1)'] = 'node 1 runs already', ['c:corrupt(1, { file = "x" })'] = "file is 'log' or 'vote'",
      ['c:with { time = 1 }'] = 'unknown key time', ['c:cut(1, 1)'] = 'takes two nodes', ['c:lose(2)'] = 'share' } do
      fails(code, text)
    end
  end)
end)

describe('check_history', function()
  it('raises what nothing explains, and does not judge nothing', function()
    fails("c:call('kv.set', 'a', 1) c:call('kv.del', 'a') c:query('kv.get', 'a') "
      .. "c:check_history { ['kv.set'] = function(k, v) return 'put', k, v end, ['kv.get'] = function(k) return 'get', k end }",
      'NOT linearizable: key a')
    fails('c:check_history()', 'none of the calls is one that it knows')
  end)

  it('leaves out what was refused because it makes no sense', function()
    gives("c:call('kv.set', 'a', 1) c:call('kv.set') c:call('kv.set', 'a') print((c:check_history()))", 'linearizable\n')
  end)

  it('knows kv.lua, with all that it refuses', function()
    gives([[
      c:call('kv.cas', 'a b', 1, 2) c:call('kv.set', 'a b', { 1, 'x y' }) c:call('kv.set', 'n', 1) c:call('kv.set', 'n', '1', true)
      c:call('kv.cas', 'n', '1', 2) c:call('kv.cas', 'n', 1, 'two') c:query('kv.get', 'n') c:query('kv.get', 'a b')
      c:call('kv.del', 'n') c:call('kv.del', 'n') c:query('kv.get', 'n') c:query('kv.count')
      local verdict, report = c:check_history()
      print(verdict, report.operations, report.keys)]], 'linearizable\t11\t2\n')
  end)
end)

describe('report', function()
  it('is one page without anything from outside, its text escaped', function()
    local status, said = play(([[
      local n = c:wait_leader()
      c:step('<script>&"', function() n:kill() end)
      c:wait_leader()
      c:call('kv.set', 'a', 1) c:call('kv.set', 'a', 1, true)
      c:report { html = '%s/r.html', title = '<b>' }]]):format(dir))
    assert.equal(0, status, said)
    local file = assert(io.open(dir .. '/r.html'))
    local page = file:read('*a')
    file:close()
    assert.truthy(page:find('<h1>&lt;b&gt;</h1>', 1, true))
    assert.truthy(page:find('&lt;script&gt;&amp;&quot;', 1, true))
    assert.truthy(page:find('node %d: leader, term 2'))
    assert.truthy(page:find('Calls: 1 ok, 1 refused, 0 with an unknown outcome.', 1, true))
    for _, bad in ipairs { '<script', 'http:', 'https:', 'src=', 'href=', 'url%(', '@import' } do assert.falsy(page:find(bad), bad) end
    assert.truthy(page:find('</html>\n$'))
  end)

  it('is written by --html, also of a script that fails', function()
    for code, text in pairs { ["c:note('well') c:close()"] = 'well', ["c:note('ill') error('no luck')"] = 'ill' } do
      local path = dir .. '/option.html'
      local status, said = play(code, '--html ' .. path)
      local plain, told = play(code)
      assert.equal(plain, status)
      assert.equal(told:gsub(': in [^\n]*', ''), said:gsub(': in [^\n]*', '')) -- what a frame of ours is called does not count
      local file = assert(io.open(path))
      assert.truthy(file:read('*a'):find(text, 1, true))
      file:close()
      os.remove(path)
    end
    local status, said = tidelock('sim examples/kv.lua --html x.html')
    assert.equal(2, status)
    assert.truthy(said:find('--html is for a script', 1, true), said)
  end)

  it('does not begin with more nodes than there can be', function()
    local status, said = tidelock('run --mode sim --nodes 9 examples/demos/failover.lua')
    assert.equal(1, status)
    assert.truthy(said:find('nodes must be a whole number from 1 to 7', 1, true), said)
  end)
end)
