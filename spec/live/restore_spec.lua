-- Backup, restore and recover with real nodes: the state goes on in a new cluster, of one node or three.
local P = require 'spec.support.processes'

local p

local function start_all(name, words)
  for id = 1, 3 do p:start(id, name .. id, words) end
  p:ready()
end

local function stop_all(signal)
  for id = 1, 3 do p:stop(id, signal) end
end

local function form(words) start_all('old', ('--cluster %s %s'):format(p.line, words or '--machine examples/orders.lua')) end

local function restore(file, name, words)
  for id = 1, 3 do p:says(('restore %s --data %s %s'):format(p:path(file), p:path(name .. id), words or ''), 0) end
end

-- Lua in the binary; -> what it printed
local function lua(code)
  local path = p:write('script.lua', code)
  return p:says(('run %s %s'):format(path, p.line:match('=(.*)$'):gsub(',%d=', ',')), 0)
end

before_each(function() p = P.new(3) end)
after_each(function() p:close() end)

describe('a backup', function()
  it('restored into three directories is a cluster that goes on', function()
    form()
    for i = 1, 5 do assert.equal(i .. '\n', (p:says('call orders.place ada lamp 1 2.5', 0))) end
    local index = p:says('backup ' .. p:path('file'), 0):match('"index":(%d+)')
    local digest = p:says('snapshot inspect --json ' .. p:path('file'), 0):match('"digest":"(%x+)"')
    stop_all()
    for id = 1, 3 do p:says(('restore %s --data %s'):format(p:path('file'), p:path('new' .. id)), 0, ', digest ' .. digest) end
    start_all('new', '--cluster ' .. p.line)
    assert.equal('[1,2,3,4,5]\n', (p:says('query orders.of ada', 0)))
    local answer = p:says('call --json orders.place ada lamp 1 2.5', 0)
    local at = tonumber(answer:match('^{"ok":6,"index":(%d+)}\n$'))
    assert.is_true(at >= tonumber(index) + 2 ^ 32)
    stop_all('KILL')
    start_all('new')
    assert.equal('[1,2,3,4,5,6]\n', (p:says('query orders.of ada', 0)))
    p:says('call orders.pay 6', 0)
    p:says('log verify ' .. p:path('none'), 1)
    for id = 1, 3 do p:stop(id) p:says('log verify ' .. p:path('new' .. id), 0, 'all whole') end
  end)

  it('restored into one directory is a cluster of one, and the other way round', function()
    form()
    p:says('call orders.place ada lamp 1 2.5', 0)
    p:says('backup ' .. p:path('file'), 0)
    stop_all()
    p:says(('restore %s --data %s'):format(p:path('file'), p:path('alone')), 0)
    p:start(2, 'alone', '--cluster 2=127.0.0.1:' .. p.ports[2])
    p:ready()
    assert.equal('2\n', (p:says('call orders.place ada bed 1 2.5', 0)))
    p:says('backup ' .. p:path('again'), 0)
    p:stop(2)
    restore('again', 'new')
    start_all('new', '--cluster ' .. p.line)
    assert.equal('3\n', (p:says('call orders.place ada bed 1 2.5', 0)))
  end)

  it('is made by the next node when the one that was asked is killed', function()
    form()
    p:says('call orders.place ada lamp 1 2.5', 0)
    local function others(signal) P.sh(('kill -%s %d %d'):format(signal, p.pids[2].pid, p.pids[3].pid)) end
    others('STOP') -- so that node 1 cannot find out what was acknowledged
    p:background('backup ' .. p:path('file'), 'backup')
    p:wait('node 1 is asked', function()
      return select(2, p:run('status --json --to 127.0.0.1:' .. p.ports[1])):find('"doing":"asked"', 1, true)
    end)
    p:stop(1, 'KILL')
    others('CONT')
    p:wait('the backup ends', function() return P.sh('test -s ' .. p:path('backup.status')) == 0 end)
    assert.equal('0\n', p:read('backup.status'), p:read('backup.said'))
    p:says('restore ' .. p:path('file') .. ' --data ' .. p:path('new'), 0)
  end)

  it('is none, and the status says why, when the format of the cluster loses rows', function()
    p:write('lossy.lua', [[return { name = 'lossy', version = 1, write = function() end, read = function() return true end }]])
    form('--machine examples/kv.lua --format ' .. p:path('lossy.lua'))
    p:says('call kv.set colour teal', 0)
    p:says('backup ' .. p:path('file'), 1, 'the format lossy 1 does not give back what it was given: kv.rows key "colour" is lost')
    p:says('status', 0, '  no snapshot, log after 0; failed: the format lossy 1 does not give back ')
    assert.is_nil(io.open(p:path('file')))
  end)

  it('in an older version of its format is read by the newer one', function()
    local format = [==[return { name = 'lines', version = VERSION,
      write = function(out, view) for m, n, map in view:maps() do for k, v in map:pairs() do out:pack({ m, n, k, v }) end end end,
      read = function(inp, ctx)
        if inp.version ~= 1 then return nil, 'only version 1 here' end
        while true do
          local more, row = inp:unpack()
          if not more then return true end
          ctx.db[row[1]][row[2]]:put(row[3], row[4])
        end
      end }]==]
    local reads_both = format:gsub('inp.version ~= 1', 'inp.version > 2'):gsub('VERSION', '2')
    p:write('one.lua', (format:gsub('VERSION', '1')))
    p:write('two.lua', reads_both)
    form('--machine examples/orders.lua --format ' .. p:path('one.lua'))
    p:says('call orders.place ada lamp 1 2.5', 0)
    p:says('backup ' .. p:path('file'), 0)
    p:says('backup ' .. p:path('newer') .. ' --format ' .. p:path('two.lua'), 0)
    stop_all()
    p:says(('restore %s --data %s --format %s'):format(p:path('newer'), p:path('x'), p:path('one.lua')), 1,
      'UNREADABLE, written by the format lines 2: ', 'only version 1 here')
    restore('file', 'new', '--format ' .. p:path('two.lua'))
    start_all('new', '--cluster ' .. p.line)
    assert.equal('[1]\n', (p:says('query orders.of ada', 0)))
  end)

  it('forms no cluster with a directory that was restored from another, or not at all', function()
    form()
    p:says('backup ' .. p:path('file'), 0)
    p:says('call orders.place ada lamp 1 2.5', 0)
    p:says('backup ' .. p:path('other'), 0)
    stop_all()
    restore('file', 'new')
    p:says(('restore %s --data %s'):format(p:path('other'), p:path('other2')), 0)
    p:start(1, 'new1', '--cluster ' .. p.line)
    p:start(2, 'other2', '--cluster ' .. p.line)
    p:start(3, 'not3', '--machine examples/orders.lua --cluster ' .. p.line)
    local function said(name, text)
      p:wait(text, function() return p:read(name .. '.log'):find(text, 1, true) end)
    end
    said('new1', 'refused node 2: its directory was restored from another snapshot (')
    said('new1', 'refused node 3: its directory was not restored, this node\'s was: restore every directory from the same file')
    said('not3', 'refused node 1: its directory was restored, this node\'s was not')
    p:says('query orders.of ada --timeout 300', 3)
    p:stop(2)
    p:stop(3)
    p:start(2, 'new2', '--cluster ' .. p.line)
    p:start(3, 'new3', '--cluster ' .. p.line)
    p:ready()
    assert.equal('[]\n', (p:says('query orders.of ada', 0)))
  end)

  it('is read to its end though newer snapshots count, and though the node was killed in between', function()
    form('--machine examples/kv.lua')
    local function read(index, from, to)
      return ([[
        local client, wire = require 'tidelock.client', require 'tidelock.wire'
        local c = client.new(arg[1]:match('[^,]+'), { timeout = 10000 })
        local parts, at = {}, %d
        while at < %d do
          local value, err = c:raw('tidelock.snapshot_read', wire.pack { %d, at, math.min(100, %d - at) }, {}, true)
          if not value then print(err.code, err.message) return end
          parts[#parts + 1] = select(2, wire.unpack(value))
          at = at + #parts[#parts]
        end
        io.write(table.concat(parts))]]):format(from, to, index, to)
    end
    local function snapshot()
      local said = p:says('snapshot --to 127.0.0.1:' .. p.ports[1], 0)
      return said:match('"index":(%d+)'), tonumber(said:match('"bytes":(%d+)'))
    end
    p:says('call kv.set a 1', 0)
    local index, bytes = snapshot()
    local name = ('old1/snapshot-%016x'):format(index)
    local whole = p:read(name)
    assert.equal(bytes, #whole)
    assert.equal(whole:sub(1, 300), lua(read(index, 0, 300)))
    p:says('call kv.set b 2', 0)
    local newer, size = snapshot()
    assert.equal(whole:sub(301), lua(read(index, 300, bytes)))
    local half = lua(read(newer, 0, 400))
    p:stop(1, 'KILL')
    p:start(1, 'old1')
    assert.equal(p:read(('old1/snapshot-%016x'):format(newer)), half .. lua(read(newer, 400, size)))
    local said = lua(read(index, 0, 300))
    assert.truthy(said:find('^NOT_FOUND\tthis node has no snapshot at that index'), said)
    assert.truthy(lua(read(newer, size + 5, size + 6)):find('^NOT_FOUND\tthe file ends before that offset'))
  end)
end)

describe('a node that is all that is left', function()
  it('recovers what it has, under a new id: the others are kept out', function()
    form('--machine examples/kv.lua --snapshot-entries 20')
    for i = 1, 50 do p:says(('call kv.set k%d %d'):format(i, i), 0) end
    p:wait('all nodes equal', function()
      local said = select(2, p:run('status'))
      local digests, count = {}, 0
      for digest in said:gmatch('digest (%x+)') do digests[digest], count = true, count + 1 end
      return count == 3 and next(digests, next(digests)) == nil
    end)
    stop_all('KILL')
    p:says('recover --force-new-cluster --data ' .. p:path('old2'), 0, 'becomes a cluster of its own at 127.0.0.1:' .. p.ports[2],
      'is of cluster ', 'whether the last of them were ever committed', 'start it as before, without --cluster')
    p:start(2, 'old2')
    p:ready()
    for i = 1, 50, 7 do assert.equal(i .. '\n', (p:says('query kv.get k' .. i, 0))) end
    p:says('call kv.set after 1', 0)
    p:start(1, 'old1')
    p:wait('refused', function() return p:read('old1.log'):find('node 2 refused this node: a member of another cluster', 1, true) end)
    p:stop(1)
    p:stop(2, 'KILL')
    p:start(2, 'old2')
    p:ready()
    assert.equal('1\n', (p:says('query kv.get after', 0)))
    p:says('recover --force-new-cluster --data ' .. p:path('old2'), 78, 'is in use by pid ')
    p:stop(2)
    p:says('recover --force-new-cluster --data ' .. p:path('old2'), 6, 'files of an earlier recover are still here')
    P.sh('rm ' .. p:path('old2/before-recover.') .. '*')
    p:says(('recover --force-new-cluster --json --listen 127.0.0.1:%d --data %s'):format(p.ports[3], p:path('old2')), 0, '"replayed":')
    p:says(('start --id 2 --data %s --listen 127.0.0.1:%d --cluster x'):format(p:path('old2'), p.ports[2]), 78)
  end)

  it('refuses a node whose cluster never formed, and does not say that it becomes one', function()
    p:start(1, 'old1', '--machine examples/kv.lua --cluster ' .. p.line)
    p:wait('a directory', function() return P.sh('test -s ' .. p:path('old1/identity')) == 0 end)
    p:stop(1)
    local said = p:says('recover --force-new-cluster --data ' .. p:path('old1'), 5, "this node's cluster never formed")
    assert.is_nil(said:find('becomes', 1, true), said)
  end)
end)
