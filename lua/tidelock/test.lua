-- tidelock/test.lua: a service in this process, for its specs (README, "Testing a service"): no sockets, no disk, no threads; entries are
-- applied one after another, as on every node, and time passes when the spec says so.
local machine, node, wire = require 'tidelock.machine', require 'tidelock.node', require 'tidelock.wire'

local test = {}

-- Where the spec that runs lies, with a slash at the end: files are looked for there too. `tidelock test` sets it.
test.beside = ''
-- Every host is added here while it is a list: { modules, seed, now, steps }. `tidelock test --check-determinism` sets it.
test.record = nil

local CONFIGURATION, BUNDLE, COMMAND, BATCH, SESSION, DUE, DEPLOY, MIGRATE, LIMIT = 2, 3, 4, 5, 6, 7, 8, 9, 10
local START = 1700000000000 -- ms: as simulated runs
local DUE_MAX = 100000 -- entries of one advance
local OPEN_MAX = 15 -- requests of a session that may be sent again

---@class tidelock.test.host
local host = {}
host.__index = host

local refusal = { __tostring = function(err) return ('%s: %s'):format(tostring(err.code), tostring(err.message)) end }

-- --- values --------------------------------------------------------------------------------------------------------------------

-- Numbers that no value may be: the machine is to see them, so they are packed here.
local odd = { [1 / 0] = '\203\127\240\0\0\0\0\0\0', [-1 / 0] = '\203\255\240\0\0\0\0\0\0' }

local function pack(value)
  if value == nil then return '\192' end
  if value ~= value then return '\203\127\248\0\0\0\0\0\0' end
  if odd[value] then return odd[value] end
  local bytes, why = wire.pack(value)
  if not bytes then error('arguments: ' .. why, 0) end
  return bytes
end

-- The MessagePack list of n values, of which some may be nil.
function test.pack_list(n, list)
  local out = { n < 16 and string.char(0x90 + n) or '\220' .. string.char(math.floor(n / 256), n % 256) }
  for i = 1, n do out[i + 1] = pack(list[i]) end
  return table.concat(out)
end

local function unpack_value(bytes)
  local ok, value = wire.unpack(bytes)
  if not ok then error('not a MessagePack value: ' .. value, 0) end
  return value
end

local function answer(ok, bytes)
  local value = unpack_value(bytes)
  if ok then return value end
  return nil, setmetatable(value, refusal)
end

-- --- making one ----------------------------------------------------------------------------------------------------------------

local function exists(path)
  local file = io.open(path, 'rb')
  if file then file:close() end
  return file ~= nil
end

-- A file as the spec names it: from where we are, else beside the spec.
function test.find(path)
  if exists(path) or path:sub(1, 1) == '/' then return path end
  return exists(test.beside .. path) and test.beside .. path or path
end

local function bundle_of(name, path)
  local bytes, why = node.bundle(name, test.find(path))
  if not bytes then error(why, 0) end
  local mount = unpack_value(bytes)[3]
  return mount, bytes
end

-- { mount = bundle } of 'kv.lua', { kv = 'kv.lua' } or { 'kv.lua', jobs = 'queue.lua' }.
function test.bundles(modules)
  if type(modules) == 'string' then modules = { modules } end
  local out = {}
  for name, path in pairs(modules) do
    local mount, bytes = bundle_of(type(name) == 'string' and name or '', path)
    if out[mount] then error(path .. ': there is a mount ' .. mount .. ' already: say { NAME = ' .. path .. ' }', 0) end
    out[mount] = bytes
  end
  if next(out) == nil then error('a host of which file? test.host \'kv.lua\'', 0) end
  return out
end

