-- tidelock/virtual.lua: the nodes of a cluster in mode 'sim': replicas in a simulated world, on virtual time.
--
-- One world at a time, and its clock is the only one. A script that uses this runs where lua/tidelock/prelude.lua put it.
local world, wire, machines = require 'tidelock.world', require 'tidelock.wire', require 'tidelock.node'
local client, tasks, setting = require 'tidelock.client', require 'tidelock.tasks', require 'tidelock.setting'

local virtual, node = {}, {}
virtual.__index, node.__index = virtual, node

local WALL_START_MS, PAUSE_MS, STOP_MS, JOIN_MS, RETRY_MS = 1700000000000, 1e14, 60000, 60000, 500
local LINKS_MS, WRITE_MS, APPLY_MS, ELECTION_MS, HEARTBEAT_MS = 3, 2, 1, 1000, 100

local open     -- the one that is open
local clock = 0 -- virtual ms, when none is

local driver = {}
function driver.now() return open and open.world:now() or clock end

function driver.idle(at)
  if not open then
    clock = at
  else
    local broken = open.world:run(math.max(1, math.ceil(at - driver.now())))
    if broken then error(('the simulator found a broken promise: %s (seed %.0f)'):format(broken, open.seed), 0) end
    open:look()
  end
  setting.clock(WALL_START_MS + driver.now())
end

-- --- clients ---

local own = setmetatable({ now = driver.now, sleep = tasks.sleep }, { __index = client })
own.__index = own

function own.close() end

