-- kill_loop.lua: kill -9 of all three nodes at once, again and again under load; every acknowledged write must be there, and
-- what clients of a few keys did and were told must be linearizable.
--
--   tidelock run spec/live/kill_loop.lua LOOPS
local sys, history = require 'tidelock.sys', require 'tidelock.history'
local CLIENTS = 4 -- with histories
local loops = tonumber(arg[1])
local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'live', timeout = 3000,
  flags = { '--snapshot-entries', '1000', '--snapshot-keep', '100' } }
math.randomseed(loops)

local acknowledged, written = {}, 0

-- Writes from a process of its own while this one kills: its output says what was acknowledged.
local writer = [[
local client = require 'tidelock.client'.new(arg[1], { timeout = 3000 })
local out = io.open(arg[2], 'a')
for i = tonumber(arg[3]), 1e9 do
  local _, err = client:call('kv.set', ('key-%09d'):format(i), i)
  if not err then out:write(i, '\n') out:flush() end
end]]
local script = c.dir .. '/writer.lua'
local file = assert(io.open(script, 'w'))
file:write(writer)
file:close()

local function collect(path)
  for line in io.lines(path) do
    local i = tonumber(line)
    acknowledged[#acknowledged + 1] = i
    written = math.max(written, i)
  end
end

-- Clients with histories live over the kill, so that they read what others were told before it.
local histories = {}

local function start_clients(n)
  local pids = {}
  for i = 1, CLIENTS do
    local name, path = ('%d-%d'):format(n, i), ('%s/history.%d.%d'):format(c.dir, n, i)
    histories[#histories + 1] = path
    pids[i] = assert(sys.spawn({ sys.exe(), 'run', (arg[0]:gsub('kill_loop', 'history_client')), c.to, name, path }))
  end
  return pids
end

local function stop(pid)
  sys.kill(pid, 'KILL')
  sys.wait(pid, true)
end

-- The verdict on all histories, as one. On anything but yes the history is kept.
local function judge()
  local parts = {}
  for i, path in ipairs(histories) do
    local one = io.open(path, 'rb')
    parts[i] = one and one:read('*a') or ''
    if one then one:close() end
  end
  local text = table.concat(parts)
  local r, why, line = history.check(text)
  local fine = r and r.verdict == 'linearizable' and r.operations > 0
  io.stdout:write(r and history.explain('history', r) or ('history:%d: %s\n'):format(line, why))
  if not fine then
    local path = os.tmpname()
    local kept = assert(io.open(path, 'w'))
    kept:write(text)
    kept:close()
    io.stdout:write('the history is kept in ', path, '\n')
  end
  return fine
end

local function loop(n)
  local said = c.dir .. '/said.' .. n
  io.open(said, 'w'):close()
  c:wait_leader {}
  local pid = assert(sys.spawn({ sys.exe(), 'run', script, c.to, said, tostring(written + 100000) }))
  local clients = start_clients(n)
  sys.sleep(0.15 + math.random() * 0.2)
  for _, node in ipairs(c:nodes()) do node:signal('KILL') end
  for _, node in ipairs(c:nodes()) do
    sys.wait(node.pid, true)
    node.pid, node.formed = nil, true
  end
  stop(pid)
  collect(said)
  for _, node in ipairs(c:nodes()) do node:start() end
  c:wait_leader {}
  sys.sleep(0.2)
  for _, client in ipairs(clients) do stop(client) end
  c:wait_equal { within = 30000 }
  local here = 0
  for _, node in ipairs(c:nodes()) do
    local client = node:client(20000)
    client.read = 'stale'
    local present, after = {}, nil
    repeat
      local page = assert(client:query('kv.list', 'key-', 1000, after))
      for _, row in ipairs(page) do present[row[2]] = true end
      after = page[1] and page[#page][1]
    until #page < 1000
    client:close()
    for _, i in ipairs(acknowledged) do assert(present[i], ('node %d lost write %d'):format(node.id, i)) end
    here = #acknowledged
  end
  return here
end

local ok, why = pcall(function()
  for n = 1, loops do loop(n) end
  assert(judge(), 'the history is not known to be linearizable')
end)
if not ok then
  io.stdout:write('failed: ', tostring(why), '\n')
  for _, node in ipairs(c:nodes()) do
    local log = io.open(node.log)
    io.stdout:write('--- node ', node.id, '\n', log and log:read('*a'):sub(-3000) or '', '\n')
  end
end
c:close()
io.stdout:write(('%d loops, %d acknowledged writes\n'):format(loops, #acknowledged))
return ok and #acknowledged > 0 and 0 or 1
