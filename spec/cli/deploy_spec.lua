-- deploy, undeploy, code and log replay, as words: one real node under examples/kv.lua.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'
local dir, port, pid

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

local function run(words) return sh(('TIDELOCK_TO=127.0.0.1:%d timeout 30 %s %s 2>&1 < /dev/null'):format(port, BIN, words)) end

local function says(words, status, ...)
  local got, said = run(words)
  assert.equal(status, got, words .. '\n' .. said)
  for _, text in ipairs { ... } do
    assert.truthy(said:find(text, 1, true), ('%s\nwanted: %s\nsaid:   %s'):format(words, text, said))
  end
  return said
end

setup(function()
  local _, name = sh('mktemp -d')
  dir = name:gsub('%s', '')
  local _, free = sh(BIN .. [[ run -e 'print(require("tidelock.sys").free_port())']])
  port = tonumber(free)
  local _, started = sh(('%s start --id 1 --data %s/n1 --listen 127.0.0.1:%d --cluster 1=127.0.0.1:%d --machine examples/kv.lua '
    .. '--heartbeat 20 --election 100 > /dev/null 2> %s/log & echo $!'):format(BIN, dir, port, port, dir))
  pid = tonumber(started:match('%d+'))
  says('status --wait --timeout 10000', 0)
end)

local function stop()
  if pid then sh(('kill %d; while kill -0 %d 2> /dev/null; do sleep 0.05; done'):format(pid, pid)) end
  pid = nil
end

teardown(function()
  stop()
  sh('rm -rf ' .. dir)
end)

describe('tidelock deploy', function()
  it('says what would change, and changes nothing', function()
    says('call kv.set a 1', 0, 'null')
    says('deploy kv=examples/kv_v2.lua --dry-run', 0, 'kv: kv 1 -> kv 2', '~ command cas: key old:any new:any -> key revision:int value:any',
      '+ query cell key', '+ map cells', '- map rows: migrate can read it, then its rows are removed', '~ source kv_v2: ')
    says('code', 0, 'kv 1 ')
    says('call kv.set a 2', 0, 'null')
  end)

  it('refuses what cannot be loaded, and what fails, and nothing changes', function()
    says('deploy kv=' .. write('syntax.lua', 'return {'), 1, 'mend the syntax')
    says('deploy kv=' .. write('crash.lua', 'local _\nfor _ in (nil):foo() do end\nreturn {}\n'), 1, 'LuaJIT itself cannot load this file')
    says('deploy ' .. dir .. '/none.lua', 1, 'none.lua')
    says('deploy', 2, 'deploy one file')
    local head = "return { name = 'kv', version = %d, state = { rows = 'map' }, commands = { x = function() end },\n"
      .. 'migrate = function(ctx) %s end }'
    says('deploy kv=' .. write('fails.lua', head:format(2, 'ctx.db.rows:clear() error("no, no")')), 1, 'SCRIPT_ERROR', 'no, no')
    says('deploy kv=' .. write('old.lua', head:format(1, '')), 6, 'CONFLICT', 'raise it')
    says('deploy kv=' .. write('long.lua', head:format(2, 'for i = 1, 1e6 do end')) .. ' --budget 1000', 1, 'BUDGET')
    says('query kv.get a', 0, '2')
  end)

  it('follows a migration to its end, or to its failure', function()
    local batch = {}
    for i = 1, 900 do batch[i] = ('["kv.set",["k%d",%d]]'):format(i, i) end
    says('call --batch ' .. write('b.json', '[' .. table.concat(batch, ',') .. ']'), 0)
    local head = "return { name = 'kv', version = 2, state = { rows = 'map' }, commands = { x = function() end }, migrate = function(ctx) "
      .. 'for k in ctx.db.rows:pairs(nil, { limit = 100 }) do ctx.db.rows:del(k) end if ctx.db.rows:len() < 500 then error("half way") end '
      .. 'return "more" end }'
    says('deploy kv=' .. write('half.lua', head), 1, 'half way', 'kv is as it was before')
    says('status', 0, 'mount kv: its last migration failed and was taken back: SCRIPT_ERROR: half.lua:1: half way')
    says('query kv.count', 0, '901')
    says('deploy kv=examples/kv_v2.lua', 0, 'kv is version 2 from entry ')
    says('call kv.set a 3', 0, '2')
    says('deploy kv=examples/kv_v2.lua', 0, 'this very code is in force')
    says('deploy kv=examples/kv_v2.lua --json', 0, '"unchanged":true')
  end)

  it('takes a format, and gives it up again', function()
    says('deploy --format examples/formats/jsonl.lua', 0, 'the snapshot format is version 1 from entry ')
    says('code', 0, '(format)         jsonl 1')
    says('deploy --format examples/kv.lua', 1, 'this is a service, not a snapshot format')
    says('deploy --format default', 0, 'snapshots are rows from entry ')
    says('deploy --format default', 0, 'snapshots are rows already')
  end)

  it('takes a membership policy, also one that ships, and gives it up again', function()
    says('deploy --policy manual', 0, 'the policy is manual already')
    local mine = write('mine.lua', "return require 'tidelock.policy'.autopilot { target = 3 }")
    says('deploy --policy ' .. mine .. ' --dry-run', 0, 'the policy: nothing -> ', '+ source mine', '+ source tidelock.policy')
    says('deploy --policy ' .. mine, 0, 'the policy is version 1 from entry ')
    says('deploy --policy ' .. mine, 0, 'the policy: this very code is in force')
    says('code', 0, '(policy)         autopilot 1')
    says('status', 0, 'policy autopilot version 1, code ')
    says('code export "(policy)" ' .. dir .. '/out', 0, dir .. '/out/policy/mine.lua', dir .. '/out/policy/tidelock/policy.lua')
    assert.equal(0, (sh(('cmp lua/tidelock/policy.lua %s/out/policy/tidelock/policy.lua'):format(dir))))
    says('deploy --policy examples/kv.lua', 1, 'this is a service, not a membership policy: give it with --machine')
    says('deploy kv=' .. mine, 1, 'this is a membership policy', 'give it with --policy')
    says('deploy --policy ' .. mine .. ' --format default', 2, 'deploy one file')
    says('deploy --policy ' .. write('even.lua', "return require 'tidelock.policy'.autopilot { target = 4 }"), 1, 'target must be odd')
    says('deploy --policy manual', 0, 'the policy is manual from entry ')
    assert.falsy(says('status', 0):find('policy'))
  end)

  it('has one from the start', function()
    local _, free = sh(BIN .. [[ run -e 'print(require("tidelock.sys").free_port())']])
    local other = tonumber(free)
    local mine = write('other.lua', "return require 'tidelock.policy'.manual")
    local _, started = sh(('%s start --id 1 --data %s/n2 --listen 127.0.0.1:%d --cluster 1=127.0.0.1:%d --machine examples/kv.lua --policy %s '
      .. '--heartbeat 20 --election 100 > /dev/null 2> %s/log2 & echo $!'):format(BIN, dir, other, other, mine, dir))
    local process = tonumber(started:match('%d+'))
    local status, said = sh(('%s status --wait --timeout 10000 --to 127.0.0.1:%d; %s code --to 127.0.0.1:%d'):format(BIN, other, BIN, other))
    sh(('kill %d; while kill -0 %d 2> /dev/null; do sleep 0.05; done'):format(process, process))
    assert.equal(0, status)
    assert.truthy(said:find('(policy)         manual 1', 1, true), said)
    assert.truthy(said:find('kv               kv 1', 1, true), said)
  end)
end)

