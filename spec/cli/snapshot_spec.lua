-- What an operator does with snapshots' files: inspect, backup, restore, recover; words in, words and exit codes out.
local P = require 'spec.support.processes'

local keys = [[return { name = 'keys', version = 1,
  write = function(out, view) for _, _, map in view:maps() do for k in map:pairs() do out:write(k, '\n') end end end,
  read = function(inp, ctx) return true end }]]

local p, big

setup(function()
  p = P.new(1)
  p:start(1, 'n1', '--cluster ' .. p.line .. ' --machine examples/kv.lua')
  p:ready()
  big = ('0123456789'):rep(60000)
  for i = 1, 5 do p:says(('call kv.set k%d v%d'):format(i, i), 0) end
  -- more than one piece
  for i = 1, 4 do p:says(('call --batch ' .. p:write('b.json', ('[["kv.set",["big%d","%s"]]]'):format(i, big))), 0) end
  p:says('backup ' .. p:path('good'), 0, '"index":')
  p:write('keys.lua', keys)
end)

teardown(function() p:close() end)

-- The file `good` with one bit flipped.
local function flipped(at)
  local bytes = p:read('good')
  at = at < 0 and #bytes + at or at
  return p:write('flipped', bytes:sub(1, at - 1) .. string.char(bit.bxor(bytes:byte(at), 4)) .. bytes:sub(at + 1))
end

