-- The command line as a newcomer meets it: one real node under examples/kv.lua, words in, words and exit codes out.
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

-- Runs tidelock with words; -> exit status, what it wrote on both streams
local function run(words) return sh(('TIDELOCK_TO=127.0.0.1:%d timeout 20 %s %s 2>&1'):format(port, BIN, words)) end

-- Expects the status, and the text somewhere in what was written.
local function says(words, status, text)
  local got, said = run(words)
  assert.equal(status, got, words .. '\n' .. said)
  assert.truthy(said:find(text, 1, true), ('%s\nwanted: %s\nsaid:   %s'):format(words, text, said))
end

-- Expects exactly this line.
local function gives(words, line)
  local got, said = run(words)
  assert.equal(line .. '\n', said, words)
  assert.equal(0, got, words)
end

setup(function()
  local _, name = sh('mktemp -d')
  dir = name:gsub('%s', '')
  local _, free = sh(BIN .. [[ run -e 'print(require("tidelock.sys").free_port())']])
  port = tonumber(free)
  local _, started = sh(('%s start --id 1 --data %s/n1 --listen 127.0.0.1:%d --cluster 1=127.0.0.1:%d --machine examples/kv.lua '
    .. '--heartbeat 20 --election 100 > /dev/null 2> %s/log & echo $!'):format(BIN, dir, port, port, dir))
  pid = tonumber(started:match('%d+'))
  local status, said = run('status --wait --timeout 10000')
  assert.equal(0, status, said)
end)

teardown(function()
  sh(('kill %d; while kill -0 %d 2> /dev/null; do sleep 0.05; done; rm -rf %s'):format(pid, pid, dir))
end)

describe('call and query', function()
  it('give back what was put, as it was typed', function()
    for _, case in ipairs { { '0.1', '0.1' }, { '0.30000000000000004', '0.30000000000000004' }, { '12', '12' }, { '-7.5', '-7.5' },
      { '1e400', '1e400' }, { '007', '007' }, { '12345678901234567890', '12345678901234567890' }, { 'teal', 'teal' },
      { "'[1,true,\"x\"]'", '[1,true,"x"]' }, { "'{\"b\":1,\"a\":null}'", '{"b":1}' },
      { "'{\"$base64\":\"AAEC/w==\"}'", '{"$base64":"AAEC/w=="}' }, { "''", '' } } do
      gives('call kv.set a ' .. case[1], 'null')
      gives('query kv.get a', case[2])
    end
    gives('call kv.set a 12 --text', 'null')
    local _, said = run('query kv.get a --json')
    assert.truthy(said:find('^{"ok":"12","index":%d+}\n$'), said)
  end)

  it('print a list of answers with null in it', function()
    says('call --batch ' .. write('b.json', '[["kv.set",["b",1]],["kv.get",["b"]]]'), 2, 'kv.get is a query')
    gives('call --batch ' .. write('b.json', '[["kv.set",["b",1]],["kv.set",["c",2]]]'), '[null,null]')
  end)

  it('refuse what cannot be meant before it is sent', function()
    says("call kv.set a '[1,null]'", 2, 'null in a list')
    says("call kv.set a '{\"x\":1e400}'", 2, 'must be a number')
    says("call kv.set a '" .. ('['):rep(40) .. (']'):rep(40) .. "'", 2, 'nested less deep')
    says('call --batch ' .. write('b.json', '{}'), 2, 'must be a list of commands')
    says('call --batch ' .. write('b.json', '['), 2, 'must be JSON: it ends too early')
    says('call --batch ' .. dir .. '/none', 2, 'cannot be read')
    says('call --batch ' .. write('b.json', '[["kv.set"]]'), 2, 'each command of a batch is [name, [arguments]]')
    says('call --batch ' .. write('b.json', '[["kv.set",["a","' .. ('x'):rep(3000000) .. '"]]]'), 2, 'TOO_LARGE')
    says('call --to :1 kv.get a', 2, 'an address is HOST:PORT, not :1')
    says('call --to 1.2.3.4:99999 kv.get a', 2, 'an address is HOST:PORT')
    says('call kv.get a --timeout abc', 2, 'wants a whole number')
    says('call kv.get a --timeout', 2, '--timeout wants a value')
    says('call kv.get a --read never', 2, 'there are linearizable, lease and stale')
    says('call nothing', 2, 'write it with its mount')
    says('call', 2, 'what to call?')
  end)

  it('end with the exit codes of their errors', function()
    says('call kv.set', 2, "BAD_ARGS: argument 'key'")
    says('call kv.set a 1 2 3 4', 2, 'too many arguments')
    says('call kv.none a', 2, 'UNKNOWN_COMMAND')
    says('query kv.set a 1', 2, 'this is a command, not a query')
    says('call kv.set a 1', 0, '')
    says('call kv.set a 1 --nx', 6, 'EXISTS')
    says('call kv.cas nokey x y', 5, 'NOT_FOUND')
    says('call kv.cas a x y', 6, 'CONFLICT')
    says('call kv.get a --to 127.0.0.1:1 --timeout 300', 3, 'NO_LEADER')
  end)
end)