describe('tidelock undeploy --abort', function()
  it('ends a migration, and who deployed it hears so; until then every name of the mount is BUSY', function()
    write('long.lua', "return { name = 'long', version = 1, state = { n = 'map' }, queries = { old = function() return 1 end } }")
    says('deploy long=' .. dir .. '/long.lua', 0)
    write('long.lua', "return { name = 'long', version = 2, state = { n = 'map' }, queries = { new = function() return 2 end }, "
      .. "migrate = function(ctx) ctx.db.n:add('steps', 1) return 'more' end }")
    sh(('(TIDELOCK_TO=127.0.0.1:%d %s deploy long=%s/long.lua > %s/deployed 2>&1; echo $? > %s/status) > /dev/null 2>&1 & true'):format(
      port, BIN, dir, dir, dir))
    sh(([[for i in $(seq 100); do TIDELOCK_TO=127.0.0.1:%d %s status --json | grep -q '"migration":{' && break; sleep 0.05; done]]):format(
      port, BIN))
    says('call long.old', 3, 'BUSY')
    says('call long.new', 3, 'BUSY')
    says('deploy long=' .. dir .. '/long.lua --dry-run', 0)
    says('undeploy long --abort', 0)
    sh(('for i in $(seq 100); do test -s %s/status && break; sleep 0.05; done'):format(dir))
    local said = select(2, sh(('cat %s/status %s/deployed'):format(dir, dir)))
    assert.truthy(said:find('^6\n'), said)
    assert.truthy(said:find('its migration was ended', 1, true), said)
    says('call long.old', 0, '1')
    says('deploy kv=' .. write('kv.lua', "return { name = 'kv', version = 1, commands = { x = function() end } }") .. ' --dry-run', 6,
      'its version must grow')
    says('undeploy long', 0)
  end)
end)

describe('tidelock code export', function()
  it('gives the sources as they were deployed', function()
    says('code export kv ' .. dir .. '/out', 0, dir .. '/out/kv/kv_v2.lua')
    assert.equal(0, (sh(('cmp examples/kv_v2.lua %s/out/kv/kv_v2.lua'):format(dir))))
    says('code export none ' .. dir .. '/out', 5, 'there is no mount none')
    sh(('echo >> %s/out/kv/kv_v2.lua'):format(dir))
    says('code export kv ' .. dir .. '/out', 1, 'is there already, with other content')
  end)
end)

describe('tidelock undeploy', function()
  it('takes a service away', function()
    says('deploy other=examples/counter.lua', 0, 'other is version 1 from entry ')
    says('call other.add x 5', 0, '5')
    says('undeploy other', 0, 'other is gone')
    says('call other.add x 5', 2, 'UNKNOWN_COMMAND')
    says('undeploy other', 5, 'NOT_FOUND')
    says('undeploy kv --abort', 5, 'no migration of this mount goes on')
  end)
end)

describe('tidelock log replay', function()
  it('gives the answers again, and those of other code', function()
    stop()
    local said = says('log replay ' .. dir .. '/n1', 0, 'command  kv.set ["a",1]  -> null', 'command  kv.set ["a",3]  -> 2')
    assert.truthy(said:find('deploy.-"mount":"kv".-bytes of code  %-> SCRIPT_ERROR: .-no, no'), said)
    says('log replay ' .. dir .. '/n1 --with kv=examples/kv_v2.lua', 1, 'kv.set ["a",1]\n        was  null\n        with 1',
      '4 of 5 commands would have had another answer')
    local same = write('kv.lua', assert(io.open('examples/kv.lua')):read('*a') .. '-- the same\n')
    says('log replay ' .. dir .. '/n1 --with kv=' .. same, 1, 'kv.set ["a",3]\n        was  2\n        with null', '1 of 5 commands')
    says('log replay ' .. dir .. '/n1 --with none=' .. same, 5, 'no mount none ever was in this log')
    says('log replay ' .. dir .. '/none', 1, 'none')
  end)
end)
