-- `tidelock log`, on what one real node left behind: a log of two segments.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local dir

-- Writes 40 rows of half a MiB and a small one, then ends the node with kill -9.
local MAKE = [[
local cluster = require 'tidelock.cluster' { nodes = 1, machine = 'examples/kv.lua' }
for i = 1, 40 do assert(select(2, cluster:call('kv.set', 'k' .. i % 4, ('x'):rep(524288))) == nil) end
assert(select(2, cluster:call('kv.set', 'colour', 'teal')) == nil)
local node = cluster:node(1)
cluster:sleep(100)
node:kill()
assert(os.execute(('cp -r %s %s'):format(node.data, arg[1])) == 0)
]]

setup(function()
  local _, name = sh('mktemp -d')
  dir = name:gsub('%s', '')
  local file = assert(io.open(dir .. '/make.lua', 'w'))
  file:write(MAKE)
  file:close()
  local status, said = sh(('timeout 60 %s run %s/make.lua %s/whole 2>&1'):format(BIN, dir, dir))
  assert.equal(0, status, said)
end)

teardown(function() sh('rm -rf ' .. dir) end)

-- Runs `tidelock log WORDS` on a copy in which `change` (a shell command, run there) was made; -> status, what was said
local function log(words, change)
  sh(('rm -rf %s/copy && cp -r %s/whole %s/copy'):format(dir, dir, dir))
  if change then assert.equal(0, (sh(('cd %s/copy && %s'):format(dir, change)))) end
  return sh(('timeout 20 %s log %s 2>&1'):format(BIN, words:gsub('DIR', dir .. '/copy')))
end

local function says(words, change, status, text)
  local got, said = log(words, change)
  assert.equal(status, got, said)
  assert.truthy(said:find(text, 1, true), ('%s\nwanted: %s\nsaid:   %s'):format(words, text, said))
end

local function read(name)
  local file = assert(io.open(dir .. '/whole/' .. name, 'rb'))
  local bytes = file:read('*a')
  file:close()
  return bytes
end

-- Another byte at an offset of a file, as a shell command.
local function flip(name, offset)
  local byte = read(name):byte(offset + 1)
  return ([[printf '\\%03o' | dd of=%s bs=1 seek=%d conv=notrunc status=none]]):format(255 - byte, name, offset)
end

local function place(text) return assert(read('log-00000002'):find(text, 1, true)) - 1 end

describe('log cat', function()
  it('prints the entries of all segments', function()
    local status, said = log('cat DIR')
    assert.equal(0, status, said)
    assert.truthy(said:find('command       kv.set ["k0","xxx', 1, true), said)
    assert.equal('kv.set ["colour","teal"]\n', said:match('kv.set [^\n]+\n$'))
    local _, lines = said:gsub('\n', '')
    assert.equal(44, lines)
  end)
end)

describe('log verify', function()
  it('counts what is whole', function() says('verify DIR', nil, 0, '44 entries in') end)

  it('names file and offset of a flipped byte', function()
    local record = place('colour')
    local frame = record - record % 4096
    says('verify DIR', flip('log-00000002', record), 1, ('file log-00000002, offset %d: a record'):format(frame + 72))
    says('verify DIR', flip('log-00000002', frame + 16), 1, ("file log-00000002, offset %d: a frame's header"):format(frame))
    says('verify DIR', flip('log-00000001', 9), 1, "file log-00000001, offset 0: the segment's header")
    says('verify DIR', flip('vote', 20), 1, 'file vote, offset 0')
    says('verify DIR', flip('vote', 4096), 1, 'file vote, offset 4096')
    says('verify DIR', flip('identity', 10), 1, 'file identity is damaged')
  end)

  -- After an idle moment that is a mark, which promises nothing.
  it('shows the last write that is not whole', function()
    local frame = place('colour')
    frame = frame - frame % 4096 + 4096
    says('verify DIR', flip('log-00000002', frame + 16), 0, ('file log-00000002, offset %d: the last write is not whole'):format(frame))
  end)

  it('names what is missing', function()
    says('verify DIR', 'rm log-00000001', 1, 'but the newest snapshot here ends with entry 0: what lies between is gone')
    says('verify DIR', 'rm log-00000002', 1, 'file log-00000002, offset 0: the log goes on in this file, and it is missing')
    says('verify DIR', 'rm log-0*', 1, 'log-00000001 is missing')
    says('verify DIR', 'rm vote', 1, 'file vote is missing')
    says('verify DIR', 'rm identity', 1, 'file identity is missing beside a log or vote')
    says('verify DIR', 'truncate -s 30000 log-00000002', 1, 'the file is shorter than its header says')
    says('verify DIR/none', nil, 1, 'No such file or directory')
    says('verify DIR DIR', nil, 2, 'log cat DIR, log verify DIR, or log replay DIR')
    says('replay DIR DIR', nil, 2, 'or log replay DIR')
  end)
end)

describe('what walks a log', function()
  it('gives each frame its kind', function()
    local status, said = sh(([[%s run -e 'local kinds = {}
      assert(require("tidelock.node").walk_log("%s/whole", function() return true end, function(_, _, kind)
        kinds[kind] = (kinds[kind] or 0) + 1 return true end))
      print(kinds.next, kinds.mark > 0, kinds.entries > 0, kinds["?"])' 2>&1]]):format(BIN, dir))
    assert.equal(0, status, said)
    assert.equal('1\ttrue\ttrue\tnil\n', said)
  end)
end)
