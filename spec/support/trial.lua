-- spec/support/trial.lua: one seed of a test on real replicas: faults of the simulator's table (sim/faults.h) strike a world of
-- the counter service, clients go on as they are told, and their history is judged (sim/history.h). Time passes in steps of a
-- millisecond; everything is drawn from the seed.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local W = require 'spec.support.replicas'
local ffi = core.ffi
local C = core.load('sim/faults.h', 'sim/books_history.h', 'sim/sim_disk.h')

local T = setmetatable({}, { __index = W })
T.__index = T

-- Faults that leave disks as they were promised to be.
T.MESSAGES = { 'loss', 'duplicate', 'reorder', 'delay', 'break', 'stall' }
T.PROCESSES = { 'crash', 'crash-in-write', 'stop', 'pause', 'slow-script' }
T.DISKS = { 'hang', 'slow-disk', 'disk-error', 'full' }
T.CLOCKS = { 'wall-clock', 'drift' }
T.PARTITIONS = { 'partition', 'flap' }

function T.all(...)
  local names = {}
  for _, list in ipairs { ... } do
    for _, name in ipairs(list) do names[#names + 1] = name end
  end
  return names
end

-- A world that is drawn; nothing in it is up yet. In one seed of four there will be no faults: trial.quiet.
function T.new(seed, nodes)
  local random = core.random(seed)
  local options = { seed = seed, nodes = nodes, delay_ms_max = random(4) == 1 and random(30) or random(5),
    write_ms_max = random(4) == 1 and random(20) or random(0, 3), apply_ms_max = random(0, 2), election_ms = random(150, 600) }
  options.heartbeat_ms = math.floor(options.election_ms / random(4, 8))
  local self = setmetatable(W.new(options), T)
  self.seed, self.random, self.options, self.quiet = seed, random, options, random(4) == 1
  self.field = ffi.new('struct fault_field', { world = self.world, nodes = nodes, delay_ms_max = options.delay_ms_max,
    write_ms_max = options.write_ms_max, apply_ms_max = options.apply_ms_max })
  C.prng_seed(self.field.prng, seed)
  self.script, self.active, self.clients, self.told = {}, {}, {}, { ok = 0, refused = 0, unknown = 0 }
  self.kept, self.ending = {}, {}
  self.history, self.calls = ffi.gc(C.books_history_new(), C.books_history_free), 0
  return self
end

function T:now() return tonumber(C.replica_world_now(self.world)) end

-- --- faults ------------------------------------------------------------------------------------------------------------------

local RESTARTS = { crash = true, ['crash-in-write'] = true, stop = true } -- what mends them is a start

-- Draws strikes of these faults for the next `ms`; about half of the faults are on.
function T:strike(names, ms)
  if self.quiet then return end
  local random = self.random
  for _, name in ipairs(names) do
    local place = C.fault_named(name)
    local fault = C.fault_at(place)
    local mean = math.floor(fault.every_ms / random(3))
    if random(2) == 1 then
      local at = random(2 * mean)
      while at < ms do
        local node = random(0, self.nodes - 1)
        self.script[#self.script + 1] = { at = self:now() + at, order = #self.script, name = name, fault = fault,
          strike = ffi.new('struct strike', { fault = place, node = node, peer = (node + random(self.nodes)) % self.nodes,
            leader = random(2) == 1, amount = random(0, fault.amount_max), lasts = random(0, fault.lasts_ms) }) }
        at = at + random(2 * mean)
      end
    end
  end
  table.sort(self.script, function(a, b) return a.at < b.at or a.at == b.at and a.order < b.order end)
end

-- Kills a node within that operation of its disk, counted from now; it is started again like any that is down.
function T:kill_within(node, operation)
  if not self.quiet then C.replica_world_fail_disk(self.world, node, operation) end
end

-- Who is down is started again, sooner or later; a node that is kept down is not.
function T:watch(chance)
  for i = 0, self.nodes - 1 do
    if not self.kept[i] and not self:status(i).up and self.random(chance) == 1 then self:start(i) end
  end
end

-- A node stays down from now on, or not.
function T:keep_down(node, kept) self.kept[node] = kept or nil end

local function strikes(self, now)
  while self.script[1] and self.script[1].at <= now do
    local one = table.remove(self.script, 1)
    local leader = one.strike.leader and self:leader() or W.NOBODY
    if leader ~= W.NOBODY then one.strike.node = leader end
    one.fault.strike(self.field, one.strike)
    if one.name == 'stop' then self.ending[one.strike.node] = true end
    one.ends = now + one.strike.lasts
    if one.fault.mend ~= nil then self.active[#self.active + 1] = one end
  end
  for i = #self.active, 1, -1 do
    local one = self.active[i]
    if one.ends <= now then
      if not (RESTARTS[one.name] and self.kept[one.strike.node]) then one.fault.mend(self.field, one.strike) end
      table.remove(self.active, i)
    end
  end
end

-- No fault any more; who was told to end does; whoever is down starts.
function T:mend()
  self.script = {}
  strikes(self, math.huge)
  for i = 0, self.nodes - 1 do
    C.sim_disk_calm(C.replica_world_disk(self.world, i))
    C.replica_world_hang(self.world, i, 0)
    C.replica_world_resume(self.world, i)
  end
  self:pass(6000, function() return next(self.ending) == nil end)
  self:watch(1)
end

-- --- clients -----------------------------------------------------------------------------------------------------------------

-- A client: { count = requests (default: no end), node = function() -> whom to ask, query = chance of 1, key = text, forward =
-- false: at the leader alone, think = ms at most }. It asks one thing at a time.
function T:client(options)
  self.clients[#self.clients + 1] = options
  options.number, options.left, options.next_at = #self.clients, options.count or math.huge, self:now()
  options.done = 0
end

local function ends(self, client)
  local reply = self:reply(client.request)
  if reply.replies == 0 and not reply.died then return end
  local how = reply.ok and 'ok' or reply.replies == 1 and reply.definite and 'refused' or 'unknown'
  assert(how ~= 'unknown' or not client.is_query or reply.died, 'a query ended unknown')
  self.told[how] = self.told[how] + 1
  client.done = client.done + (how == 'ok' and 1 or 0)
  local value = reply.value ~= 0 and reply.value or nil -- a counter that is not there
  C.books_history_end(self.history, client.op, reply.replies == 1 and reply.at or self:now(),
    how == 'ok' and C.HISTORY_OK or how == 'refused' and C.HISTORY_FAIL or C.HISTORY_INFO, core.slice(machine.pack(value)))
  client.request = nil
  if client.ended then client.ended(how, reply, client) end
end

local function begins(self, client)
  local node = client.node and client.node() or self.random(0, self.nodes - 1)
  local status = self:status(node)
  if not status.up or status.paused then return end
  client.left, self.calls = client.left - 1, self.calls + 1
  client.asked, client.is_query = node, client.query ~= nil and self.random(client.query) == 1
  local args = machine.pack(client.is_query and { client.key } or { self.calls, client.key, 1 })
  client.op = C.books_history_begin(self.history, client.number, self:now(),
    client.is_query and C.HISTORY_GET or C.HISTORY_INCR, core.slice(args), true)
  client.request = self:ask(node, { timeout = client.timeout or self.random(100, 3000), query = client.is_query,
    forward = client.forward }, client.is_query and 'counter.value' or 'counter.add', client.key)
end

-- Time passes: faults strike, clients go on, whoever is down is started again. Ends early once `condition` holds.
function T:pass(ms, condition)
  for _ = 1, ms do
    if condition and condition() then return true end
    local now = self:now()
    strikes(self, now)
    for node in pairs(self.ending) do
      if not self:status(node).up then self.ending[node] = nil end
    end
    if now % 400 == 0 then self:watch(4) end
    for _, client in ipairs(self.clients) do
      if client.request then ends(self, client) end
      if not client.request and client.left > 0 and client.next_at <= now then
        begins(self, client)
        client.next_at = now + (client.think and self.random(0, client.think) or 0)
      end
    end
    self:run(1)
  end
  return condition == nil
end

-- Every client has asked what it had to.
function T:finish(within)
  local function all()
    for _, client in ipairs(self.clients) do
      if client.request or client.left > 0 then return false end
    end
    return true
  end
  assert(self:pass(within, all), ('seed %d: clients are not through after %d ms'):format(self.seed, within))
end

-- Clients ask nothing new; what they have asked ends.
function T:rest()
  for _, client in ipairs(self.clients) do client.left = 0 end
  self:finish(4000)
end

-- --- what must be so -----------------------------------------------------------------------------------------------------------

-- After mending: one leader that all follow, all applied the same, and the history is linearizable.
function T:settle()
  self:mend()
  self:pass(2000) -- a write that the disk took long for may still make a leader step down
  local election = self.options.election_ms
  assert(self:pass(4000 + 30 * election, function() return self:agree() end), self:says('nobody leads all'))
  self:ready()
  self:equal()
  for name in pairs(self:keys()) do self:one('read', name) end
  local why = ffi.new('char[1600]')
  assert(C.books_history_fine(self.history, why, 1600), 'seed ' .. self.seed .. ': ' .. ffi.string(why))
end

function T:keys()
  local keys = {}
  for _, client in ipairs(self.clients) do keys[client.key] = true end
  return keys
end

-- One more request, in the history: it is answered.
function T:one(what, key, node)
  local client = { key = key, node = function() return node or self:leader() end, query = what == 'read' and 1 or nil,
    timeout = 3000, count = 1 }
  self:client(client)
  self:finish(4000)
  assert(client.done == 1, self:says(what .. ' of ' .. key .. ' is not answered'))
end

-- Some node leads, and all nodes that are up say that it does.
function T:agree()
  local leader = self:leader()
  if leader == W.NOBODY then return false end
  local term = self:status(leader).term
  for i = 0, self.nodes - 1 do
    local s = self:status(i)
    if not s.raft and not self.kept[i] then return false end
    if s.raft and (s.leader ~= leader + 1 or s.term ~= term) then return false end
  end
  return true
end

function T:says(what)
  local said = {}
  for i = 0, self.nodes - 1 do
    local s = self:status(i)
    said[#said + 1] = ('node %d %s role %d term %d leader %d commit %d last %d applied %d %s'):format(i, s.up and 'up' or 'down',
      s.role, tonumber(s.term), tonumber(s.leader), tonumber(s.commit), tonumber(s.last), tonumber(s.applied), self:fatal(i))
  end
  return ('seed %d, %d ms: %s\n%s'):format(self.seed, self:now(), what, table.concat(said, '\n'))
end

return T