-- A host of bundles, as they are. how: seed, now, and the flags of tidelock.machine.
function test.host_of(bundles, how)
  local modules = {} -- in force now
  for mount, bytes in pairs(bundles) do modules[mount] = bytes end
  local self = setmetatable({ machine = machine.new(how), modules = modules, index = 0, clock = how.now or START, seqs = {},
    invariants = {}, seen = {}, steps = {},
    recording = how.recording or test.record ~= nil }, host)
  self:apply(CONFIGURATION, ('a test, seed %.0f'):format(how.seed or 1))
  local names = {}
  for mount in pairs(bundles) do names[#names + 1] = mount end
  table.sort(names)
  for _, mount in ipairs(names) do
    local ok, bytes = self:apply(BUNDLE, bundles[mount])
    if ok == false then error(('%s: %s'):format(mount, tostring(select(2, answer(ok, bytes)))), 0) end
  end
  self.mount = #names == 1 and names[1] or nil
  if test.record then
    table.insert(test.record, { modules = bundles, paths = how.paths, seed = how.seed or 1, now = how.now or START, steps = self.steps })
  end
  return self
end

-- Mounts modules and starts. modules: a file, or { NAME = file }. options: seed (of ctx.random), now (ms since 1970).
---@param modules string|table<string, string>
---@param options? { seed?: integer, now?: integer }
---@return tidelock.test.host
function test.host(modules, options)
  local ok, result = pcall(function()
    options = options or {}
    for name in pairs(options) do
      if name ~= 'seed' and name ~= 'now' then error('there is no option ' .. tostring(name) .. '; there are seed, now', 0) end
    end
    return test.host_of(test.bundles(modules), { seed = options.seed, now = options.now, copies = true, paths = modules })
  end)
  if not ok then error(result, 2) end
  return result
end

-- --- entries -------------------------------------------------------------------------------------------------------------------

-- Applies one entry; -> ok (nil: it has no answer), bytes of the answer.
function host:apply(kind, payload)
  self.index = self.index + 1
  local ok, bytes, events = self.machine:apply(self.index, 1, kind, self.clock, payload)
  if ok == nil and bytes ~= nil then error('the service made its nodes park: ' .. bytes, 0) end
  self.last_events = events
  for _, e in ipairs(events and unpack_value(events) or {}) do
    self.seen[#self.seen + 1] = { index = e[1], n = e[2], topic = e[3], key = e[4], data = e[5] }
  end
  return ok, bytes
end

-- What must hold after each entry, and what was said of the code that ran.
function host:look(what)
  local remark = self.machine:remark()
  if remark then error(what .. ': ' .. remark, 0) end
  for _, invariant in ipairs(self.invariants) do
    local ok, holds, why = pcall(invariant, function(...) return self:query(...) end)
    if not ok then error(('what must always hold does not, after %s: %s'):format(what, tostring(holds)), 0) end
    if holds == false then
      error(('what must always hold does not, after %s%s'):format(what, why and ': ' .. tostring(why) or ''), 0)
    end
  end
end

function host:note(step)
  if not self.recording then return end
  step.at = self.clock
  self.steps[#self.steps + 1] = step
end

-- Does a step: { op = 'call', name, args, ticket }, 'batch' with args, 'session' with what, 'due', 'limit', 'query', 'try', 'deploy' with the
-- payload for args, 'migrate' with name. args: bytes;
-- list: the same as { n, ... }, for whoever shows it.
function host:step(step)
  self:note(step)
  local op = step.op
  if op == 'query' then return self.machine:query(step.name, step.args, self.clock)
  elseif op == 'try' then return self.machine:try(step.name, step.args, step.ticket and pack(step.ticket), self.clock)
  elseif op == 'call' then return self:apply(COMMAND, pack(step.name) .. step.args .. (step.ticket and pack(step.ticket) or ''))
  elseif op == 'batch' then return self:apply(BATCH, step.args .. (step.ticket and pack(step.ticket) or ''))
  elseif op == 'session' then return self:apply(SESSION, pack(step.what))
  elseif op == 'limit' then return self:apply(LIMIT, pack(step.what))
  elseif op == 'deploy' then return self:apply(DEPLOY, step.args)
  elseif op == 'migrate' then return self:apply(MIGRATE, pack(step.name))
  else return self:apply(DUE, '') end
end

local function full(self, name)
  if type(name) ~= 'string' then error('a name is text, as in h:call(\'kv.set\', ...)', 0) end
  return self.mount and not name:find('.', 1, true) and self.mount .. '.' .. name or name
end

-- Errors of misuse and of remarks come from the line of the spec.
local function from_spec(f, ...)
  local results = { pcall(f, ...) }
  if not results[1] then error(results[2], 2) end -- these are all called last: their frame is gone
  return unpack(results, 2, table.maxn(results))
end

function host:run(step, what)
  local ok, bytes = self:step(step)
  self:look(what)
  if ok == nil then return nil end
  return answer(ok, bytes)
end

-- Calls a command: its value; or nil and { code, message, data }. With one mount its name may be left out.
---@return any value, table? err
function host:call(name, ...)
  local n, list = select('#', ...), { n = select('#', ...), ... }
  return from_spec(function()
    name = full(self, name)
    return self:run({ op = 'call', name = name, args = test.pack_list(n, list), list = list }, name)
  end)
end

-- Asks a query, at the time of the host.
function host:query(name, ...)
  local n, list = select('#', ...), { n = select('#', ...), ... }
  return from_spec(function()
    return answer(self:step { op = 'query', name = full(self, name), args = test.pack_list(n, list), list = list })
  end)
end

-- Runs a command, answers, and takes everything back. -> value, nil, events: a list of { 'mount.topic', key, data }; nil, error
function host:dry_run(name, ...)
  local n, list = select('#', ...), { n = select('#', ...), ... }
  return from_spec(function()
    name = full(self, name)
    local ok, bytes = self:step { op = 'try', name = name, args = test.pack_list(n, list), list = list }
    self:look(name)
    local value, err = answer(ok, bytes)
    if not ok then return value, err end
    return value.answer, nil, value.events
  end)
end

-- { { name, args... }, ... } in one entry, all or nothing.
function host:batch(list)
  return from_spec(function()
    local out = {}
    for i, one in ipairs(list) do
      local n = table.maxn(one)
      out[i] = '\146' .. pack(full(self, one[1])) .. test.pack_list(n - 1, { unpack(one, 2, n) })
    end
    local head = test.pack_list(0, {})
    if #out > 0 then head = '\220' .. string.char(math.floor(#out / 256), #out % 256) end
    return self:run({ op = 'batch', args = head .. table.concat(out) }, 'a batch')
  end)
end

-- Changes a replicated limit.
function host:limit(name, value)
  return from_spec(function() return self:run({ op = 'limit', what = { name, value } }, 'a limit') end)
end

-- Puts [MOUNT=]FILE in force in place of what is there, as `tidelock deploy` does: migrate has run when this returns, and in all its
-- steps, if it returned 'more'. -> the answer; nil, error: then all is as it was. options: budget (of migrate)
---@param file string
---@param options? { budget?: integer }
---@return table? answer, table? err
function host:deploy(file, options)
  return from_spec(function()
    if type(file) ~= 'string' then error("deploy: wants a file, as in h:deploy('kv=kv_v2.lua')", 0) end
    if options ~= nil and type(options) ~= 'table' then error('deploy: options are a table, as { budget = 1000000 }', 0) end
    local name, path = file:match('^([^=/]*)=(.*)$')
    local fine, mount, bundle = pcall(bundle_of, name or '', path or file)
    if not fine then return nil, setmetatable({ code = 'BAD_ARGS', message = mount }, refusal) end
    local before = self.modules[mount]
    local facts = { kind = 'machine', mount = mount, expect = before and node.hash(before) or '', budget = (options or {}).budget }
    local value, err = self:run({ op = 'deploy', args = pack(facts) .. bundle, name = mount }, 'a deploy')
    if not value then return nil, err end
    while self.machine:status().migrating do
      local ok, bytes = self:step { op = 'migrate', name = mount }
      if ok == false then return answer(ok, bytes) end
      self:look 'a step of migrate'
    end
    self.modules[mount] = bundle
    return value
  end)
end

-- --- time ----------------------------------------------------------------------------------------------------------------------

function host:due()
  self:step { op = 'due' }
  self:look 'what was due'
end

-- Lets so many ms pass: timers, rows with a ttl and sessions that are due on the way happen, each at its time. A timer that failed
-- is an error here, unless options has may_fail = true. With due = false nothing of it happens yet: a leader needs a moment too.
---@param ms integer
---@param options? { may_fail?: boolean, due?: boolean }
function host:advance(ms, options)
  return from_spec(function()
    if type(ms) ~= 'number' or ms < 0 or ms ~= math.floor(ms) then error('advance: wants whole ms from 0', 0) end
    local goal, before = self.clock + ms, self.machine:status()
    for entries = 0, DUE_MAX do
      local next_due = self.machine:status().next_due
      if not next_due or next_due > goal or (options or {}).due == false then break end
      if entries == DUE_MAX then
        error(('advance: after %d entries something is still due: does a timer arm itself for now?'):format(DUE_MAX), 0)
      end
      self.clock = math.max(self.clock, next_due)
      self:due()
    end
    self.clock = goal
    local failed = self.machine:status().timers_failed - before.timers_failed
    if failed > 0 and not (options or {}).may_fail then
      error(('%d of what was due failed, and left nothing behind; standard error says why'):format(failed), 0)
    end
  end)
end

-- Cluster time, in ms.
function host:now() return self.clock end

-- --- sessions ------------------------------------------------------------------------------------------------------------------

-- Opens a session: its text. options: ttl (ms, 60000).
function host:session(options)
  return from_spec(function()
    local id, err = self:run({ op = 'session', what = { 'open', (options or {}).ttl or 60000 } }, 'a session')
    if not id then error(tostring(err), 0) end
    return id
  end)
end

function host:keep(session)
  return from_spec(function() return self:run({ op = 'session', what = { 'keep', session } }, 'a session') end)
end

function host:end_session(session)
  return from_spec(function() return self:run({ op = 'session', what = { 'end', session } }, 'a session') end)
end

local client = {}
client.__index = client

-- Calls as a client: { session, seq, done_below }. Without a seq each call takes the session's next; with one, all calls are the same
-- request sent again.
function host:with(ticket)
  if type(ticket) ~= 'table' or type(ticket.session) ~= 'string' then error('with: wants { session = text }', 2) end
  return setmetatable({ host = self, ticket = ticket }, client)
end

function client:call(name, ...)
  local n, list, h, t = select('#', ...), { n = select('#', ...), ... }, self.host, self.ticket
  return from_spec(function()
    local seq = t.seq or (h.seqs[t.session] or 0) + 1
    h.seqs[t.session] = math.max(seq, h.seqs[t.session] or 0)
    name = full(h, name)
    local ticket = { t.session, seq, t.done_below or math.max(1, seq - OPEN_MAX) }
    return h:run({ op = 'call', name = name, args = test.pack_list(n, list), list = list, ticket = ticket }, name)
  end)
end

-- --- snapshots -----------------------------------------------------------------------------------------------------------------

-- Goes on from a snapshot of itself, written and read; `format` is the file of a snapshot format (its own rows, unless given). The
-- digest must be the same. Gives the host.
---@param format? string
---@return tidelock.test.host
function host:through_snapshot(format)
  return from_spec(function()
    local bundle, why
    if format then
      bundle, why = node.bundle('', test.find(format), 'format')
      if not bundle then error(why, 0) end
    end
    local before = self.machine:status().digest
    local next_machine
    next_machine, why = self.machine:through(bundle)
    if not next_machine then error('through_snapshot: ' .. why, 0) end
    local after = next_machine:status().digest
    if before ~= after then error(('through_snapshot: the digest was %s, and is %s'):format(before, after), 0) end
    self.machine:close()
    self.machine = next_machine
    return self
  end)
end

-- --- looking -------------------------------------------------------------------------------------------------------------------

-- f(query) is called after each entry from now on; query('kv.get', ...) asks. It throws, or returns false and why, when it does not hold.
function host:always(f)
  self.invariants[#self.invariants + 1] = f
  return self
end

local function is_topic(event, topic)
  return topic == nil or event.topic == topic or event.topic:match('^[^.]*%.(.*)$') == topic
end

-- All events so far, oldest first, { topic, key, data, index, n }; of one topic, with or without its mount.
function host:events(topic)
  local out = {}
  for _, event in ipairs(self.seen) do
    if is_topic(event, topic) then out[#out + 1] = event end
  end
  return out
end

-- The rows as they are: state.kv.rows[key]; of one map by 'kv.rows', or 'rows' with one mount. A key that is a list is its JSON text.
function host:state(path)
  local out = {}
  for mount in pairs(self.modules) do out[mount] = {} end
  for _, row in ipairs(unpack_value(self.machine:rows())) do
    local mount, map, key, value = row[1], row[2], row[3], row[4]
    if type(key) == 'table' then key = wire.pack_json(wire.pack(key)) end
    out[mount][map] = out[mount][map] or {}
    out[mount][map][key] = value
  end
  if path == nil then return out end
  path = full(self, path)
  local mount, map = path:match('^([^.]*)%.(.*)$')
  return (out[mount] or {})[map] or {}
end

function host:status() return self.machine:status() end
function host:digest() return self.machine:status().digest end
function host:close() self.machine:close() end

-- --- assertions ----------------------------------------------------------------------------------------------------------------

local function same(a, b)
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end
test.same_value = same

local function is_host(h) return getmetatable(h) == host end

-- assert.emitted(h, topic[, key[, data]]): there was such an event. assert.holds(h, 'kv.rows', { key = value }): the map holds that, and
-- nothing else. (luassert has a `state` of its own.) Each gives whether it is so, and what there is.
test.assertions = {
  emitted = function(h, topic, key, data)
    if not is_host(h) then error('assert.emitted: wants a host first', 0) end
    local events = h:events(topic)
    for _, event in ipairs(events) do
      if (key == nil or same(event.key, key)) and (data == nil or same(event.data, data)) then return true, events end
    end
    return false, events
  end,
  holds = function(h, path, want)
    if not is_host(h) then error('assert.holds: wants a host first', 0) end
    local found = h:state(path)
    return same(found, want), found
  end,
}

-- Teaches them to luassert, where a script has loaded it.
local luassert = package.loaded.luassert
if luassert then
  for name, check in pairs(test.assertions) do
    luassert:register('assertion', name, function(_, arguments) return (check(unpack(arguments, 1, arguments.n))) end)
  end
end

return test
