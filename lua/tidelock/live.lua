-- tidelock/live.lua: the nodes of a cluster in mode 'live': processes of this machine, which the script started.
--
-- Between them stands a process that can cut their links, slow them down and lose what they carry (tidelock/proxy.lua), unless
-- cluster{ direct = true }. Faults of disks and clocks only the simulator can make: refused, with a sentence that names it.
local sys, client, tasks = require 'tidelock.sys', require 'tidelock.client', require 'tidelock.tasks'
local world, proxy = require 'tidelock.world', require 'tidelock.proxy'

local live, node = {}, {}
live.__index, node.__index = live, node

local STOP_MS = 60000

local driver = {}
function driver.now() return sys.now() * 1000 end
function driver.idle(at, waiting)
  local sockets = {}
  for _, waiter in ipairs(waiting) do sockets[#sockets + 1] = waiter.socket end
  sys.poll(sockets, (at - driver.now()) / 1000)
end

-- --- clients: while one waits, other tasks go on ---

local own = setmetatable({ now = driver.now, sleep = tasks.sleep }, { __index = client })
own.__index = own

function own.await(socket, ms)
  local got = tasks.wait(driver.now() + ms, function()
    local bytes, why = socket:receive(-1)
    return (bytes or why ~= 'timeout') and { bytes, why }
  end, socket)
  if not got then return nil, 'timeout' end
  return got[1], got[2]
end

local function new_client(addresses, timeout)
  return setmetatable(assert(client.new(addresses, { timeout = timeout })), own)
end

-- --- nodes ---

function node:address() return '127.0.0.1:' .. self.port end

function node:start()
  if self.pid then error(('node %d runs already'):format(self.id), 2) end
  local backing = self.live
  local words = { sys.exe(), 'start', '--id', tostring(self.id), '--data', self.data, '--listen', self:address() }
  if self.member ~= self:address() then
    words[#words + 1] = '--advertise'
    words[#words + 1] = self.member
  end
  for _, word in ipairs(backing.flags) do words[#words + 1] = word end
  self.joined = true
  if self.left then error(('node %d was removed: its directory is of no use any more'):format(self.id), 2) end
  if not self.formed and self.id > backing.founders then
    for _, word in ipairs { '--join', backing.doors } do words[#words + 1] = word end
  elseif not self.formed then
    words[#words + 1] = '--cluster'
    words[#words + 1] = backing.line
    for name, file in pairs(backing.machines) do
      words[#words + 1] = '--machine'
      words[#words + 1] = type(name) == 'string' and name .. '=' .. file or file
    end
    if backing.policy then
      for _, word in ipairs { '--policy', backing.policy } do words[#words + 1] = word end
    end
  end
  self.pid = assert(sys.spawn(words, self.log))
  self.wanted = true
  self.cluster:happened('start', self.id)
  return self
end

function node:signal(name)
  if not self.pid then error(('node %d does not run'):format(self.id), 3) end
  assert(sys.kill(self.pid, name))
end

local function gone(self)
  self.pid, self.formed, self.paused, self.wanted = nil, true, nil, nil
end

-- kill -9, and the process is gone when this returns.
function node:kill()
  self:signal('KILL')
  sys.wait(self.pid, true)
  gone(self)
  self.cluster:happened('kill', self.id)
  return self
end

-- SIGTERM; returns its exit status.
function node:stop()
  if self.paused then error(('node %d is paused: resume it first'):format(self.id), 2) end
  self:signal('TERM')
  local deadline = driver.now() + STOP_MS
  local code
  repeat
    if driver.now() > deadline then error(('node %d did not stop within %d ms'):format(self.id, STOP_MS), 2) end
    tasks.sleep(5)
    code = sys.wait(self.pid, false)
  until code
  gone(self)
  self.cluster:happened('stop', self.id)
  return code
end

function node:pause()
  self:signal('STOP')
  self.paused = true
  self.cluster:happened('pause', self.id)
  return self
end

function node:resume()
  self:signal('CONT')
  self.paused = nil
  self.cluster:happened('resume', self.id)
  return self
end

function node:client(timeout) return new_client(self:address(), timeout or 5000) end

function node:status()
  local c = self:client(1000)
  local answer = c:status()
  c:close()
  self.cluster:seen(self.id, answer and answer.role, answer and answer.term)
  return answer
end

-- Has the node take a snapshot now; within ms (60000). -> { bytes, index, term } | nil, error
function node:snapshot(within)
  local c = self:client(within or 60000)
  local answer, err = c:snapshot()
  c:close()
  return answer, err
end

-- Whether the process still runs; reaps it if it ended by itself.
function node:alive()
  if not self.pid then return false end
  local code = sys.wait(self.pid, false)
  if code == nil then return true end
  self.pid, self.exit = nil, code
  self.cluster:seen(self.id, nil)
  return false
end

-- All that it has said, if it said something.
function node:said()
  local file = io.open(self.log)
  local text = file and file:read('*a') or ''
  if file then file:close() end
  return text
end

-- Why it ended, if it did so by itself; nil: it did not, or because the cluster removed it (then it has `left`).
function node:failed()
  if not self.wanted or self:alive() then return nil end
  if self.exit == 78 and self:said():find('was removed from the cluster', 1, true) then
    self.left, self.wanted = true, nil
    return nil
  end
  return ('node %d ended with %d: %s'):format(self.id, self.exit, self:said():match('([^\n]+)\n*$') or 'its log is empty')
end

-- --- the cluster's part ---

function live.open(cluster, options)
  local self = setmetatable({ flags = options.flags or {}, list = {}, machines = options.machines or { options.machine },
    founders = options.founders or options.nodes, policy = options.policy }, live)
  tasks.drive(driver)
  self.dir = assert(sys.tmpdir())
  local addresses, members, doors, taken = {}, {}, {}, {}
  local function free_port()
    local port
    repeat port = assert(sys.free_port()) until not taken[port]
    taken[port] = true
    return port
  end
  for id = 1, options.nodes do
    local port = free_port()
    doors[id] = { id = id, listen = options.direct and port or free_port(), port = port }
    self.list[id] = setmetatable({ id = id, port = port, member = '127.0.0.1:' .. doors[id].listen, cluster = cluster, live = self,
      data = self.dir .. '/n' .. id, log = self.dir .. '/n' .. id .. '.log' }, node)
    addresses[id] = self.list[id]:address()
    if id <= self.founders then members[id] = id .. '=' .. self.list[id].member end
  end
  self.to, self.line = table.concat(addresses, ','), table.concat(members, ',')
  self.doors = table.concat(addresses, ',', 1, self.founders)
  if not options.direct and options.nodes > 1 then
    local ok, got = pcall(proxy.start, doors, self.dir .. '/proxy.log')
    if not ok then
      self:close()
      error(got, 0)
    end
    self.proxy = got
  end
  return self
end

-- A client of one node, or of all.
function live:client(one, timeout) return new_client(one and one:address() or self.to, timeout) end

function live.now() return driver.now() end

function live.say(text)
  io.stdout:write(text)
  io.stdout:flush()
end

function live.write_file(path, text)
  local file, why = io.open(path, 'wb')
  if not file then return nil, why end
  local written
  written, why = file:write(text)
  local closed, late = file:close()
  return written and closed, why or late
end

function live.corrupt(one, file, at, bytes)
  if one.pid then return nil, ('node %d runs: stop or kill it first'):format(one.id) end
  return world.damage(one.data, file, at, bytes)
end

local function refuse()
  return nil, "this fault is made on virtual time only: mode = 'sim', or tidelock run --mode sim"
end
live.skew, live.fill = refuse, refuse

local function order(self, ...)
  if not self.proxy then return nil, 'nothing stands between the nodes: there is one alone, or cluster{} said direct' end
  self.proxy:order(...)
  return true
end

function live:cut(from, to, on) return order(self, 'cut %d %d %s', from.id, to.id, on and 'on' or 'off') end
function live:lose(...) return order(self, 'lose %g %g %g', ...) end

-- Links only.
function live:slow(of, disk, script, links)
  if of and (disk or script) then return refuse() end
  return of ~= nil or order(self, 'delay %d', links or 0)
end

-- Ends what runs and removes the directory.
function live:close()
  for _, n in ipairs(self.list) do if n:alive() then n:kill() end end
  if self.proxy then self.proxy:close() end
  os.execute('rm -rf "' .. self.dir .. '"')
end

return live