describe('backup', function()
  it('writes a whole file, and prints what it holds', function()
    local said = p:says('backup ' .. p:path('one'), 0)
    local bytes, file, index = said:match('^{"bytes":(%d+),"file":"([^"]+)","index":(%d+),"term":%d+}\n$')
    assert.equal(#p:read('one'), tonumber(bytes))
    assert.equal(p:path('one'), file)
    assert.truthy(tonumber(index) > 9)
    p:says('backup --json ' .. p:path('two'), 0, '{"ok":{"bytes":', '},"index":')
    assert.equal(p:read('one'), p:read('two'))
    local _, mode = P.sh('stat -c %A ' .. p:path('one')) -- all of the state is in it
    assert.equal('---', mode:match('(...)%s*$'))
  end)

  it('leaves what has that name already alone', function()
    p:write('mine', 'precious')
    p:says('backup ' .. p:path('mine'), 6, 'mine is there already: give another name, or remove it')
    assert.equal('precious', p:read('mine'))
  end)

  it('says what is wrong with what it was given', function()
    p:says('backup', 2, 'tidelock backup FILE')
    p:says('backup ' .. p:path('none/x'), 1, 'No such file or directory')
    p:says('backup ' .. p:path('x') .. ' --to 127.0.0.1:1', 3, 'connect')
    p:says('backup ' .. p:path('x') .. ' --format ' .. p:path('none.lua'), 78, 'none.lua')
    p:says('backup ' .. p:path('x') .. ' --format examples/kv.lua', 78, 'kv.lua')
    assert.is_nil(io.open(p:path('x')))
  end)

  it('leaves nothing when the disk does not take it', function()
    local status, said = p:run('backup ' .. p:path('x'), "trap '' XFSZ; ulimit -f 100; ")
    assert.equal(1, status, said)
    assert.truthy(said:find(p:path('x.part') .. ': File too large', 1, true), said)
    assert.is_nil(io.open(p:path('x')))
    assert.is_nil(io.open(p:path('x.part')))
  end)

  it('takes a format: one that gives everything back can be restored', function()
    local said = p:says('backup ' .. p:path('lines') .. ' --format examples/formats/jsonl.lua', 0)
    assert.equal(#p:read('lines'), tonumber(said:match('^{"bytes":(%d+),')))
    p:says('snapshot inspect ' .. p:path('lines'), 0, 'format       jsonl 1', 'verdict      ok\n')
    local raw = p:says('snapshot inspect --raw ' .. p:path('lines'), 0)
    assert.truthy(raw:find('["kv","rows","k1","v1"]\n', 1, true))
    assert.equal(9, select(2, raw:gsub('\n', '')))
    p:says('restore ' .. p:path('lines') .. ' --data ' .. p:path('of_lines'), 0)
  end)

  it('takes one that does not, says what it loses, and the file is never restored', function()
    p:says('backup ' .. p:path('keys') .. ' --format ' .. p:path('keys.lua'), 0, 'an export that cannot be restored: ',
      'the format keys 1 does not give back what it was given: ')
    p:says('snapshot inspect ' .. p:path('keys'), 0, 'verdict      ok, but an export that may hold less than the state')
    assert.equal('big1\nbig2\nbig3\nbig4\nk1\nk2\nk3\nk4\nk5\n', (p:says('snapshot inspect --raw ' .. p:path('keys'), 0)))
    p:says('restore ' .. p:path('keys') .. ' --data ' .. p:path('of_keys'), 1, 'keys: an export in the format keys, which does not')
    assert.equal(0, (P.sh('test ! -e ' .. p:path('of_keys'))))
  end)
end)

describe('snapshot inspect', function()
  it('shows head, maps, hashes and the verdict', function()
    p:says('snapshot inspect ' .. p:path('good'), 0, 'entries      up to ', 'format       rows 1', 'maps         kv.rows 9',
      'host rows    bundles 1, counters ', 'digest ', 'verdict      ok')
    p:says('snapshot inspect --json ' .. p:path('good'), 0, '"good":true', '"maps":{"kv.rows":9}')
  end)

  it('ends with 1 for a damaged file, and names it and the offset', function()
    for _, at in ipairs { 3, 30, 2000, 1500000, -20 } do
      local said = p:says('snapshot inspect ' .. flipped(at), 1, 'flipped')
      assert.truthy(said:find('offset %d+'), said)
    end
    p:write('cut', p:read('good'):sub(1, -2000))
    p:says('snapshot inspect ' .. p:path('cut'), 1, 'cut', 'offset ')
    p:says('snapshot inspect --raw ' .. p:path('cut'), 1, 'offset ')
    p:write('foreign', ('not one of ours\n'):rep(99))
    p:says('snapshot inspect ' .. p:path('foreign'), 1, 'foreign')
  end)

  it('wants a file', function()
    p:says('snapshot inspect', 2, 'snapshot inspect which file?')
    p:says('snapshot inspect ' .. p:path('nothing'), 5, 'nothing')
    p:says('snapshot inspekt x', 2, 'snapshot takes no words but inspect FILE')
  end)
end)

describe('restore', function()
  it('says what it did, and how to go on', function()
    p:says('restore ' .. p:path('good') .. ' --data ' .. p:path('r'), 0, 'holds the state of cluster ', ' rows, ', 'digest ',
      'restore every directory of the new cluster from this file')
    p:says('restore ' .. p:path('good') .. ' --json --data ' .. p:path('r2'), 0, '"index":42949', '"digest":"')
    p:says('restore ' .. p:path('good') .. ' --data ' .. p:path('r'), 6, 'was restored already')
  end)

  it('refuses what it cannot use, and makes no directory', function()
    p:says('restore', 2, 'tidelock restore FILE --data DIR')
    p:says('restore ' .. p:path('good'), 2, 'restore needs --data DIR')
    p:says('restore ' .. p:path('nothing') .. ' --data ' .. p:path('q'), 5, 'nothing')
    p:says('restore ' .. flipped(1500000) .. ' --data ' .. p:path('q'), 1, 'flipped', 'offset ')
    p:says('restore ' .. p:path('foreign') .. ' --data ' .. p:path('q'), 1, 'foreign')
    assert.equal(0, (P.sh('test ! -e ' .. p:path('q'))))
    p:says('restore ' .. p:path('good') .. ' --data ' .. p:path('n1'), 78, 'is in use by pid ')
    p:says('restore ' .. p:path('good') .. ' --data ' .. p:path('none/q'), 5, 'cannot make data directory')
  end)

  it('leaves a directory that says so when the disk does not take it', function()
    local status, said = p:run('restore ' .. p:path('good') .. ' --data ' .. p:path('full'), "trap '' XFSZ; ulimit -f 100; ")
    assert.equal(1, status, said)
    assert.truthy(said:find('File too large', 1, true), said)
    p:says('restore ' .. p:path('good') .. ' --data ' .. p:path('full'), 0)
  end)

  it('makes a directory that only a first start with --cluster takes', function()
    p:says('restore ' .. p:path('good') .. ' --data ' .. p:path('first'), 0)
    p:says('start --id 1 --listen 127.0.0.1:1 --data ' .. p:path('first'), 78, 'this directory was restored from a snapshot, and is nobody')
    p:says('log cat ' .. p:path('first'), 1, "no node's data is here")
    P.sh('rm ' .. p:path('first/restored'))
    p:says('start --id 1 --listen 127.0.0.1:1 --machine examples/kv.lua --cluster 1=127.0.0.1:1 --data ' .. p:path('first'), 78,
      'a restore did not end')
  end)
end)

describe('recover', function()
  it('wants to be meant, and a directory that is not in use', function()
    p:says('recover', 2, 'recover needs --data DIR')
    p:says('recover --data ' .. p:path('n1'), 2, 'recover needs --force-new-cluster')
    p:says('recover --force-new-cluster --data ' .. p:path('n1'), 78, 'is in use by pid ')
    p:says('recover --force-new-cluster --data ' .. p:path('nothing'), 5, 'nothing')
    P.sh('mkdir ' .. p:path('empty'))
    p:says('recover --force-new-cluster --data ' .. p:path('empty'), 5, "no node's data is in")
    p:says('recover --force-new-cluster --data ' .. p:path('empty') .. ' x', 2, 'takes no words')
  end)
end)

describe('help', function()
  it('lists them, and shows each', function()
    local said = p:says('help', 0)
    for _, name in ipairs { 'snapshot', 'backup', 'restore', 'recover' } do
      assert.truthy(said:find('\n  ' .. name .. ' +%l'), said)
      p:says('help ' .. name, 0, 'tidelock ' .. name)
      p:says(name .. ' --help', 0, 'tidelock ' .. name)
    end
    p:says('bakcup x', 2, 'did you mean backup?')
    p:says('dump x', 2, 'did you mean backup?')
  end)
end)
