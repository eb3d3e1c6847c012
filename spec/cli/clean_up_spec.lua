-- What dev and scripts start is gone when they end, however they end; mistakes in cluster{...} start nothing.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local home
setup(function() home = select(2, sh('mktemp -d')):gsub('%s', '') end)
teardown(function() sh('rm -rf ' .. home) end)

-- Nothing of ours is left: no process with the directory in its words, no file in it.
local function clean(what)
  assert.equal('', select(2, sh('ls -d ' .. home .. '/tidelock.* 2> /dev/null')), what)
  assert.equal('', select(2, sh(("pgrep -af '[s]tart --id .* --data %s/'"):format(home))), what)
end

describe('dev', function()
  for _, signal in ipairs { 'INT', 'TERM', 'HUP', 'QUIT' } do
    it('cleans up at SIG' .. signal, function()
      local log = home .. '/out.' .. signal
      local status, said = sh(([[TMPDIR=%s timeout -s KILL 20 %s dev examples/kv.lua --nodes 1 > %s 2>&1 & p=$!
        for i in $(seq 200); do grep -q 'call kv' %s && break; sleep 0.05; done
        child=$(cat /proc/$p/task/$p/children); kill -%s $child; wait $p]]):format(home, BIN, log, log, signal))
      assert.equal(130, status, said .. (select(2, sh('cat ' .. log))))
      clean(signal)
    end)
  end
end)

describe('cluster{...}', function()
  local function run(code) return sh(("TMPDIR=%s timeout -s KILL 20 %s run -e '%s' 2>&1"):format(home, BIN, code)) end

  it('refuses mistakes at the line that made them', function()
    for code, text in pairs {
      ['{ nods = 3, machine = "examples/kv.lua" }'] = '-e:1: cluster: unknown key nods',
      ['{ nodes = 0, machine = "examples/kv.lua" }'] = '-e:1: cluster: nodes must be a whole number from 1 to 9',
      ['{ nodes = 1 }'] = "-e:1: cluster: no machine",
      ['{ machine = "examples/kv.lua", mode = "fast" }'] = "-e:1: cluster: mode 'fast' is not there",
    } do
      local status, said = run('require "tidelock.cluster" ' .. code .. ' print(1)')
      assert.equal(1, status, said)
      assert.truthy(said:find(text, 1, true), said)
      clean(code)
    end
  end)

  it('leaves nothing behind when the script exits, or a signal ends it', function()
    local status, said = run('require "tidelock.cluster" { nodes = 1, machine = "examples/kv.lua" }:wait_leader() os.exit(7)')
    assert.equal(7, status, said)
    clean('exit')
    local log = home .. '/out.run'
    local code = 'local c = require "tidelock.cluster" { nodes = 1, machine = "examples/kv.lua" } c:wait_leader() print("up") '
      .. 'io.stdout:flush() while true do c:sleep(50) end'
    for signal, code_wanted in pairs { INT = 130, TERM = 130, HUP = 130, KILL = 137 } do
      os.remove(log) -- what the one before said is not for this one
      status, said = sh(([[TMPDIR=%s timeout -s KILL 20 %s run -e '%s' > %s 2>&1 & p=$!
        for i in $(seq 200); do grep -q up %s && break; sleep 0.05; done
        child=$(cat /proc/$p/task/$p/children); kill -%s $child; wait $p]]):format(home, BIN, code, log, log, signal))
      if signal == 'KILL' then -- nobody could remove the directory; but the nodes end
        sh(("for i in $(seq 100); do pgrep -f '[s]tart --id .* --data %s/' > /dev/null || break; sleep 0.05; done; rm -rf %s/tidelock.*")
          :format(home, home))
      else assert.equal(code_wanted, status, said .. (select(2, sh('cat ' .. log)))) end
      clean(signal)
    end
  end)

  it('leaves nothing behind when the script fails', function()
    local status, said = run('require "tidelock.cluster" { nodes = 1, machine = "examples/kv.lua" }:wait_leader() error("x")')
    assert.equal(1, status, said)
    assert.truthy(said:find('-e:1: x', 1, true), said)
    clean('error')
  end)
end)

describe('status', function()
  it('waits for all nodes at once', function()
    local code = [[local sys = require "tidelock.sys"
      local c = require "tidelock.cluster" { nodes = 4, machine = "examples/kv.lua" }
      c:wait_equal()
      for id = 2, 4 do c:node(id):pause() end
      local began, gather = sys.now(), require "cli.status".gather
      local list = gather(c:node(1):address(), 1000)
      local took = sys.now() - began
      for id = 2, 4 do c:node(id):resume() end
      print(#list, list[1].id, list[2].down, list[3].down, list[4].down, took < 2)]]
    local status, said = sh(("TMPDIR=%s timeout -s KILL 30 %s run -e '%s' 2>&1"):format(home, BIN, code))
    assert.equal(0, status, said)
    assert.equal('4\t1\ttrue\ttrue\ttrue\ttrue\n', said)
    clean('status')
  end)
end)
