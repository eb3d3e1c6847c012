-- garbage.lua: random and mutated bytes on every port of a cluster; honest clients must not notice.
--
--   tidelock run spec/live/garbage.lua FRAMES
local sys, wire = require 'tidelock.sys', require 'tidelock.wire'
local frames = tonumber(arg[1])
local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'live' }
math.randomseed(7)

local function random_bytes(n)
  local out = {}
  for i = 1, n do out[i] = string.char(math.random(0, 255)) end
  return table.concat(out)
end

local good = wire.request(1, 'kv.get', wire.pack { 'a' }, wire.pack { query = true })
local starts = { '', '\193', '\148', '\149', '\220', '\221\255\255\255\255', '\149\0\1', '\193\16\0\0\0', '\193\255\255\255\255' }

local function frame()
  if math.random(2) == 1 then return starts[math.random(#starts)] .. random_bytes(math.random(0, 80)) end
  local at = math.random(#good)
  return good:sub(1, at - 1) .. random_bytes(math.random(0, 3)) .. good:sub(at + math.random(0, 3))
end

local ok, why = pcall(function()
  c:wait_leader {}
  assert(not select(2, c:call('kv.set', 'a', 1)))
  local rss = {}
  local function memory(node)
    for line in io.lines('/proc/' .. node.pid .. '/status') do
      local kib = line:match('^VmRSS:%s+(%d+)')
      if kib then return tonumber(kib) end
    end
  end
  for i = 1, frames do
    local node = c:nodes()[i % 3 + 1]
    local socket = assert(sys.connect('127.0.0.1', node.port, 1))
    socket:send(frame())
    if i % 7 == 0 then socket:receive(0.001) end
    socket:close()
    if i == 500 then for id, n in ipairs(c:nodes()) do rss[id] = memory(n) end end
    if i % 500 == 0 then assert(c:query('kv.get', 'a') == 1) end
  end
  for id, node in ipairs(c:nodes()) do
    assert(node:alive(), 'node ' .. id .. ' died')
    local now = memory(node)
    assert(now < rss[id] + 20000, ('node %d grew from %d to %d KiB'):format(id, rss[id], now))
  end
  assert(not select(2, c:call('kv.set', 'a', 2)))
end)
if not ok then io.stdout:write('failed: ', tostring(why), '\n') end
c:close()
return ok and 0 or 1
