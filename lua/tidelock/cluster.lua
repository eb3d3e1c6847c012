-- tidelock/cluster.lua: a script drives a cluster: of real processes (mode 'live'), or of simulated ones on virtual time (mode 'sim').
--
--   local c = require 'tidelock.cluster'{ nodes = 3, machines = { kv = 'examples/kv.lua' } }
--   assert(c:call('kv.set', 'colour', 'teal'))
--   local old = c:leader():kill()
--   c:wait_leader{ not_node = old, within = 5000 }
--   old:start()
--   c:wait_equal()
--
-- Here is what is the same in both; the nodes are in tidelock/live.lua and tidelock/virtual.lua. Live, it ends only the processes
-- that it started; they live in a temporary directory, removed by c:close().
local tasks, calls, settled = require 'tidelock.tasks', require 'tidelock.calls', require 'tidelock.settled'
local sessions, setting = require 'tidelock.session', require 'tidelock.setting'

local cluster, handle = {}, {}
cluster.__index, handle.__index = cluster, handle

local POLL_MS, LEADER_MS, EQUAL_MS = 20, 20000, 30000
local SEEN_MAX, EVENTS_MAX = 100000, 100000

local running = {} -- clusters that are not closed yet, in the order in which they were opened

-- --- opening ---

local keys = { mode = true, nodes = true, machine = true, machines = true, flags = true, timeout = true, seed = true,
  direct = true, founders = true, policy = true }

local function is_whole(number, low, high)
  return type(number) == 'number' and number >= low and number <= high and number % 1 == 0
end

-- Says what is wrong with the options of cluster{...}, at the caller's line, before anything is started.
local function check(options)
  local function wrong(text) error('cluster: ' .. text, 4) end
  if type(options) ~= 'table' then wrong("takes a table, like { nodes = 3, machine = 'kv.lua' }") end
  for key in pairs(options) do
    if not keys[key] then
      wrong('unknown key ' .. tostring(key) .. '; there are direct, flags, founders, machine, machines, mode, nodes, policy, seed, timeout')
    end
  end
  local mode = options.mode or 'live'
  if mode ~= 'live' and mode ~= 'sim' then wrong("mode '" .. tostring(mode) .. "' is not there; 'live' and 'sim' are") end
  mode = setting.mode or mode
  local most = mode == 'sim' and 7 or 9
  local nodes = setting.nodes or options.nodes
  if nodes ~= nil and not is_whole(nodes, 1, most) then
    wrong(('nodes must be a whole number from 1 to %d'):format(most))
  end
  if options.founders ~= nil and not is_whole(options.founders, 1, nodes or 3) then
    wrong('founders must be a whole number from 1 to nodes: the others join later, when they are started')
  end
  if options.seed ~= nil and not is_whole(options.seed, 0, 2^53 - 1) then wrong('seed must be a whole number below 2^53') end
  if options.timeout ~= nil and not is_whole(options.timeout, 1, 3600000) then wrong('timeout must be a whole number of ms') end
  if options.machines ~= nil and type(options.machines) ~= 'table' then wrong("machines must be a table: { kv = 'kv.lua' }") end
  if not options.machine and not next(options.machines or {}) then wrong("no machine; give machine = 'kv.lua'") end
  if options.flags and mode == 'sim' then wrong("flags are words for tidelock start: mode 'sim' has none") end
  if options.direct and mode == 'sim' then wrong("direct is of links between processes: mode 'sim' has none") end
  return mode
end

-- A script on real time that wants virtual time is started over there, if nothing can have come of it yet.
local function start_over(options)
  if setting.start_over and not setting.has_acted() then setting.start_over(options) end
  error("cluster: mode 'sim' starts the script over on virtual time, and it has done something already; "
    .. 'run it by: tidelock run --mode sim FILE', 3)
end

