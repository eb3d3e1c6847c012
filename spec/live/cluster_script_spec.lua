-- What scripts on virtual time can do (spec/sim/cluster_script_spec.lua), on real processes: the same verbs, and a clear refusal of
-- what only the simulator can make.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

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

local function play(code)
  local file = assert(io.open(dir .. '/script.lua', 'w'))
  file:write("local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, flags = { '--heartbeat', '30', "
    .. "'--election', '300' } }\n" .. code)
  file:close()
  return sh(('TMPDIR=%s timeout -s KILL 60 %s run %s/script.lua 2>&1'):format(dir, BIN, dir))
end

describe('a script on real processes', function()
  it('has tasks, faults, a history and a report', function()
    local status, said = play(([[
      local n = c:wait_leader()
      local over, done = false, 0
      local function work(name)
        local count = 0
        while not over do
          count = count + 1
          local key = 'k' .. count %% 3
          if count %% 2 == 0 then c:query('kv.get', key) else c:call('kv.set', key, name .. count) end
          c:sleep(2)
        end
        return count
      end
      local tasks = { c:go(work, 'a'), c:go(work, 'b'), c:go(work, 'c') }
      c:sleep(300)
      n:pause()
      local new = c:wait_leader { not_node = n }
      print('another leads', new ~= n)
      c:sleep(300)
      n:resume()
      c:kill(new)
      c:sleep(300)
      c:start(new)
      over = true
      for _, task in ipairs(tasks) do done = done + task:wait() end
      c:wait_equal()
      print('worked', done > 50)
      print(c:wait_commit() > 20, #c:members(), c:members()[1].up)
      print((c:check_history()))
      c:report { html = '%s/r.html' }
      local _, err = c:with { node = 1, timeout = 300 }:call('kv.cas', 'none', 1, 2)
      print(err.code, c:with { node = 2, read = 'stale' }:query('kv.get', 'k1') ~= nil)]]):format(dir))
    assert.equal('another leads\ttrue\nworked\ttrue\ntrue\t3\ttrue\nlinearizable\nNOT_FOUND\ttrue\n', said)
    assert.equal(0, status)
    local file = assert(io.open(dir .. '/r.html'))
    local page = file:read('*a')
    file:close()
    assert.truthy(page:find('on real processes', 1, true))
    assert.truthy(page:find('kill node %d'))
  end)

  it('spoils bytes of a stopped node, which says so and does not run', function()
    local status, said = play([[
      c:wait_leader()
      c:call('kv.set', 'a', 1)
      c:wait_equal()
      print(pcall(c.corrupt, c, 1, { file = 'log' }))
      print(c:stop(1))
      print(c:corrupt(1, { file = 'log', at = 4100, bytes = 4 }))
      c:start(1)
      for _ = 1, 200 do if not c:node(1):alive() then break end c:sleep(20) end
      print(pcall(c.wait_equal, c))]])
    assert.equal(0, status, said)
    assert.truthy(said:find('^false\tcorrupt: node 1 runs: stop or kill it first\n0\nlog%-00000001 at 4100\nfalse\t'), said)
    assert.truthy(said:find('node 1 ended with %d+: [^\n]*log%-00000001'), said)
  end)

  it('cuts links: a minority commits nothing, and follows when it is healed', function()
    local status, said = play([[
      local n = c:wait_leader()
      c:call('kv.set', 'a', 1)
      c:partition({ n }, 'rest')
      local new = c:wait_leader { not_node = n }
      local value, err = c:with { node = n, timeout = 1000 }:call('kv.set', 'a', 2)
      print(new ~= n, value, err ~= nil)
      print((c:with { node = new }:call('kv.set', 'a', 3)))
      print(pcall(c.wait_equal, c, { within = 500 }))
      c:heal()
      c:wait_equal()
      print((c:with { node = n }:query('kv.get', 'a')))
      local before = n:status().term
      for _, other in ipairs(c:nodes()) do if other ~= new then c:cut(new, other) end end
      c:wait_leader { not_node = new }
      c:heal()
      c:wait_equal()
      print(n:status().term > before, (c:check_history()))]])
    assert.equal('true\tnil\ttrue\ntrue\nfalse\twaited 500 ms for all nodes equal\n3\ntrue\tlinearizable\n', said)
    assert.equal(0, status)
  end)

  it('loses, doubles, turns round and delays what nodes say, and they live with it', function()
    local status, said = play([[
      c:wait_leader()
      local began = c:time()
      for i = 1, 20 do assert(not select(2, c:call('kv.set', 'a', i))) end
      local quick = c:time() - began
      c:slow { links = 40 }
      began = c:time()
      for i = 1, 20 do assert(not select(2, c:call('kv.set', 'a', i))) end
      print(c:time() - began > quick + 200)
      c:heal()
      c:lose { lost = 0.1, doubled = 0.2, overtaken = 0.1 }
      for i = 1, 100 do c:call('kv.set', 'k' .. i % 5, i) end
      c:heal()
      c:wait_equal()
      for i = 0, 4 do c:query('kv.get', 'k' .. i) end
      print((c:check_history()))]])
    assert.equal('true\nlinearizable\n', said)
    assert.equal(0, status)
  end)

  it('refuses what only the simulator can make, by name', function()
    local status, said = play([[
      local faults = { { 'slow', 1, { disk = 1 } }, { 'skew', 1, 5 }, { 'fill_disk', 1 } }
      for _, fault in ipairs(faults) do print(select(2, pcall(c[fault[1] ], c, unpack(fault, 2)))) end
      c:heal()
      c:close()
      local direct = require 'tidelock.cluster' { nodes = 2, machine = 'examples/kv.lua', direct = true }
      direct:wait_leader()
      print(pcall(direct.partition, direct, { 1 }, 'rest'))]])
    assert.equal(0, status, said)
    for _, verb in ipairs { 'slow', 'skew', 'fill_disk' } do
      assert.truthy(said:find(verb .. ": this fault is made on virtual time only: mode = 'sim'", 1, true), said)
    end
    assert.truthy(said:find('false\t[^\n]*partition: nothing stands between the nodes'), said)
  end)

  it('fails by what a task failed with', function()
    local status, said = play("c:go(function() c:sleep(20) error('lost') end) c:sleep(1000) print('never')")
    assert.equal(1, status)
    assert.truthy(said:find('script.lua:2: lost', 1, true), said)
    assert.falsy(said:find('never', 1, true), said)
    assert.equal('', select(2, sh('ls -d ' .. dir .. '/tidelock.* 2> /dev/null')))
  end)
end)
