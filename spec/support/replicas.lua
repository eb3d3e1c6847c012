-- spec/support/replicas.lua: a world of replicas (sim/replica_world.h) in a spec: requests as Lua values, waiting on
-- virtual time. Nodes are numbered from 0.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local ffi = core.ffi
local C = core.load('base/trace.h', 'storage/identity.h', 'sim/replica_world.h', 'sim/sim_disk.h',
  'wire/message.h', 'wire/entry.h', 'wire/request.h')

local W = { C = C, LEADER = 3, NOBODY = 255 }
W.__index = W

-- Refusals and stepping down are what many specs are about: they are not for the terminal.
C.log_setup(os.getenv('LOG') and C.LOG_DEBUG or C.LOG_ERROR, C.LOG_TEXT)

W.counter = [[
return { name = 'counter', version = 1, state = { count = 'map' },
  commands = {
    add = { args = 'name n:int=1', run = function(ctx, name, n) return ctx.db.count:add(name, n) end },
    note = { args = 'text', run = function(ctx) return ctx.db.count:add('notes', 1) end },
    burst = function(ctx) local s = 'x'; while true do s = s .. s end end },
  queries = { value = { args = 'name', run = function(ctx, name) return ctx.db.count:get(name) or 0 end },
    now = function(ctx) return ctx.now end } }]]

W.pack, W.bundle = machine.pack, machine.bundle