local function open(options)
  local mode = check(options)
  if mode == 'sim' and not setting.clock then start_over(options) end
  local how = {}
  for key, value in pairs(options) do how[key] = value end
  how.nodes = setting.nodes or options.nodes or 3
  local self = setmetatable({ mode = mode, timeout = options.timeout or 10000, free = {}, single = {}, clients = 0,
    events = {}, cuts = {} }, cluster)
  self.back = require(mode == 'sim' and 'tidelock.virtual' or 'tidelock.live').open(self, how)
  running[#running + 1] = self
  self.list, self.dir, self.to, self.seed = self.back.list, self.back.dir, self.back.to, self.back.seed
  self.calls = calls.new(function() return self:time() end)
  self.was = {}
  for id = 1, #self.list do self.was[id] = { { at = 0 } } end
  for id = 1, how.founders or #self.list do self.list[id]:start() end
  self.started = self.back.now()
  return self
end

-- --- nodes ---

-- A node by its object or id, or an error at the line of the script.
local function pick(self, which, level)
  local one = type(which) == 'table' and which or self.list[which]
  if not one or self.list[one.id] ~= one then
    error(('there is no node %s'):format(type(which) == 'table' and 'like this' or tostring(which)), (level or 2) + 1)
  end
  return one
end

function cluster:nodes() return self.list end
function cluster:node(id) return type(id) == 'table' and id or self.list[id] end

for _, verb in ipairs { 'start', 'kill', 'stop', 'pause', 'resume' } do
  cluster[verb] = function(self, which)
    local one = pick(self, which)
    return one[verb](one)
  end
end

-- What each node says of itself now; { id, down = true } where none does.
function cluster:status()
  local list = {}
  for i, n in ipairs(self.list) do list[i] = n:alive() and n:status() or { id = n.id, down = true } end
  return list
end

-- Who belongs to the cluster: a list of { id, address, up, role, term }.
function cluster:members()
  local list = {}
  for i, s in ipairs(self:status()) do
    list[i] = { id = s.id, address = self.list[i]:address(), up = not s.down, role = s.role, term = s.term }
  end
  return list
end

-- --- clients ---

-- A client that no other task uses now: of one node, or of all.
local function take(self, one)
  local place = one and one.id or 0
  self.free[place] = self.free[place] or {}
  local found = table.remove(self.free[place])
  if not found then
    self.clients = self.clients + 1
    found = self.back:client(one, self.timeout)
    found.name = 'c' .. self.clients
  end
  return found, self.free[place]
end

local function ask(self, options, verb, name, ...)
  local c, free = take(self, options.node)
  c.timeout, c.read = options.timeout or self.timeout, options.read
  local stale = verb == 'query' and options.read == 'stale'
  local call = not stale and self.calls:began(c.name, name, ...)
  local value, err, index
  if options.session and verb == 'call' then value, err, index = options.session:call_by(c, name, ...)
  else value, err, index = c[verb](c, name, ...) end
  if call then self.calls:ended(call, value, err) end
  free[#free + 1] = c
  if verb == 'call' and value == nil and not err then value = true end -- so that assert(c:call(...)) says what went wrong, if it did
  return value, err, index
end

local none = {}
function cluster:call(name, ...) return ask(self, none, 'call', name, ...) end
function cluster:query(name, ...) return ask(self, none, 'query', name, ...) end

-- Puts [MOUNT=]FILE in force, and waits until it is. options: budget; kind: 'machine' (unless said), 'format', 'policy' -> the answer; nil, err
function cluster:deploy(word, options)
  local deploy = require 'tidelock.deploy'
  local built, why = deploy.build(word, options and options.kind or 'machine', self.mode == 'sim')
  if not built then error('deploy: ' .. why, 2) end
  local c, free = take(self)
  c.timeout, c.read = self.timeout, nil
  local answer, err = deploy.change(c, built, options)
  free[#free + 1] = c
  return answer, err
end

local reads = { linearizable = true, lease = true, stale = true }
local with_keys = { timeout = true, node = true, read = true, session = true }

-- The same two, otherwise: within `timeout` ms, asked of one node, read = 'lease' or 'stale', once in a session.
function cluster:with(options)
  for key in pairs(options) do
    if not with_keys[key] then error('with: unknown key ' .. tostring(key) .. '; there are node, read, session, timeout', 2) end
  end
  local session = options.session
  if type(session) == 'string' then session = sessions.of(session)
  elseif session ~= nil and getmetatable(session) ~= sessions then error('with: session is what c:session{} gave, or its text', 2) end
  if options.timeout ~= nil and not is_whole(options.timeout, 1, 3600000) then error('with: timeout must be a whole number of ms', 2) end
  if options.read ~= nil and not reads[options.read] then error("with: read is 'linearizable', 'lease' or 'stale'", 2) end
  return setmetatable({ cluster = self, options = { timeout = options.timeout, read = options.read, session = session,
    node = options.node and pick(self, options.node) } }, handle)
end

function handle:call(name, ...) return ask(self.cluster, self.options, 'call', name, ...) end
function handle:query(name, ...) return ask(self.cluster, self.options, 'query', name, ...) end

-- A client for one purpose, closed with the cluster.
local function own_client(self, one, timeout)
  local c = self.back:client(one, timeout)
  self.single[#self.single + 1] = c
  return c
end

-- A session that is kept alive until session:close(), or for as long as the cluster is open: c:session{ ttl = ms, keep = false }. It is
-- for c:with{ session = s }, and has a call of its own. -> tidelock/session.lua; nil, error
function cluster:session(options)
  local c = own_client(self, nil, self.timeout)
  local session, err = c:session(options)
  if not session then return nil, err end
  if (options or {}).keep ~= false then
    tasks.go(function()
      local keeper = own_client(self, nil, session.ttl)
      local kept, why
      repeat
        tasks.sleep(session.ttl / 3)
        if session.closed then return end
        kept, why = keeper:call('tidelock.session_keep', session.id)
      until not kept and why.code == 'SESSION_EXPIRED'
    end)
  end
  return session
end

-- Watches events: c:watch('kv.changed', { prefix, from, node }). -> tidelock/watch.lua
function cluster:watch(what, options)
  local one = options and options.node and pick(self, options.node)
  local watch, err = self.back:client(one, self.timeout):watch(what, options)
  self.single[#self.single + 1] = watch
  return watch, err
end

-- Whether one copy of the data explains what clients were told: tidelock/calls.lua. Raises why it does not.
function cluster:check_history(mapping, options)
  return self.calls:check(mapping, options and options.seconds)
end

-- --- time, and what is written down ---

function cluster.sleep(_, ms) tasks.sleep(ms) end

-- Runs f at the same time as what comes next. -> a task, whose wait() gives what f gave
function cluster.go(_, f, ...) return tasks.go(f, ...) end

-- ms since the cluster was opened.
function cluster:time() return self.back.now() - self.started end

-- The script did something: to node `id`, or nil.
function cluster:happened(kind, id, text)
  if not self.started then return end -- that all nodes begin is no event
  text = text or ('%s node %d'):format(kind, id)
  if self.back.tell then self.back:tell(kind, text, id) end
  if #self.events >= EVENTS_MAX then return end
  self.events[#self.events + 1] = { at = self:time(), kind = kind, node = id, text = text }
end

-- A node was seen in a role; nil: down.
function cluster:seen(id, role, term)
  local list = self.was[id]
  local last = list[#list]
  if #list >= SEEN_MAX or last.role == role and last.term == term then return end
  list[#list + 1] = { at = self:time(), role = role, term = term }
end

local function say(self, kind, text)
  self:happened(kind, nil, text)
  self.back.say(('%6.2f s  %s\n'):format(self:time() / 1000, text))
end

function cluster:note(format, ...)
  say(self, 'note', select('#', ...) > 0 and format:format(...) or format)
end

function cluster:step(title, f)
  say(self, 'step', title)
  return f()
end

-- Writes what happened so far as a page: report{ html = FILE, title = TEXT }.
function cluster:report(options)
  if type(options) ~= 'table' or type(options.html) ~= 'string' then error("report: give html = 'FILE.html'", 2) end
  local page = require 'tidelock.report'.page { title = options.title or 'A cluster of tidelock', mode = self.mode, seed = self.seed,
    finish = self:time(), nodes = self.was, events = self.events, calls = self.calls.list }
  local done, why = self.back.write_file(options.html, page)
  if not done then error('report: ' .. tostring(why), 2) end
end

-- --- waiting ---

-- Until f() gives something; within ms, else an error that names what was waited for.
function cluster:wait(what, within, f)
  local deadline = self.back.now() + (within or LEADER_MS)
  repeat
    local value = f()
    if value then return value end
    tasks.sleep(POLL_MS)
  until self.back.now() > deadline
  error(('waited %d ms for %s'):format(within or LEADER_MS, what), 0)
end

function cluster:leader()
  return self:wait_leader {}
end

-- Nobody killed it: it has said why it ended.
local function check_alive(n)
  local why = n:failed()
  if why then error(why, 0) end
end

function cluster:wait_leader(options)
  options = options or {}
  local not_node = options.not_node and pick(self, options.not_node)
  return self:wait('a leader', options.within, function()
    local best, term
    for _, n in ipairs(self.list) do
      check_alive(n)
      local s = n ~= not_node and n:alive() and n:status()
      if s and s.role == 'leader' and (not term or s.term > term) then best, term = n, s.term end
    end
    return best
  end)
end

-- Until all nodes that were started, and were not removed since, are up and have applied the same, with equal digests. -> applied index,
-- digest
function cluster:wait_equal(options)
  local list = self:wait('all nodes equal', (options or {}).within or EQUAL_MS, function()
    local all = {}
    for _, n in ipairs(self.list) do
      check_alive(n)
      if n.joined and not n.left then all[#all + 1] = n:alive() and n:status() or { id = n.id, down = true } end
    end
    return settled(all) and all
  end)
  return list[1].applied, list[1].digest
end

-- Until every node that runs knows that the entry `index` is committed; nil: the last one that the leader has now. -> index
function cluster:wait_commit(index, options)
  if type(index) == 'table' then index, options = nil, index end
  return self:wait('a commit on every node', (options or {}).within or EQUAL_MS, function()
    local all = self:status()
    if not index then
      for _, s in ipairs(all) do if s.role == 'leader' then index = s.last end end
    end
    for _, s in ipairs(all) do
      if not index or not s.down and (s.commit or 0) < index then return nil end
    end
    return index
  end)
end

-- --- faults ---

-- A fault that this mode cannot make is an error at the line of the script.
local function must(verb, done, why)
  if not done then error(('%s: %s'):format(verb, why), 3) end
  return done
end

local function cut(self, from, to, on)
  local name = from.id * 100 + to.id
  if (self.cuts[name] ~= nil) == on then return true end
  local done, why = self.back:cut(from, to, on)
  if done then self.cuts[name] = on and { from, to } or nil end
  return done, why
end

local function names(list)
  local ids = {}
  for i, one in ipairs(list) do ids[i] = one.id end
  return table.concat(ids, ' ')
end

-- Groups that cannot hear each other: lists of nodes, one of them may be 'rest'. Nodes that no group names are one.
function cluster:partition(...)
  local groups, of, rest = {}, {}, {}
  for i = 1, select('#', ...) do
    local group = select(i, ...)
    if type(group) == 'table' and not group.id then
      local members = {}
      for j, which in ipairs(group) do
        members[j] = pick(self, which)
        if of[members[j].id] then error(('partition: node %d is in two groups'):format(members[j].id), 2) end
        of[members[j].id] = group
      end
      groups[#groups + 1] = members
    elseif group ~= 'rest' then error("partition: takes lists of nodes and 'rest', like c:partition({ 1 }, 'rest')", 2) end
  end
  for _, n in ipairs(self.list) do
    if not of[n.id] then
      of[n.id] = rest
      rest[#rest + 1] = n
    end
  end
  if #rest > 0 then groups[#groups + 1] = rest end
  for _, a in ipairs(self.list) do
    for _, b in ipairs(self.list) do
      if a ~= b then must('partition', cut(self, a, b, of[a.id] ~= of[b.id])) end
    end
  end
  local text = {}
  for i, group in ipairs(groups) do text[i] = names(group) end
  self:happened('partition', nil, 'partition: ' .. table.concat(text, ' | '))
end

-- No link between two nodes; with { one_way = true } only b cannot be reached from a.
function cluster:cut(a, b, options)
  a, b = pick(self, a), pick(self, b)
  if a == b then error('cut: takes two nodes', 2) end
  must('cut', cut(self, a, b, true))
  if not (options and options.one_way) then must('cut', cut(self, b, a, true)) end
  self:happened('cut', nil, ('cut %d and %d'):format(a.id, b.id))
end

-- Of the messages between nodes this share is lost: 0.1, or { lost = 0.1, doubled = 0.05, overtaken = 0.1 }.
function cluster:lose(share)
  local all = type(share) == 'table' and share or { lost = share }
  must('lose', self.back:lose(all.lost or 0, all.doubled or 0, all.overtaken or 0))
  self.losing = true
  self:happened('lose', nil, ('messages between nodes: %g lost, %g doubled, %g overtaken'):format(all.lost or 0, all.doubled or 0,
    all.overtaken or 0))
end

-- slow(node, { disk = ms, script = ms }): a write, an entry takes up to that; slow{ links = ms }: what nodes send each other.
function cluster:slow(which, how)
  if type(which) == 'table' and which.links then
    must('slow', self.back:slow(nil, nil, nil, which.links))
    self:happened('slow', nil, ('links take up to %g ms'):format(which.links))
  else
    local one = pick(self, which)
    if type(how) ~= 'table' then error('slow: say what, like { disk = 50 }', 2) end
    must('slow', self.back:slow(one, how.disk, how.script))
    self:happened('slow', one.id)
  end
  self.slowed = true
end

-- The node's wall clock is off by so many ms from now on.
function cluster:skew(which, ms)
  local one = pick(self, which)
  must('skew', self.back:skew(one, ms))
  self:happened('skew', one.id, ('the clock of node %d is off by %g ms'):format(one.id, ms))
end

-- Nothing new fits on the node's disk; fill_disk(node, false): there is room again.
function cluster:fill_disk(which, on)
  local one = pick(self, which)
  must('fill_disk', self.back:fill(one, on ~= false))
  self.filled = true
  self:happened('fill_disk', one.id, ('the disk of node %d %s'):format(one.id, on ~= false and 'is full' or 'has room'))
end

-- Spoils bytes of a node that does not run: corrupt(node, { file = 'log' | 'vote', at = 'tail' | offset, bytes = n }). -> where
function cluster:corrupt(which, what)
  local one = pick(self, which)
  what = type(what) == 'table' and what or error("corrupt: say what, like { file = 'log', at = 'tail', bytes = 4 }", 2)
  if what.file ~= 'log' and what.file ~= 'vote' then error("corrupt: file is 'log' or 'vote'", 2) end
  local at = what.at ~= nil and what.at or 'tail'
  if at ~= 'tail' and not is_whole(at, 0, 2^50) then error("corrupt: at is 'tail' or an offset", 2) end
  local where = must('corrupt', self.back.corrupt(one, what.file, at ~= 'tail' and at or nil, what.bytes or 1))
  self:happened('corrupt', one.id, ('node %d: %s spoilt'):format(one.id, where))
  return where
end

-- Links are whole and quick again, and disks have room. Nodes that are down or paused stay so.
function cluster:heal()
  for _, a in ipairs(self.list) do
    for _, b in ipairs(self.list) do if a ~= b then cut(self, a, b, false) end end
  end
  if self.losing then self.back:lose(0, 0, 0) end
  if self.slowed then self.back:slow(nil) end
  for _, n in ipairs(self.list) do
    if self.slowed then self.back:slow(n) end
    if self.filled then self.back:fill(n, false) end
  end
  self.losing, self.slowed, self.filled = nil, nil, nil
  self:happened('heal', nil, 'heal')
end

-- --- the end ---

-- Ends what runs. A task that failed, and that nobody waited for, is an error here.
function cluster:close()
  local kept = {}
  for _, one in ipairs(running) do if one ~= self then kept[#kept + 1] = one end end
  if #kept == #running then return end
  running = kept
  if setting.html then self:report { html = setting.html, title = setting.file } end
  for _, free in pairs(self.free) do for _, c in ipairs(free) do c:close() end end
  for _, c in ipairs(self.single) do c:close() end
  self.back:close()
  if #running == 0 then tasks.drop() end
  tasks.check()
end

-- Closes every cluster that a script left behind.
function cluster.close_all()
  while running[1] do running[#running]:close() end
end

return setmetatable(cluster, { __call = function(_, options) return open(options) end })
