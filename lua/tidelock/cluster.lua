-- tidelock/cluster.lua: a script drives a cluster of real processes (mode 'live').
--
--   local c = require 'tidelock.cluster'{ nodes = 3, machines = { kv = 'examples/kv.lua' } }
--   assert(c:call('kv.set', 'colour', 'teal'))
--   local old = c:leader():kill()
--   c:wait_leader{ not_node = old, within = 5000 }
--   old:start()
--   c:wait_equal()
--
-- It ends only the processes that it started. Nodes live in a temporary directory, removed by c:close().
local sys, client, status = require 'tidelock.sys', require 'tidelock.client', require 'cli.status'

local cluster, node = {}, {}
cluster.__index, node.__index = cluster, node

function node:address() return '127.0.0.1:' .. self.port end

function node:start()
  assert(not self.pid, 'node ' .. self.id .. ' runs already')
  local c = self.cluster
  local words = { sys.exe(), 'start', '--id', tostring(self.id), '--data', self.data, '--listen', self:address() }
  for _, word in ipairs(c.flags) do words[#words + 1] = word end
  if not self.formed then
    words[#words + 1] = '--cluster'
    words[#words + 1] = c.line
    for name, file in pairs(c.machines) do
      words[#words + 1] = '--machine'
      words[#words + 1] = type(name) == 'string' and name .. '=' .. file or file
    end
  end
  self.pid = assert(sys.spawn(words, self.log))
  return self
end

function node:signal(name)
  assert(self.pid, 'node ' .. self.id .. ' does not run')
  assert(sys.kill(self.pid, name))
end

-- kill -9, and the process is gone when this returns.
function node:kill()
  self:signal('KILL')
  sys.wait(self.pid, true)
  self.pid, self.formed = nil, true
  return self
end

-- SIGTERM; returns its exit status.
function node:stop()
  self:signal('TERM')
  local code = sys.wait(self.pid, true)
  self.pid, self.formed = nil, true
  return code
end

function node:pause() self:signal('STOP') return self end
function node:resume() self:signal('CONT') return self end

function node:client(timeout) return client.new(self:address(), { timeout = timeout or 5000 }) end

function node:status()
  local c = self:client(1000)
  local answer = c:status()
  c:close()
  return answer
end

-- Whether the process still runs; reaps it if it ended by itself.
function node:alive()
  if not self.pid then return false end
  local code = sys.wait(self.pid, false)
  if code == nil then return true end
  self.pid, self.exit = nil, code
  return false
end

local keys = { mode = true, nodes = true, machine = true, machines = true, flags = true, timeout = true }

-- Says what is wrong with the options of cluster{...}, at the caller's line, before anything is started.
local function check(options)
  local function wrong(text) error('cluster: ' .. text, 4) end
  if type(options) ~= 'table' then wrong("takes a table, like { nodes = 3, machine = 'kv.lua' }") end
  for key in pairs(options) do
    if not keys[key] then wrong('unknown key ' .. tostring(key) .. '; there are flags, machine, machines, mode, nodes, timeout') end
  end
  if options.mode and options.mode ~= 'live' then wrong("mode '" .. tostring(options.mode) .. "' is not there; 'live' is") end
  local nodes = options.nodes
  if nodes ~= nil and (type(nodes) ~= 'number' or nodes < 1 or nodes > 9 or nodes % 1 ~= 0) then
    wrong('nodes must be a whole number from 1 to 9')
  end
  if options.machines ~= nil and type(options.machines) ~= 'table' then wrong("machines must be a table: { kv = 'kv.lua' }") end
  if not options.machine and not next(options.machines or {}) then wrong("no machine; give machine = 'kv.lua'") end
end

local running = {} -- clusters that are not closed yet

local function open(options)
  check(options)
  local self = setmetatable({ list = {}, machines = options.machines or { options.machine }, flags = options.flags or {},
    started = sys.now() }, cluster)
  self.dir = assert(sys.tmpdir())
  running[self] = true
  local addresses = {}
  for id = 1, options.nodes or 3 do
    local port = assert(sys.free_port())
    self.list[id] = setmetatable({ id = id, port = port, cluster = self, data = self.dir .. '/n' .. id,
      log = self.dir .. '/n' .. id .. '.log' }, node)
    addresses[id] = id .. '=127.0.0.1:' .. port
  end
  self.line = table.concat(addresses, ',')
  self.to = self.line:gsub('%d+=', '')
  for _, n in ipairs(self.list) do n:start() end
  self.client = client.new(self.to, { timeout = options.timeout or 10000 })
  return self
end

function cluster:nodes() return self.list end
function cluster:node(id) return type(id) == 'table' and id or self.list[id] end
function cluster:call(...) return self.client:call(...) end
function cluster:query(...) return self.client:query(...) end

-- Puts [MOUNT=]FILE in force, and waits until it is. options: budget -> the answer; nil, err
function cluster:deploy(word, options)
  local deploy = require 'tidelock.deploy'
  local built, why = deploy.build(word)
  if not built then error('deploy: ' .. why, 2) end
  local before, err = deploy.look(self.client, built.mount)
  if not before then return nil, err end
  local answer, refused, index = deploy.send(self.client, built, before.hash, options)
  if not answer then return nil, refused end
  if answer.migrating then
    local ok, failed = deploy.wait(self.client, built.mount, index)
    if not ok then return nil, failed end
  end
  return answer
end

function cluster.sleep(_, ms) sys.sleep(ms / 1000) end

function cluster:note(format, ...)
  io.stdout:write(('%6.2f s  %s\n'):format(sys.now() - self.started, format:format(...)))
  io.stdout:flush()
end

function cluster:step(name, f)
  self:note('%s', name)
  return f()
end

-- Until f() gives something; within ms, else an error that names what was waited for.
function cluster.wait(_, what, within, f)
  local deadline = sys.now() + (within or 20000) / 1000
  repeat
    local value = f()
    if value then return value end
    sys.sleep(0.02)
  until sys.now() > deadline
  error(('waited %d ms for %s'):format(within or 20000, what), 0)
end

function cluster:leader()
  return self:wait_leader {}
end

local function last_line(path)
  local last
  for line in io.lines(path) do last = line end
  return last or 'its log is empty'
end

function cluster:wait_leader(options)
  options = options or {}
  local not_node = options.not_node and self:node(options.not_node)
  return self:wait('a leader', options.within, function()
    local best, term
    for _, n in ipairs(self.list) do
      -- Nobody killed it: it has said why, in its log.
      if n.pid and not n:alive() then
        error(('node %d ended with %d: %s'):format(n.id, n.exit, last_line(n.log)), 0)
      end
      local s = n.pid and n ~= not_node and n:status()
      if s and s.role == 'leader' and (not term or s.term > term) then best, term = n, s.term end
    end
    return best
  end)
end

-- Until all nodes are up and have applied the same, with equal digests. -> applied index, digest
function cluster:wait_equal(options)
  local list = self:wait('all nodes equal', (options or {}).within or 30000, function()
    local all = status.gather(self.to, 1000)
    return all and status.settled(all) and all
  end)
  return list[1].applied, list[1].digest
end

-- Ends what runs and removes the directory.
function cluster:close()
  running[self] = nil
  if self.client then self.client:close() end
  for _, n in ipairs(self.list) do if n:alive() then n:kill() end end
  os.execute('rm -rf "' .. self.dir .. '"')
end

-- Closes every cluster that a script left behind.
function cluster.close_all()
  for c in pairs(running) do c:close() end
end

return setmetatable(cluster, { __call = function(_, options) return open(options) end })
