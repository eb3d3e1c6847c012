-- spec/support/membership.lua: a machine of which a spec asks who shall be a member (src/machine/membership.h).
--
--   local m = membership.new { 1, 2, 3 }                     formed of these, all heard; a policy, if any: { 1, 2, 3, policy = text }
--   m:ask('operator', { op = 'promote', id = 4 })  -> answer; or nil, error
--   m:observe { leader = 1, [2] = { silent = m.now } }       facts of node 2; a field not given is as for a node that is well
--   m:carry_out()                                            what a leader does with the decision: joint, and then the rest
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local C, ffi = core.load('machine/membership.h', 'wire/members.h'), core.ffi

local M = setmetatable({}, { __index = machine })
M.__index = M

local VOTER, OLD, LEARNER = 1, 2, 4

-- A configuration's payload. one: { id, roles, address, incarnation, zone, tags, priority }
local function members_bytes(list)
  local out = core.buffer()
  local m = ffi.new('struct members[1]')
  m[0].count = #list
  for i, one in ipairs(list) do
    local to = m[0].list[i - 1]
    to.id, to.incarnation, to.roles, to.priority = one.id, one.incarnation or 100 + one.id, one.roles or VOTER, one.priority or 0
    ffi.copy(to.address, one.address or ('127.0.0.1:' .. 7300 + one.id))
    ffi.copy(to.zone, one.zone or '')
    if one.tags then
      local tags = machine.pack(one.tags)
      ffi.copy(to.tags, tags, #tags)
      to.tags_bytes = #tags
    end
  end
  C.members_pack(m, out)
  return core.buffer_text(out)
end

local function members_of(bytes)
  local m = ffi.new('struct members[1]')
  assert(tonumber(C.members_unpack(core.slice(bytes), m)) == 0)
  local list = {}
  for i = 0, tonumber(m[0].count) - 1 do
    local from = m[0].list[i]
    list[#list + 1] = { id = tonumber(from.id), roles = tonumber(from.roles), address = ffi.string(from.address),
      incarnation = tonumber(from.incarnation), zone = ffi.string(from.zone), priority = tonumber(from.priority),
      tags = from.tags_bytes > 0 and machine.unpack(ffi.string(from.tags, from.tags_bytes)) or nil }
  end
  return list
end

M.VOTER, M.OLD, M.LEARNER, M.members_bytes, M.members_of = VOTER, OLD, LEARNER, members_bytes, members_of

-- The bundle of a policy's text; nil, why.
function M.bundle(text)
  local file = machine.pack { 1, 'policy', '', 'policy', { { 'policy', text } } }
  local why = core.buffer()
  if tonumber(C.bundle_check(core.slice(file), why)) == 0 then return file end
  return nil, core.buffer_text(why)
end

-- Of nodes by ids, or given as members_bytes takes them.
function M.new(nodes)
  local self = setmetatable(machine.empty {}, M)
  local list = {}
  for i, one in ipairs(nodes) do list[i] = type(one) == 'table' and one or { id = one } end
  self:configure(list)
  if nodes.policy then assert(self:entry(3, assert(M.bundle(nodes.policy)))) end
  return self
end

-- The members, as the machine was told last.
function M:configure(list)
  for _, one in ipairs(list) do one.roles = one.roles or VOTER end
  self.members = list
  return self:entry(2, members_bytes(list))
end

local function pack_change(buffer, c)
  C.pack_array(buffer, 8)
  for _, value in ipairs { c.op, c.id, c.with or 0, c.address or '', c.incarnation or 0, c.zone or '' } do
    if type(value) == 'number' then C.pack_number(buffer, value) else C.pack_text(buffer, core.slice(value)) end
  end
  local names = {}
  for name in pairs(c.tags or {}) do names[#names + 1] = name end
  table.sort(names)
  C.pack_map(buffer, #names)
  for _, name in ipairs(names) do
    C.pack_text(buffer, core.slice(name))
    C.pack_text(buffer, core.slice(c.tags[name]))
  end
  C.pack_number(buffer, c.priority or 0)
end

-- changes: one, or a list; options: force, expected, why.
function M:ask(by, changes, options)
  options = options or {}
  local buffer = core.buffer()
  changes = changes.op and { changes } or changes
  C.pack_array(buffer, options.why and 5 or 4)
  C.pack_text(buffer, core.slice(by))
  C.pack_boolean(buffer, options.force or false)
  C.pack_number(buffer, options.expected or 0)
  C.pack_array(buffer, #changes)
  for _, one in ipairs(changes) do pack_change(buffer, one) end
  if options.why then C.pack_text(buffer, core.slice(options.why)) end
  local ok, value = self:entry(12, core.buffer_text(buffer))
  if ok then return value end
  return nil, value
end

-- A node asks to join.
function M:join(id, more)
  local change = { op = 'add', id = id, address = '127.0.0.1:' .. 7300 + id, incarnation = 100 + id }
  for name, value in pairs(more or {}) do change[name] = value end
  return self:ask('join', change)
end

-- Facts of members; leader: who leads.
function M:observe(facts)
  local list = {}
  facts = facts or {}
  for id, one in pairs(facts) do
    if type(id) == 'number' then
      list[#list + 1] = { id, one.silent or 0, one.lag or 0, one.caught_up ~= false, one.parked or false }
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  self.leads = facts.leader or self.leads or 1
  return self:entry(13, machine.pack { self.leads, { n = #list, unpack(list) } })
end

local function told(f, m)
  local out = core.buffer()
  f(m, out)
  return (machine.unpack(core.buffer_text(out)))
end

function M:membership() return told(C.machine_pack_membership, self.m) end
function M:history() return told(C.machine_pack_membership_history, self.m) end
function M:decision() return self:membership().decision end

-- Who is there, as a text like "1v 2v 4l".
function M:who()
  local out = {}
  for i, one in ipairs(self.members) do
    out[i] = one.id .. (one.roles == LEARNER and 'l' or one.roles == OLD and 'o' or 'v')
  end
  return table.concat(out, ' ')
end

local function votes(one) return one.roles ~= LEARNER and one.roles ~= OLD end

-- The members of both, while it is joint; nil if the voters are the same.
local function joint_of(old, new)
  local by_id, ids, changed = {}, {}, false
  for _, one in ipairs(new) do
    by_id[one.id] = setmetatable({}, { __index = one })
    by_id[one.id].roles = one.roles
  end
  for _, one in ipairs(old) do
    if votes(one) then
      local to = by_id[one.id]
      if not to then
        to = setmetatable({ roles = 0 }, { __index = one })
        by_id[one.id] = to
      end
      if to.roles ~= VOTER then changed = true end
      to.roles = to.roles + OLD
    end
  end
  for _, one in ipairs(new) do
    if votes(one) then
      local was = false
      for _, before in ipairs(old) do was = was or (before.id == one.id and votes(before)) end
      changed = changed or not was
    end
  end
  for id in pairs(by_id) do ids[#ids + 1] = id end
  table.sort(ids)
  local list = {}
  for i, id in ipairs(ids) do list[i] = by_id[id] end
  return changed and list or nil
end

-- Carries out the decision, or one that waited before, as a leader does; joint_only: the change stays half done.
function M:carry_out(joint_only, decision)
  decision = decision or assert(self:decision(), 'nothing was decided')
  local target = members_of(decision.members)
  local joint = joint_of(self.members, target)
  if joint then self:configure(joint) end
  if joint_only then return joint end
  self:configure(target)
  return target
end

-- Deploys a policy in place of the one in force, or of `expect`; unchecked: not looked at before. -> the answer; nil, error
function M:deploy(text, expect, unchecked)
  local bundle = machine.pack { 1, 'policy', '', 'policy', { { 'policy', text } } }
  if not unchecked then bundle = assert(M.bundle(text)) end
  local facts = machine.pack { kind = 'policy', mount = '', expect = expect or self:policy_hash() }
  local ok, value = self:entry(8, facts .. bundle)
  if ok then return value end
  return nil, value
end

-- From now on manual.
function M:undeploy()
  local ok, value = self:entry(8, machine.pack { kind = 'policy', mount = '', expect = self:policy_hash(), undeploy = true })
  assert(ok, ok == false and value.message)
  return value
end

function M:policy_hash()
  for _, one in ipairs((self:query('tidelock.code'))) do if one.kind == 'policy' then return one.hash end end
  return ''
end

-- A machine built of a snapshot of this one.
function M:through()
  local built
  snapshot.with_disk(function(disk)
    assert(snapshot.take(self, disk, 'a') == 'OK')
    built = assert(snapshot.build(disk, 'a'))
  end)
  setmetatable(built, M)
  built.members, built.leads, built.now, built.index = self.members, self.leads, self.now, self.index
  return built
end

return M
