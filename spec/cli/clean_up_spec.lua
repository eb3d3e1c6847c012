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
      ['{ machine = "examples/kv.lua", mode = "sim" }'] = "-e:1: cluster: mode 'sim' is not there",
    } do
      local status, said = run('require "tidelock.cluster" ' .. code .. ' print(1)')
      assert.equal(1, status, said)
      assert.truthy(said:find(text, 1, true), said)
      clean(code)
    end
  end)

  it('leaves nothing behind when the script fails', function()
    local status, said = run('require "tidelock.cluster" { nodes = 1, machine = "examples/kv.lua" }:wait_leader() error("x")')
    assert.equal(1, status, said)
    assert.truthy(said:find('-e:1: x', 1, true), said)
    clean('error')
  end)
end)