describe('a client that has said all it will', function()
  it('still gets every answer', function()
    local code = ([[
      local sys, wire = require "tidelock.sys", require "tidelock.wire"
      local s = sys.connect("127.0.0.1", %d, 2)
      for i = 1, 3000 do s:send(wire.request(i, "kv.get", wire.pack { "a" }, wire.pack { timeout_ms = 5000 })) end
      s:finish()
      local input, seen = "", {}
      while true do
        local bytes = s:receive(5)
        if not bytes or bytes == "" then break end
        input = input .. bytes
      end
      while input ~= "" do
        local used, id = wire.response(input)
        seen[#seen + 1], input = id, input:sub(used + 1)
      end
      table.sort(seen)
      print(#seen, seen[1], seen[#seen])]]):format(port)
    gives("run -e '" .. code .. "'", '3000\t1\t3000')
  end)
end)

describe('the command line', function()
  it('says what it is, and helps', function()
    says('version', 0, 'tidelock ')
    says('--version', 0, 'tidelock ')
    says('version --json', 0, '"version":"')
    says('help --help', 0, 'tidelock help [COMMAND]')
    says('-h', 0, 'tidelock dev examples/kv.lua')
    for _, name in ipairs { 'dev', 'start', 'call', 'query', 'status', 'snapshot', 'check', 'run', 'history', 'log', 'version', 'help' } do
      says('help ' .. name, 0, 'tidelock ' .. name)
      says(name .. ' --help', 0, 'tidelock ' .. name)
    end
  end)

  it('guesses what was meant', function()
    says('cal kv.set a 1', 2, 'did you mean call?')
    says('get a', 2, 'did you mean query?')
    says('help stat', 2, 'unknown command stat')
    says('help statu', 2, 'did you mean status?')
    says('status --jsn', 2, 'did you mean --json?')
  end)

  it('says so when it cannot write its answer', function()
    local status, said = sh(('%s status --to 127.0.0.1:%d 2>&1 > /dev/full'):format(BIN, port))
    assert.equal(1, status)
    assert.truthy(said:find('standard output: No space left on device', 1, true), said)
  end)

  it("shows a script's own lines when it fails", function()
    local status, said = run("run -e 'error(\"x\")'")
    assert.equal(1, status)
    assert.truthy(said:find('-e:1: x', 1, true))
    assert.is_nil(said:find('lua/cli', 1, true), said)
    says('run ' .. write('e.lua', 'local t\n\nt.x = 1\n'), 1, "e.lua:3: attempt to index local 't'")
    says('run ' .. dir .. '/none.lua', 1, 'cannot open')
    says("run -e 'x x'", 1, '-e:1:')
  end)
end)

describe('check', function()
  it('takes services and snapshot formats, and says what is wrong with either', function()
    says('check examples/kv.lua examples/formats/jsonl.lua examples/formats/csv_orders.lua', 0, '')
    says('check ' .. write('half.lua', "return { name = 'h', version = 1, write = function() end }"), 1,
      'half.lua: a format has a function read; it is missing')
    says('check ' .. write('odd.lua', "return { name = 'h', version = 1, commnads = {} }"), 1, 'did you mean commands?')
  end)
end)

describe('a snapshot', function()
  it('is taken when asked for, and status says so', function()
    run('call kv.set colour teal')
    local code, said = run('snapshot')
    assert.equal(0, code, said)
    local bytes, index = said:match('^{"bytes":(%d+),"index":(%d+),"term":%d+}\n$')
    assert.truthy(bytes, said)
    says('status', 0, ('1  snapshot at %s, %s bytes'):format(index, bytes))
    local _, again = run('snapshot --json')
    assert.truthy(again:find(('{"ok":{"bytes":%s,"index":%s'):format(bytes, index), 1, true), again)
  end)

  it('is refused in words', function()
    says('snapshot now', 2, 'snapshot takes no words')
    says('snapshot --to 127.0.0.1:1', 3, '127.0.0.1:1')
  end)
end)

describe('a first start that is refused', function()
  local function start(words) return ('start --id 1 --data %s/new %s'):format(dir, words) end
  local line = '--listen 127.0.0.1:1 --cluster 1=127.0.0.1:1 --machine examples/kv.lua'

  local function refused(words, status, text)
    says(start(words), status, text)
    assert.equal(1, (sh('test -e ' .. dir .. '/new')), 'it left a directory behind: ' .. words)
  end

  it('says why, and leaves nothing behind', function()
    refused('--listen 127.0.0.1:1', 78, 'the first start needs --cluster')
    refused('--listen 127.0.0.1:1 --cluster 1=127.0.0.1:1', 78, 'the first start needs --cluster')
    refused('--listen 127.0.0.1:0 --cluster 2=127.0.0.1:1 --machine examples/kv.lua', 78, '--id 1 is not in the --cluster line')
    refused('--listen 127.0.0.1:0 --cluster foo --machine examples/kv.lua', 78, 'write it as 1=HOST:PORT')
    refused(line:gsub('examples/kv.lua', write('bad.lua', 'return {')), 78, 'mend the syntax')
    refused(line:gsub('kv.lua', 'formats/jsonl.lua'), 78, 'this is a snapshot format, for it has write or read')
    refused(line:gsub('examples', 'Bad-Name=examples'), 2, 'a mount is named by small letters')
    refused(line:gsub('%-%-listen 127.0.0.1:1', '--listen 7301'), 2, 'write HOST:PORT, like 127.0.0.1:7301')
    refused(line:gsub('%-%-listen 127.0.0.1:1', '--listen 0.0.0.0:7301'), 78, 'give --insecure')
    refused(line:gsub('%-%-listen 127.0.0.1:1', '--listen 127.0.0.1:' .. port), 78, 'Address already in use')
    refused('--listen 127.0.0.1:0 --cluster 1=127.0.0.1:1 --machine kv=examples/kv.lua --machine kv=examples/bank.lua', 78,
      'two modules are to be mounted as kv')
    refused('--listen 127.0.0.1:1 --cluster 1=127.0.0.1:1 --format examples/formats/jsonl.lua', 78, 'the first start needs --cluster')
    refused(line .. ' --format examples/kv.lua', 78, 'this is a service, not a snapshot format')
    refused(line .. ' --snapshot-bytes many', 2, '--snapshot-bytes many: wants a whole number, or off')
    refused(line .. ' --snapshot-every 5', 2, '--snapshot-every 5: wants a whole number from 100')
    refused(line .. ' --snapshot-keep -1', 2, '--snapshot-keep -1: wants a whole number')
    refused(line .. ' --config ' .. write('c.lua', "return { snapshot_chunk = 1 }"), 2, '--snapshot-chunk 1: wants')
    refused(line .. ' --config ' .. write('c.lua', "return { insecure = 'no' }"), 78, 'insecure must be true or false')
    refused(line .. ' --config ' .. write('c.lua', 'return { nonsense = 1 }'), 78, 'unknown key nonsense')
    refused('--listen 127.0.0.1:1 --config ' .. write('c.lua', "return { cluster = { '1=a:1' } }"), 78, 'cluster must be text')
  end)

  it('says what is wrong with its data directory', function()
    says(('start --id 1 --data %s %s'):format(write('file', ''), line), 78, 'Not a directory')
    says(('start --id 1 --data %s/no/such %s'):format(dir, line), 78, 'is not there')
    says(('start --id 1 --data %s/n1 --listen 127.0.0.1:0'):format(dir), 78, 'is in use by pid ' .. pid)
    says(('start --id 2 --data %s/n1 --listen 127.0.0.1:0'):format(dir), 78, 'is in use')
  end)
end)

describe('status --wait', function()
  it('ends in its time, whoever does not answer', function()
    local began = os.time()
    says('status --wait --timeout 1000 --to 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3', 3, 'not settled in time')
    sh('kill -STOP ' .. pid)
    local status, said = run('status --wait --timeout 1000 --to 127.0.0.1:' .. (port .. (',127.0.0.1:' .. port):rep(8)))
    sh('kill -CONT ' .. pid)
    assert.equal(3, status, said)
    assert(os.time() - began <= 5, 'it took too long')
  end)
end)

describe('a module that takes all memory', function()
  it('is refused by name', function()
    local file = write('greedy.lua', "local s = 'x' while true do s = s .. s end")
    says('check ' .. file, 1, 'greedy.lua: loading it takes more memory than there is')
  end)
end)

describe('text that would steer a terminal', function()
  it('is escaped there, and raw in a pipe', function()
    says([[call kv.set a '"\u001b[31mred"']], 0, 'null')
    local _, said = run('query kv.get a')
    assert.equal('\27[31mred\n', said)
    local _, shown = sh(("TIDELOCK_TO=127.0.0.1:%d script -qec '%s query kv.get a' /dev/null < /dev/null"):format(port, BIN))
    assert.truthy(shown:find('\\x1b[31mred', 1, true), shown)
  end)
end)
