-- spec/support/server.lua: one core (raft/raft.h), with messages and answers made by hand: for the specs of the paper's rules.
--
--   local s = server.new { term = 2, log = { 1, 1, 2 }, nodes = 3 }     -- server 1; what it has is durable
--   local effects = s:receive(2, 2, 2, { prev_log_index = 3, prev_log_term = 2 })
--
-- After every step raft_invariants hold, and effects are those of the last one.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('raft/types.h', 'raft/raft.h')

local VOTE_RESPONSE, APPEND, LEADER = 1, 2, 3
local TIMEOUT, MESSAGE, PERSISTED, SENT, COMPACTED, SNAPSHOT_READY, CHANGE = 0, 1, 3, 4, 10, 11, 12

local server = {}
server.__index = server

-- The configuration that entry `id` made: voters, their number or a list, and perhaps old voters, learners and priorities.
function server.configuration(id, voters, more)
  local configuration, lists = ffi.new('struct raft_configuration[1]'), more or {}
  local function fill(name, list)
    for i, node in ipairs(list or {}) do configuration[0][name][i - 1] = node end
    return list and #list or 0
  end
  if type(voters) == 'number' then
    local all = {}
    for i = 1, voters do all[i] = i end
    voters = all
  end
  configuration[0].id = id
  configuration[0].voters_count = fill('voters', voters)
  configuration[0].old_voters_count = fill('old_voters', lists.old)
  configuration[0].learners_count = fill('learners', lists.learners)
  fill('priorities', lists.priorities)
  return configuration
end

-- A server of a cluster with `log` = the terms of its entries; entry 1 has term 1. `base`: those up to there are in a snapshot.
function server.new(options)
  options = options or {}
  local o = ffi.new('struct raft_options[1]', { { id = options.id or 1, seed = 3, election_timeout_ms = 100, heartbeat_ms = 20,
    window_messages = 8, window_bytes = 100000, message_bytes_max = 10000, uncommitted_entries_max = 100,
    lease_drift_ms = options.lease or 0 } })
  local self = setmetatable({ now = 1000, e = ffi.new('struct raft_effects[1]'), written = 0 }, server)
  self.raft = ffi.gc(C.raft_new(o), C.raft_free)
  C.raft_restore_vote(self.raft, options.term or 1, options.vote or 0)
  local log, base = options.log or { 1 }, options.base or 0
  if base > 0 then C.raft_restore_base(self.raft, base, log[base]) end
  for i = base + 1, #log do C.raft_restore_entries(self.raft, i, i, log[i]) end
  if #log > 0 then C.raft_restore_configuration(self.raft, options.configuration or server.configuration(1, options.nodes or 3)) end
  C.raft_start(self.raft, self.now, options.commit or math.max(base, 1), self.e)
  return self
end

function server:step(kind, fill)
  local event = ffi.new('struct raft_event[1]')
  event[0].type, event[0].now = kind, self.now
  local keep = fill and fill(event[0])
  C.raft_step(self.raft, event, self.e)
  assert(C.raft_invariants(self.raft, nil) == nil)
  if self.e[0].write.number ~= 0 then self.written = self.e[0].write.number end
  return self.e[0], keep
end

function server:pass(ms)
  self.now = self.now + ms
  return self:step(TIMEOUT)
end

function server:persist()
  return self:step(PERSISTED, function(e) e.persisted.write_number = self.written end)
end

-- `configurations`: those of the attached entries that are some (server.configuration).
function server:receive(from, kind, term, fields, terms, configurations)
  local m, runs, list = ffi.new('struct raft_message[1]'), ffi.new('struct raft_run[8]'), ffi.new('struct raft_configuration[4]')
  m[0].type, m[0].from, m[0].to, m[0].term = kind, from, 1, term
  local body = ({ [0] = 'request_vote', 'vote_response', 'append_entries', 'append_response', 'install_snapshot' })[kind]
  for k, v in pairs(fields or {}) do m[0][body][k] = v end
  for i, configuration in ipairs(configurations or {}) do list[i - 1] = configuration[0] end
  if terms then
    for i, t in ipairs(terms) do runs[i - 1].first, runs[i - 1].term = fields.prev_log_index + i, t end
    m[0].append_entries.last_index = fields.prev_log_index + #terms
  elseif kind == APPEND then m[0].append_entries.last_index = fields.prev_log_index end
  return (self:step(MESSAGE, function(e)
    e.message.message, e.message.runs, e.message.runs_count = m, runs, terms and #terms or 0
    e.message.configurations, e.message.configurations_count = list, configurations and #configurations or 0
    return { m, runs, list }
  end))
end

-- The caller's side of snapshots: the log may be cut up to an index; an offered snapshot is here.
function server:compact(index)
  return self:step(COMPACTED, function(e) e.compacted.index = index end)
end

function server:install(index, term, nodes)
  return (self:step(SNAPSHOT_READY, function(e)
    local configuration = server.configuration(nodes and index or 1, nodes or 3)
    e.snapshot_ready.index, e.snapshot_ready.term, e.snapshot_ready.configuration = index, term, configuration
    return configuration
  end))
end

-- Proposes a configuration in place of the one in force: gives what became of it, and the effects.
function server:change(configuration, expected, force)
  local e = self:step(CHANGE, function(event)
    event.change.configuration, event.change.expected_id = configuration, expected or self:status().configuration_id
    event.change.force = force or false
    return configuration
  end)
  return tonumber(e.change), e
end

-- In force: { voters, old, learners }, lists of ids.
function server:members()
  local now = ffi.new('struct raft_configuration[1]')
  C.raft_get_configuration(self.raft, now)
  local function list(of, count)
    local out = {}
    for i = 1, tonumber(count) do out[i] = tonumber(of[i - 1]) end
    return out
  end
  return { voters = list(now[0].voters, now[0].voters_count), old = list(now[0].old_voters, now[0].old_voters_count),
    learners = list(now[0].learners, now[0].learners_count) }
end

function server:status()
  local s = ffi.new('struct raft_status[1]')
  C.raft_get_status(self.raft, s)
  return s[0]
end

function server.only(effects)
  assert(effects.messages_count == 1, ('%d messages, not 1'):format(tonumber(effects.messages_count)))
  return effects.messages[0]
end

-- A leader of three, term 2, whose own no-op (entry 2) is durable.
function server.leader(options)
  local s = server.new(options)
  s:pass(200)
  s:receive(2, VOTE_RESPONSE, (options and options.term or 1) + 1, { granted = true, pre_vote = true })
  s:persist()
  s:receive(2, VOTE_RESPONSE, s:status().current_term, { granted = true })
  assert(s:status().role == LEADER, 'does not lead')
  for peer = 2, 3 do
    s:step(SENT, function(e) e.sent.peer, e.sent.epoch, e.sent.last, e.sent.bytes = peer, 1, s:status().last_log_index, 100 end)
  end
  s:persist()
  return s
end

return server
