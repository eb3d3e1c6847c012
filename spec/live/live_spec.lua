-- live_spec.lua: real processes on loopback, driven by scripts that the binary itself runs.
local tidelock = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local function run(words)
  local pipe = assert(io.popen('timeout 300 ' .. tidelock .. ' ' .. words .. ' 2>&1; echo "exit $?"'))
  local text = pipe:read('*a')
  pipe:close()
  return tonumber(text:match('exit (%d+)%s*$')), text
end

describe('three real nodes', function()
  it('lose nothing when the leader is killed', function()
    local code, text = run('run examples/demos/failover.lua 1000')
    assert.equal(0, code, text)
    assert.truthy(text:find('%d+ acknowledged writes, %d+ found on every node %(all%)'), text)
  end)

  it('lose nothing when all are killed at once under load', function()
    local code, text = run('run spec/live/kill_loop.lua ' .. (os.getenv('LOOPS') or '5'))
    assert.equal(0, code, text)
  end)

  it('cut their logs, and bring back who was down meanwhile, whatever is killed', function()
    local code, text = run('run spec/live/snapshots.lua ' .. (os.getenv('ROWS') or '200'))
    assert.equal(0, code, text)
  end)

  it('take new code under load, at one entry', function()
    local code, text = run('run spec/live/rolling_deploy.lua')
    assert.equal(0, code, text)
    assert.truthy(text:find('answers, none failed', 1, true), text)
  end)

  it('run a session\'s commands once, tell events once, fire timers once, and go on past what parks them', function()
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute('mkdir ' .. dir) == 0)
    local pipe = assert(io.popen(('TIDELOCK_LUA_BYTES_MAX=67108864 timeout 300 %s run spec/live/lua_contract.lua %s 2>&1; echo "exit $?"')
      :format(tidelock, dir)))
    local text = pipe:read('*a')
    pipe:close()
    os.execute('rm -rf ' .. dir)
    assert.equal(0, tonumber(text:match('exit (%d+)%s*$')), text)
  end)

  it('survive thousands of random and mutated frames', function()
    local code, text = run('run spec/live/garbage.lua 5000')
    assert.equal(0, code, text)
  end)

  it('keep within bounds, and serve others, when clients ask for more than they read', function()
    local code, text = run('run spec/live/slow_readers.lua 6')
    assert.equal(0, code, text)
  end)
end)

describe('the command line', function()
  for words, code in pairs { [''] = 2, ['help'] = 0, ['version'] = 0, ['nonsense'] = 2, ['call'] = 2, ['start'] = 2,
    ['start --id 1 --data /tmp/none.tidelock --listen 0.0.0.0:7399'] = 78, ['status --to 127.0.0.1:1'] = 3,
    ['call kv.set a 1 --to 127.0.0.1:1 --timeout 200'] = 3, ['check examples/kv.lua examples/bank.lua'] = 0,
    ['check spec/live/live_spec.lua'] = 1, ['log cat /nowhere'] = 1, ['start --bogus 1'] = 2, ['dev'] = 2 } do
    it('ends "' .. words .. '" with ' .. code, function()
      local got, text = run(words)
      assert.equal(code, got, text)
    end)
  end

  it('lives through a file that crashes LuaJIT, and refuses it', function()
    local name = os.tmpname()
    local path = name .. '.lua'
    local file = assert(io.open(path, 'w'))
    file:write('local _\nfor _ in (nil):foo() do end\nreturn {}\n')
    file:close()
    local checked, why = run('check m=' .. path)
    local started, also = run('start --id 1 --data /tmp/none.tidelock --listen 127.0.0.1:7399 --cluster 1=127.0.0.1:7399 --machine m=' .. path)
    os.remove(path)
    os.remove(name)
    assert.equal(1, checked, why)
    assert.equal(78, started, also)
    assert.truthy(why:find('LuaJIT itself cannot load this file', 1, true), why)
  end)
end)