-- Gives a request to a node; one that is paused gets it when it goes on.
local function deliver(one, entry)
  if one.paused then
    one.held[#one.held + 1] = entry
    return
  end
  entry.number = one.world:request(one.id, entry.name, entry.args, entry.timeout, entry.read, entry.query, entry.dry_run,
    entry.session, entry.seq, entry.done_below)
end

-- An error map as a client gets it.
local function as_sent(packed, index, definite)
  local _, map = wire.unpack(packed)
  map.definite, map.index = definite, index
  return wire.pack(map)
end

function own:attempt(name, args, options, deadline)
  local one = self.list[self.at]
  if not one.world:look(one.id) then return 'unreached', ('node %d is down'):format(one.id) end
  local entry = { name = name, args = args, timeout = options.timeout_ms, read = options.read,
    query = options.query, dry_run = options.dry_run, session = options.session, seq = options.seq,
    done_below = options.done_below }
  local began = driver.now()
  deliver(one, entry)
  local reply = tasks.wait(deadline + 250, function()
    if entry.died then return { 'died' } end
    if not entry.number or driver.now() == began then return nil end -- an answer takes time
    local kind, value, index, definite = one.world:reply(entry.number)
    return kind and { kind, value, index, definite }
  end)
  if not reply then return 'timeout', 'timeout' end
  if reply[1] == 'ok' then return 'answered', nil, reply[2], reply[3] end
  if reply[1] == 'error' then return 'answered', as_sent(reply[2], reply[3], reply[4]) end
  return 'lost', 'the node died'
end

-- --- watches ---

function own:begin_watch(args, deadline)
  local one = self.list[self.at]
  if not one.world:look(one.id) then return 'unreached', ('node %d is down'):format(one.id) end
  if one.paused then
    tasks.sleep(math.max(1, deadline - driver.now()))
    return 'timeout', 'timeout'
  end
  local number, err = one.world:watch(one.id, args)
  if not number then return 'answered', err end
  self.seen, self.seen_world = number, one.world
  return 'answered', nil, wire.pack { from = one.world:watch_from(number) }
end

function own:hear(deadline)
  local got = tasks.wait(deadline, function()
    local what, bytes = self.seen_world:next_event(self.seen)
    return what and { what, bytes }
  end)
  if not got then return nil, 'timeout' end
  if got[1] == 'event' then return 'tidelock.event', got[2] end
  if got[1] == 'ended' then return 'tidelock.watch_end', string.char(0x91) .. got[2] end
  return nil, 'the node died'
end

function own:is_well()
  local status = self.list[self.at]:status()
  return status ~= nil and status.leader ~= 0
end

function own.unwatch() end

function own:status() return self.list[self.at]:status() end

-- What the first one that is up says of itself.
function own:query_status()
  for _, one in ipairs(self.list) do
    local said = one:status()
    if said then return said end
  end
end

local function new_client(list, timeout)
  return setmetatable({ list = list, at = 1, timeout = timeout }, own)
end

-- --- nodes ---

function node:address() return ('h:%d'):format(7299 + self.id) end

local function check_up(self)
  if not self:alive() then error(('node %d does not run'):format(self.id), 3) end
end

-- What start --join does: asks until it is let in, or refused, and then runs.
local function enter(self)
  local asked = new_client({ unpack(self.backing.list, 1, self.backing.founders) }, JOIN_MS)
  local deadline, answer, err = driver.now() + JOIN_MS, nil, nil
  repeat
    local incarnation = self.world:joiner(self.id)
    if incarnation then
      answer, err = asked:call('tidelock.join', { id = self.id, incarnation = incarnation, address = self:address() })
    end
    if err and not client.may_pass(err) then break end
    if not answer then tasks.sleep(RETRY_MS) end
  until answer or driver.now() >= deadline
  local known = answer and asked:query_status()
  if not known then
    self.refused = err and err.message or 'nobody answered'
    return
  end
  self.world:joiner(self.id, known.cluster)
  self.let_in = true
  self.world:start(self.id)
end

function node:start()
  if self:alive() then error(('node %d runs already'):format(self.id), 2) end
  if self.left then error(('node %d was removed: its directory is of no use any more'):format(self.id), 2) end
  self.joined = true
  if self.id > self.backing.founders and not self.let_in then
    self.cluster:happened('join', self.id)
    tasks.go(enter, self)
    return self
  end
  self.world:start(self.id) -- if it refuses, failed() says so
  self.wanted = true
  self.cluster:happened('start', self.id)
  return self
end

-- Whoever waits for an answer of a paused node hears that it is gone.
local function gone(self)
  for _, entry in ipairs(self.held) do entry.died = true end
  self.held, self.paused, self.wanted = {}, nil, nil
end

function node:kill()
  check_up(self)
  self.world:crash(self.id)
  gone(self)
  self.cluster:happened('kill', self.id)
  return self
end

function node:stop()
  check_up(self)
  if self.paused then error(('node %d is paused: resume it first'):format(self.id), 2) end
  self.world:stop(self.id)
  self.wanted = nil
  self.cluster:happened('stop', self.id)
  local down = tasks.wait(driver.now() + STOP_MS, function() return not self:alive() end)
  if not down then error(('node %d did not stop within %d ms'):format(self.id, STOP_MS), 2) end
  gone(self)
  return 0
end

function node:pause()
  check_up(self)
  self.world:pause(self.id, PAUSE_MS)
  self.paused = true
  self.cluster:happened('pause', self.id)
  return self
end

function node:resume()
  check_up(self)
  self.world:resume(self.id)
  self.paused = nil
  local held = self.held
  self.held = {}
  for _, entry in ipairs(held) do deliver(self, entry) end
  self.cluster:happened('resume', self.id)
  return self
end

function node:client(timeout) return new_client({ self }, timeout or 5000) end

function node:status()
  local bytes = not self.paused and self.world:status(self.id)
  if not bytes then return nil end
  local _, answer = wire.unpack(bytes)
  return answer
end

function node:alive() return (self.world:look(self.id)) end

function node:said() return self.world:last_words(self.id) or '' end

function node:failed()
  if self.refused then return ('node %d may not join: %s'):format(self.id, self.refused) end
  if not self.wanted and not self.let_in or self:alive() then return nil end
  if self:said():find('was removed from the cluster', 1, true) then
    self.left, self.wanted, self.let_in = true, nil, nil
    return nil
  end
  if not self.wanted then return nil end
  return ('node %d ended: %s'):format(self.id, self:said())
end

-- --- the cluster's part ---

-- What `[name=]file` or name = file brings, as the node that starts would load it.
local function bundles(options)
  local list = {}
  for name, file in pairs(options.machines or { options.machine }) do
    local mount, path = '', file
    if type(name) == 'string' then mount = name else
      local before, after = file:match('^([^=/]*)=(.*)$')
      if before then mount, path = before, after end
    end
    local bytes, why = machines.bundle(mount, path)
    if not bytes then error('cluster: ' .. why, 0) end
    list[#list + 1] = bytes
  end
  if options.policy then
    local bytes, why = machines.bundle('', options.policy, 'policy')
    if not bytes then error('cluster: ' .. why, 0) end
    list[#list + 1] = bytes
  end
  return list
end

-- Virtual time is what counts from now on.
function virtual.begin()
  tasks.drive(driver)
  setting.clock(WALL_START_MS)
end

function virtual.open(cluster, options)
  if open then error("cluster: in mode 'sim' one cluster is there at a time: close the other first", 0) end
  local self = setmetatable({ list = {}, seed = setting.seed or options.seed or 1 }, virtual)
  self.world = world.new { seed = self.seed, nodes = options.nodes, bundles = bundles(options),
    founders = options.founders or options.nodes, delay_ms = LINKS_MS,
    write_ms = WRITE_MS, apply_ms = APPLY_MS, election_ms = ELECTION_MS, heartbeat_ms = HEARTBEAT_MS, trace = setting.trace }
  self.cluster, self.founders = cluster, options.founders or options.nodes
  for id = 1, options.nodes do
    self.list[id] = setmetatable({ id = id, cluster = cluster, world = self.world, backing = self, held = {} }, node)
  end
  open = self
  setting.clock(WALL_START_MS + driver.now())
  return self
end

-- Tells the cluster who is what now.
function virtual:look()
  for _, one in ipairs(self.list) do
    local _, _, role, term = self.world:look(one.id)
    self.cluster:seen(one.id, role, term)
  end
end

-- A client begins with any node, as one does who knows only addresses.
function virtual:client(one, timeout) return new_client(one and { one } or self.list, timeout) end

function virtual.now() return driver.now() end
virtual.say, virtual.write_file = setting.say, setting.write_file

-- A line in the transcript, if there is one.
function virtual:tell(what, text, id) self.world:tell(what, text, id) end

function virtual:cut(from, to, on)
  self.world:cut(from.id, to.id, on)
  return true
end

function virtual:lose(lost, doubled, overtaken)
  self.world:lose(lost, doubled, overtaken)
  return true
end

-- of: a node, or nil for what is between all. nil: as it was.
function virtual:slow(of, disk, script, links)
  if of then self.world:slow(of.id, disk or WRITE_MS, script or APPLY_MS) else self.world:delay(links or LINKS_MS) end
  return true
end

function virtual:skew(one, ms)
  self.world:skew(one.id, ms)
  return true
end

function virtual:fill(one, on)
  self.world:fill(one.id, on)
  return true
end

function virtual.corrupt(one, file, at, bytes)
  if one:alive() then return nil, ('node %d runs: stop or kill it first'):format(one.id) end
  return one.world:damage(one.id, file, at, bytes)
end

function virtual:close()
  clock, open = driver.now(), nil
  self.world:close()
end

return virtual
