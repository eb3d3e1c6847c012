-- slow_readers.lua: clients that ask for much more than they read; the node keeps within bounds, honest clients are served.
--
--   tidelock run spec/live/slow_readers.lua CLIENTS
local sys, wire = require 'tidelock.sys', require 'tidelock.wire'
local clients = tonumber(arg[1])
local c = require 'tidelock.cluster' { nodes = 1, machines = { kv = 'examples/kv.lua' }, mode = 'live' }
local ROW, ASKED, MOST_KIB = 500000, 1000, 120000 -- unread, a client may cost the node 32 MiB (net/rpc.h)

local function peak(node)
  for line in io.lines('/proc/' .. node.pid .. '/status') do
    local kib = line:match('^VmHWM:%s+(%d+)')
    if kib then return tonumber(kib) end
  end
end

local ok, why = pcall(function()
  local node = c:node(1)
  assert(not select(2, c:call('kv.set', 'large', ('x'):rep(ROW))))
  local sockets = {}
  for i = 1, clients do
    local requests = {}
    for id = 1, ASKED do
      requests[id] = wire.request(id, 'kv.get', wire.pack { 'large' }, wire.pack { query = true, read = i % 2 == 0 and 'stale' or nil })
    end
    sockets[i] = assert(sys.connect('127.0.0.1', node.port, 1))
    assert(sockets[i]:send(table.concat(requests)))
  end
  for i = 1, 5 do
    assert(not select(2, c:call('kv.set', 'small', i)))
    assert(c:query('kv.get', 'small') == i)
  end
  local now = peak(node)
  assert(now < MOST_KIB + clients * 2 * 32768, ('the node took %d KiB'):format(now))
  -- Who reads gets all of it.
  local client = require 'tidelock.client'.new('127.0.0.1:' .. node.port)
  for _ = 1, 100 do assert(#client:query('kv.get', 'large') == ROW) end
  client:close()
  for _, socket in ipairs(sockets) do socket:close() end
end)
if not ok then io.stdout:write('failed: ', tostring(why), '\n') end
c:close()
return ok and 0 or 1