function W.bundles(modules)
  local list = {}
  for mount, text in pairs(modules) do list[#list + 1] = assert(machine.bundle(mount, text)) end
  table.sort(list)
  return machine.pack(list)
end

function W.line(nodes, first)
  local parts = {}
  for i = first or 0, nodes - 1 do parts[#parts + 1] = ('%d=h:730%d'):format(i + 1, i) end
  return table.concat(parts, ',')
end

local packed

-- Nodes from `founders` on join later: they are not in the line.
local function name_joiners(self, founders)
  for i = 0, self.nodes - 1 do
    C.replica_world_flags(self.world, i, i + 1, i < founders and W.line(founders) or '', core.slice(self.packed))
  end
end

function W.new(options)
  options = options or {}
  packed = packed or W.bundles { counter = W.counter }
  local o = ffi.new('struct replica_world_options[1]')
  for k, v in pairs { seed = 1, nodes = 3, delay_ms_max = 3, write_ms_max = 2, apply_ms_max = 1, election_ms = 150,
    heartbeat_ms = 30, lua_bytes_max = 64 * 1024 * 1024 } do o[0][k] = v end
  for k, v in pairs(options) do
    if k == 'snapshots' then for name, value in pairs(v) do o[0].snapshots[name] = value end
    elseif k ~= 'bundles' and k ~= 'founders' then o[0][k] = v end
  end
  local self = setmetatable({ nodes = o[0].nodes, packed = options.bundles or packed }, W)
  self.world = ffi.gc(C.replica_world_new(o, W.line(self.nodes), core.slice(self.packed)), C.replica_world_free)
  self.founders = options.founders or self.nodes
  if self.founders < self.nodes then name_joiners(self, self.founders) end
  return self
end

-- A world whose nodes are all up and whose service answers.
function W.formed(options)
  local self = W.new(options)
  self:start_all()
  self:ready()
  return self
end

-- What `start --join` does: asks `via` to let it in, and starts. -> the reply
function W:join(node, via, more)
  local incarnation = C.replica_world_joiner(self.world, node, 0)
  local about = { id = self.ids and self.ids[node] or node + 1, incarnation = tonumber(incarnation), address = ('h:730%d'):format(node) }
  for k, v in pairs(more or {}) do about[k] = v end
  local reply = self:call(via, 'tidelock.join', about)
  if reply.ok then
    C.replica_world_joiner(self.world, node, self:status(via).cluster_id)
    self:start(node)
  end
  return reply
end

-- Its directory is lost; from now on it is another node. -> its id
function W:anew(node, id)
  self:crash(node)
  C.replica_world_wipe(self.world, node)
  C.replica_world_flags(self.world, node, id, '', core.slice(self.packed))
  self.ids = self.ids or {}
  self.ids[node] = id
end

function W:members(via) return self:query(via, 'tidelock.members').value end
function W:history(via) return self:query(via, 'tidelock.members_history').value end

function W:change(via, changes, options)
  return self:call(via, 'tidelock.members_change', changes, options or { map = true })
end

-- Until the members are these: { [id] = role }
function W:until_members(via, wanted, within)
  local last
  self:until_true('members', function()
    local reply = self:query(via, 'tidelock.members')
    if not reply.ok then return false end
    last = reply.value
    local now, count = {}, 0
    for _, m in ipairs(last.members) do now[m.id], count = m.role, count + 1 end
    for id, role in pairs(wanted) do
      if now[id] ~= role then return false end
      count = count - 1
    end
    return count == 0 and not last.joint and not last.decision
  end, within)
  return last
end

function W:start(node) return C.replica_world_start(self.world, node) end
function W:crash(node) C.replica_world_crash(self.world, node) end
function W:fatal(node) return ffi.string(C.replica_world_fatal(self.world, node)) end
function W:leader() return C.replica_world_leader(self.world) end

function W:start_all()
  for i = 0, self.founders - 1 do
    if not self:status(i).up then self:start(i) end
  end
end

function W:run(ms)
  local broken = C.replica_world_run(self.world, ms)
  if broken ~= nil then error(ffi.string(broken), 0) end
end

function W:until_true(what, condition, within)
  for _ = 1, (within or 20000) / 10 do
    if condition() then return end
    self:run(10)
  end
  local said = {}
  for i = 0, self.nodes - 1 do
    local s = self:status(i)
    said[#said + 1] = ('node %d up %s role %d term %d commit %d applied %d formation %d %s'):format(i, tostring(s.up), s.role,
      tonumber(s.term), tonumber(s.commit), tonumber(s.applied), s.formation, self:fatal(i))
  end
  error(('not within %d ms: %s\n%s'):format(within or 20000, what, table.concat(said, '\n')), 0)
end

-- The service answers at some node.
function W:ready()
  self:until_true('the service answers', function()
    for i = 0, self.nodes - 1 do
      if self:status(i).up then
        local reply = self:wait(self:ask(i, { timeout = 400, query = true }, 'counter.value', 'none'))
        if reply.ok then return true end
      end
    end
  end)
end

function W:status(node)
  local status = ffi.new('struct replica_world_status')
  C.replica_world_status(self.world, node, status)
  return status
end

-- Begins a request; -> its number
function W:ask(node, how, name, ...)
  local args = machine.pack { n = select('#', ...), ... }
  local request = ffi.new('struct request[1]')
  local r = request[0]
  r.name, r.args = core.slice(name), core.slice(args)
  r.timeout_ms, r.forward = how.timeout or 2000, how.forward ~= false
  r.read = how.stale and C.READ_STALE or how.lease and C.READ_LEASE or C.READ_LINEARIZABLE
  r.query_only, r.dry_run = how.query or false, how.dry_run or false
  if how.session then r.session, r.seq, r.done_below = core.slice(how.session), how.seq, how.done_below or 0 end
  return C.replica_world_ask(self.world, node, request)
end

-- Watches events of a node: -> its number; nil, the error map
function W:watch(node, ...)
  local out = core.buffer()
  local number = C.replica_world_watch(self.world, node, core.slice(machine.pack { n = select('#', ...), ... }), out)
  if number == 4294967295 then return nil, (machine.unpack(core.buffer_text(out))) end
  return number
end

-- What a watch has to tell now: a list of { id, topic, key, data }; and if it ended, how: an error map, or 'gone'
function W:events(watch)
  local list = {}
  while true do
    local out = core.buffer()
    local told = tonumber(C.replica_world_next(self.world, watch, out))
    if told == C.REPLICA_WORLD_NOTHING then return list end
    if told == C.REPLICA_WORLD_GONE then return list, 'gone' end
    if told == C.REPLICA_WORLD_ENDED then return list, (machine.unpack(core.buffer_text(out))) end
    list[#list + 1] = machine.unpack(core.buffer_text(out))
  end
end

-- What came of it so far: { replies, ok, definite, index, at, died, value | code, message }
function W:reply(number)
  local r = C.replica_world_reply(self.world, number)
  local reply = { replies = r.replies, ok = r.ok, definite = r.definite, index = tonumber(r.index), at = tonumber(r.at),
    died = r.node_died }
  if r.replies > 0 then
    local value = machine.unpack(core.text(r.value))
    if r.ok then reply.value = value else
      reply.code, reply.message, reply.data = value.code, value.message, value.data
    end
  end
  return reply
end

function W:wait(number, within)
  for _ = 1, (within or 12000) do
    local reply = self:reply(number)
    if reply.replies > 0 or reply.died then return reply end
    self:run(1)
  end
  error('request ' .. number .. ' got no reply', 0)
end

-- Asks a node for a snapshot; -> its reply, as of a request
function W:snapshot(node, timeout)
  return self:wait(C.replica_world_snapshot(self.world, node, timeout or 10000), (timeout or 10000) + 1000)
end

-- What the footer of a node's newest snapshot says.
function W:seal(node)
  local name, seal = ffi.new('char[?]', C.DISK_NAME_MAX), ffi.new('struct snapshot_seal[1]')
  C.snapshot_name(name, self:status(node).snapshot)
  assert(tonumber(C.snapshot_read_seal(C.replica_world_disk(self.world, node), name, seal)) == 0)
  return seal[0]
end

-- For how long the identity on a node's disk says that it may have promised not to help others to lead.
function W:lease_noted(node)
  local identity = ffi.new('struct identity[1]')
  assert(tonumber(C.identity_load(C.replica_world_disk(self.world, node), identity, core.buffer())) == 0)
  return tonumber(identity[0].lease_ms)
end

function W:call(node, name, ...) return self:wait(self:ask(node, {}, name, ...)) end
function W:query(node, name, ...) return self:wait(self:ask(node, { query = true }, name, ...)) end

-- All nodes that are up have applied the same.
function W:equal(within)
  self:until_true('all nodes applied the same', function()
    local first
    for i = 0, self.nodes - 1 do
      local s = self:status(i)
      if s.up then
        if not s.raft or s.applied < s.commit then return false end
        local now = tostring(s.applied) .. tostring(s.digest_hi) .. tostring(s.digest_lo)
        first = first or now
        if now ~= first then return false end
      end
    end
    return first ~= nil
  end, within)
end

function W:cut(from, to, on) C.replica_world_cut(self.world, from, to, on ~= false) end

function W:isolate(node, on)
  for i = 0, self.nodes - 1 do
    if i ~= node then
      self:cut(node, i, on)
      self:cut(i, node, on)
    end
  end
end

-- Bytes of a link's beginning, or of one more frame.
function W.frame(fill, records)
  local message, out = ffi.new('struct message[1]'), core.buffer()
  fill(message[0])
  C.message_encode(out, message, #(records or ''))
  return core.buffer_text(out) .. (records or '')
end

-- The frame at the front of bytes as a struct message, and how long it is; nil if there is none.
function W.decode(bytes)
  local message, used = ffi.new('struct message[1]'), ffi.new('size_t[1]')
  if tonumber(C.message_decode(core.slice(bytes), message, used)) ~= 0 then return nil end
  return message[0], tonumber(used[0])
end

function W:say(node, bytes) return C.replica_world_say(self.world, node, core.slice(bytes)) end

function W:heard(connection)
  local open = ffi.new('bool[1]')
  return core.text(C.replica_world_heard(self.world, connection, open)), open[0]
end

return W
