-- tidelock/scenario.lua: the scenario language: one verb a line, played on a few real cores (tidelock.stage), step by step.
--
--   local ok, output, why, kind = require 'tidelock.scenario'.run('spec/scenario/026_figure_8.txt')    -- or the text itself
--
-- ok: everything that was expected is so, no check broke, and the output is the text below the line of dashes, if there is
-- one. output: the transcript. why: FILE:LINE: what; kind: 'input' (the file makes no sense) or 'failed'. spec/README.md has
-- the verbs.
local stage = require 'tidelock.stage'
local words = require 'tidelock.scenario.words'
local expect = require 'tidelock.scenario.expect'
local look = require 'tidelock.scenario.look'
local members = require 'tidelock.scenario.members'

local scenario = {}

local wrong = words.wrong
local QUIET_MAX, WAKES_MAX = 10000, 100000 -- messages of a stabilize; wake-ups of an advance or a run

local function failed(...)
  error({ failed = string.format(...) }, 0)
end

-- --- the play: a stage and what the language adds ------------------------------------------------------------------------

local play = {}
play.__index = play

-- Takes what the cores said into the transcript, and stops at the first thing broken.
function play:take()
  local said = self.stage:trace()
  for line in (self.muted and '' or said):gmatch('[^\n]+') do
    self.output[#self.output + 1] = self.at and ('[%5d] %s'):format(self.at, line) or line
  end
  local broken = self.stage:broken()
  if broken then failed('%s', broken) end
end

function play:say(...)
  self.output[#self.output + 1] = string.format(...)
end

function play:node(word, verb)
  return words.node(word, self.count, verb)
end

function play:up(word, verb)
  local id = self:node(word, verb)
  if not self.stage:status(id).up then wrong('%s: node %d is down; restart it first', verb, id) end
  return id
end

-- The roles that nodes begin with are come by as in life: an election whose votes are made by hand. The first messages of the
-- role are on the ways then.
local function elect(self, id, role, node)
  local s = self.stage
  s:pass(id, s:wake_in(id))
  for peer = 1, self.count do
    if peer ~= id and s:status(id).role == 'pre-candidate' and role ~= 'pre-candidate' then
      s:receive { type = 'PreVoteReply', from = peer, to = id, term = node.term, voteGranted = true }
    end
  end
  for peer = 1, self.count do
    if peer ~= id and role == 'leader' and s:status(id).role == 'candidate' then
      s:receive { type = 'VoteReply', from = peer, to = id, term = node.term, voteGranted = true }
    end
  end
  if s:status(id).role ~= role then failed('node %d does not become a %s', id, role) end
  if role == 'leader' and node.own > 1 then s:propose(id, node.own - 1) end
  local first = role == 'leader' and 'AppendEntries' or role == 'candidate' and 'RequestVote' or 'PreVote'
  for peer = 1, self.count do
    while peer ~= id and s:count(id, peer) > 0 and s:message(id, peer, 1).type ~= first do s:drop(id, peer, 1) end
  end
end

-- What a node that begins as leader or candidate had before: its term's entries are still to come.
local function before_election(self, id, node)
  node.own = 0
  while #node.log > 0 and node.log[#node.log] == node.term do
    node.log[#node.log], node.own = nil, node.own + 1
  end
  if node.role == 'leader' and node.own == 0 then
    wrong('node %d leads term %d, so its log has an entry of term %d: its first', id, node.term, node.term)
  elseif node.role ~= 'leader' and node.own > 0 then
    wrong('node %d is a %s of term %d: there are no entries of that term yet', id, node.role, node.term)
  end
  if math.max(node.commit or 0, node.base or 0) > #node.log then
    wrong('node %d: a new leader knows no entry of its own term to be committed; let it commit them', id)
  end
  if node.role ~= 'leader' then return end
  local may, voters = 1, self.options.voters or words.nodes('*', self.count)
  for _, peer in ipairs(voters) do
    local other = self.nodes[peer]
    if peer ~= id and other.term == node.term then other.voted = other.voted or id end
    if peer ~= id and (other.term > node.term or (other.term == node.term and other.voted == id)) then may = may + 1 end
  end
  if may * 2 <= #voters then
    wrong('node %d leads term %d, but only %d of %d nodes can have voted for it: give the others that term', id, node.term, may,
      #voters)
  end
end

-- The stage is made when the first verb needs it.
function play:begin()
  if self.stage then return end
  self.options.nodes = self.count
  self.stage = stage.new(self.options)
  for id = 1, self.count do
    self.nodes[id] = self.nodes[id] or (members.has(self, id) and { term = 1, log = { 1 } } or { term = 0, log = {} })
  end
  for id, node in ipairs(self.nodes) do
    if node.role and node.role ~= 'pre-candidate' then before_election(self, id, node) end
  end
  for id, node in ipairs(self.nodes) do
    local campaigns = node.role == 'leader' or node.role == 'candidate'
    self.stage:set_disk(id, campaigns and node.term - 1 or node.term, campaigns and 0 or node.voted or 0, node.log, node.base or 0)
  end
  for id, node in ipairs(self.nodes) do
    if not node.down then self.stage:start(id, node.commit or math.max(node.base or 0, math.min(1, #node.log)), false) end
  end
  for id, node in ipairs(self.nodes) do
    if node.role then elect(self, id, node.role, node) end
  end
  self.stage:trace()
  self:take()
end

-- --- setting up ------------------------------------------------------------------------------------------------------------

local setup = {}

function setup.nodes(self, list)
  if next(self.nodes) then wrong('nodes must come before the first node line') end
  self.count = words.number(list[1], 'nodes', 1, 7)
end

-- Switches of the core, which are on, and numbers.
local switches = { prevote = 'no_pre_vote', checkquorum = 'no_check_quorum', stickiness = 'no_stickiness' }
local settings = { election = { 'election_timeout_ms', 10, 1000000 }, heartbeat = { 'heartbeat_ms', 1, 100000 },
  window = { 'window_messages', 1, 256 }, ['window-bytes'] = { 'window_bytes', 1, 4000000000 },
  ['message-bytes'] = { 'message_bytes_max', 1, 4000000000 }, ['entry-bytes'] = { 'entry_bytes', 1, 1000000 },
  uncommitted = { 'uncommitted_entries_max', 1, 1000000 }, lease = { 'lease_drift_ms', 1, 1000000 } }

function setup.set(self, list)
  local name, value = list[1], list[2]
  if switches[name] or name == 'startwait' then
    if value ~= 'on' and value ~= 'off' then wrong('set %s wants on or off, not %s', name, value or 'nothing') end
    if name == 'startwait' then self.startwait = value == 'on' else self.options[switches[name]] = value == 'off' end
  elseif members.setup[name] then members.setup[name](self, list)
  elseif settings[name] then
    self.options[settings[name][1]] = words.number(value, 'set ' .. name, settings[name][2], settings[name][3])
  else
    wrong('set knows prevote checkquorum stickiness startwait followpriority (on, off), election heartbeat window window-bytes '
      .. 'message-bytes entry-bytes uncommitted lease (a number), voters learners priority, not %s', name or 'nothing')
  end
  if self.options.heartbeat_ms >= self.options.election_timeout_ms then wrong('set: heartbeat must be less than election') end
  self.options.start_wait_ms = self.startwait and 2 * self.options.election_timeout_ms or 0
end

function setup.node(self, list)
  for _, id in ipairs(words.nodes(list[1], self.count, 'node')) do
    local node, at = { log = { 1 } }, 2
    while list[at] do
      local word, value = list[at], list[at + 1]
      if word == 'term' then node.term, at = words.number(value, 'term'), at + 2
      elseif word == 'log' then
        node.log, at = words.terms(list, at + 1)
        if value == 'empty' then at = at + 1 end
      elseif word == 'voted' then node.voted, at = value == 'none' and 0 or words.node(value, self.count, 'voted'), at + 2
      elseif word == 'base' then node.base, at = words.number(value, 'base', 1), at + 2
      elseif word == 'commit' then node.commit, at = words.number(value, 'commit'), at + 2
      elseif word == 'leader' or word == 'candidate' or word == 'pre-candidate' then node.role, at = word, at + 1
      elseif word == 'follower' then at = at + 1
      elseif word == 'down' then node.down, at = true, at + 1
      else wrong('node knows term log base voted commit leader candidate pre-candidate follower down, not %s', word) end
    end
    for i, term in ipairs(node.log) do
      if term < 1 or (i > 1 and term < node.log[i - 1]) then wrong('node %d: terms in a log begin at 1 and never fall', id) end
    end
    node.term = node.term or node.log[#node.log] or 0
    if node.term < (node.log[#node.log] or 0) then wrong('node %d: its log has a term above its own, %d', id, node.term) end
    if node.commit and node.commit > #node.log then wrong('node %d: commit is beyond its log, %d', id, #node.log) end
    if (node.base or 0) > math.min(node.commit or #node.log, #node.log) then
      wrong('node %d: what is up to base is committed, and the log has at least that: %d', id, #node.log)
    end
    if node.role and (node.down or node.term < 1) then wrong('node %d cannot begin as a %s', id, node.role) end
    self.nodes[id] = node
  end
end

-- --- time and rest -----------------------------------------------------------------------------------------------------------

-- One round: what is on the ways now and not held. Gives how many arrived.
local function deliver_round(self)
  local there = {}
  for from = 1, self.count do
    for to = 1, self.count do
      if from ~= to and not self.held[from * 10 + to] then
        there[#there + 1] = { from, to, self.stage:count(from, to) }
      end
    end
  end
  local count = 0
  for _, way in ipairs(there) do
    for _ = 1, math.min(way[3], self.stage:count(way[1], way[2])) do
      self.stage:deliver(way[1], way[2], 1)
      self:take()
      count = count + 1
    end
  end
  return count
end

-- A leader that is about to tell where commit stands, a tenth of a heartbeat after it moved, does so.
local function tell_commit(self)
  local soon = math.max(1, math.floor(self.options.heartbeat_ms / 10))
  for id = 1, self.count do
    local status = self.stage:status(id)
    local wake = self.stage:wake_in(id)
    if status.role == 'leader' and status.commit > (self.told[id] or 0) and wake and wake <= soon then
      self.told[id] = status.commit
      self.stage:pass(id, wake)
      self:take()
    end
  end
end

-- Until nothing is on the ways; `timed`: leaders tell by their own clocks.
local function stabilize(self, most, timed)
  local count, again = 0, true
  while again do
    local arrived = deliver_round(self)
    count = count + arrived
    if count > most then failed('still not quiet after %d messages', count) end
    if arrived == 0 and not timed then tell_commit(self) end
    again = arrived > 0
    for from = 1, self.count do
      for to = 1, self.count do
        again = again or (from ~= to and not self.held[from * 10 + to] and self.stage:count(from, to) > 0)
      end
    end
  end
end

-- Lets `ms` pass for all; `each` runs after each wake-up.
local function pass(self, ms, each)
  local left, wakes = ms, 0
  self.at = self.clock
  each(self)
  while true do
    local soonest
    for id = 1, self.count do
      local wake = self.stage:wake_in(id)
      if wake and wake <= left and (not soonest or wake < soonest) then soonest = wake end
    end
    local step = soonest or left
    left, self.clock = left - step, self.clock + step
    self.at = self.clock
    self.stage:pass(0, step)
    self:take()
    if not soonest then break end
    each(self)
    wakes = wakes + 1
    if wakes > WAKES_MAX then failed('more than %d wake-ups', WAKES_MAX) end
  end
  self.at = nil
end

-- --- verbs ---------------------------------------------------------------------------------------------------------------------

local verbs = {}

function verbs.campaign(self, list)
  local id = self:up(list[1], 'campaign')
  local before = self.stage:status(id)
  if before.role == 'leader' and not list[2] then failed('node %d leads already', id) end
  if list[2] and list[2] ~= 'now' then wrong('campaign takes a node, and perhaps now: without waiting; not %s', list[2]) end
  local wake = self.stage:wake_in(id)
  if list[2] then self.stage:campaign(id)
  elseif wake then self.stage:pass(id, wake)
  else failed('node %d waits for nothing: it does not vote', id) end
  self:take()
end

-- A follower's deadline; for a leader twice the time-out, in which it must have heard from a majority.
function verbs.timeout(self, list)
  local id = self:up(list[1], 'timeout')
  local leads = self.stage:status(id).role == 'leader'
  local left = leads and 2 * self.options.election_timeout_ms or self.stage:wake_in(id) or 0
  while left > 0 do
    local step = math.min(left, self.stage:wake_in(id) or left)
    self.stage:pass(id, step)
    self:take()
    left = left - step
    if leads and self.stage:status(id).role ~= 'leader' then return end
  end
end

function verbs.advance(self, list)
  pass(self, words.number(list[1], 'advance', 1, 10000000), function() end)
end

function verbs.run(self, list)
  pass(self, words.number(list[1], 'run', 1, 10000000), function() stabilize(self, QUIET_MAX, true) end)
end

function verbs.stabilize(self, list)
  if list[1] and list[1] ~= 'within' then wrong('stabilize takes nothing, or: within N messages') end
  stabilize(self, list[1] and words.number(list[2], 'stabilize within') or QUIET_MAX)
end

function verbs.propose(self, list)
  local id = self:up(list[1], 'propose')
  local count = list[2] and words.number(list[2], 'propose', 1, 10000) or 1
  if #self.stage:status(id).log + count > 60000 then wrong('a log has at most 60000 entries') end
  local taken = self.stage:propose(id, count)
  self.proposed[id] = taken and 'taken' or 'refused'
  self:take()
  if not taken then self:say('%d refuses the proposal', id) end
end

function verbs.read(self, list)
  self.reads = self.reads + 1
  if list[2] and list[2] ~= 'lease' then wrong('read takes a node, and perhaps lease; not %s', list[2]) end
  local number = self.stage:read(self:up(list[1], 'read'), list[2] == 'lease')
  if number == 0 then wrong('a scenario has at most 256 reads') end
  self:take()
end

verbs['step-down'] = function(self, list)
  local id = self:up(list[1], 'step-down')
  self.stage:step_down(id, list[2] and table.concat(list, ' ', 2) or 'was told to')
  self:take()
end

function verbs.link(self, list)
  if list[2] ~= 'up' and list[2] ~= 'down' then wrong('link wants a way and up or down: link 1->2 down') end
  for _, way in ipairs(words.ways(list[1], self.count, 'link')) do
    if self.stage:status(way[1]).up then self.stage:link(way[1], way[2], list[2] == 'up') end
    self:take()
  end
end

-- deliver, drop, duplicate: the oldest; N: the N oldest; all; #N: the Nth alone.
local function on_ways(self, list, verb, act)
  local which = list[2] or '1'
  local nth = which:match('^#(%d+)$')
  local count = not nth and which ~= 'all' and words.number(which, verb, 1)
  local done = 0
  for _, way in ipairs(words.ways(list[1], self.count, verb)) do
    local there = self.stage:count(way[1], way[2])
    for _ = 1, nth and 1 or math.min(count or there, there) do
      local place = nth and tonumber(nth) or 1
      if place < 1 or place > self.stage:count(way[1], way[2]) then break end
      local message = self.stage:message(way[1], way[2], place)
      self:say('%d->%d %s', way[1], way[2], words.show_message(message))
      act(way, place)
      done = done + 1
    end
  end
  if done == 0 then failed('nothing to %s is on the way %s', verb, table.concat(list, ' ')) end
end

function verbs.deliver(self, list)
  on_ways(self, list, 'deliver', function(way, place)
    if not self.stage:deliver(way[1], way[2], place) then self:say('%d is down', way[2]) end
    self:take()
  end)
end

function verbs.drop(self, list)
  on_ways(self, list, 'drop', function(way, place) self.stage:drop(way[1], way[2], place) end)
end

function verbs.duplicate(self, list)
  if list[2] and not list[2]:find('^#%d+$') then wrong('duplicate copies one message: duplicate 1->2, duplicate 1->2 #3') end
  on_ways(self, list, 'duplicate', function(way, place) self.stage:duplicate(way[1], way[2], place) end)
end

function verbs.hold(self, list)
  for _, way in ipairs(words.ways(list[1], self.count, 'hold', true)) do self.held[way[1] * 10 + way[2]] = true end
end

function verbs.release(self, list)
  for _, way in ipairs(words.ways(list[1], self.count, 'release', true)) do self.held[way[1] * 10 + way[2]] = nil end
end

function verbs.cut(self, list)
  for _, way in ipairs(words.ways(list[1], self.count, 'cut', true)) do self.stage:cut(way[1], way[2], true) end
end

function verbs.heal(self, list)
  for _, way in ipairs(words.ways(list[1] or '*', self.count, 'heal', true)) do self.stage:cut(way[1], way[2], false) end
end

function verbs.crash(self, list)
  local id = self:up(list[1], 'crash')
  local kept = 0
  if list[2] then
    if list[2] ~= 'keep' then wrong('crash takes a node and perhaps keep N, the writes that reached its disk; not %s', list[2]) end
    kept = words.number(list[3], 'crash keep')
  end
  self.stage:crash(id, kept)
  self.told[id] = nil
  self:take()
end

function verbs.restart(self, list)
  local id = self:node(list[1], 'restart')
  local status = self.stage:status(id)
  if status.up then wrong('restart: node %d is up; crash it first', id) end
  self.stage:start(id, math.max(status.disk.base, math.min(1, #status.disk.log)), true)
  self:take()
end

-- compact N [I] [keep K]
function verbs.compact(self, list)
  local id, at = self:up(list[1], 'compact'), 2
  local status = self.stage:status(id)
  local index = math.min(status.commit, status.durable)
  if list[at] and list[at] ~= 'keep' then index, at = words.number(list[at], 'compact', 1), at + 1 end
  if list[at] and list[at] ~= 'keep' then wrong('compact takes a node, perhaps an index, and perhaps keep N; not %s', list[at]) end
  local kept = list[at] and words.number(list[at + 1], 'compact keep') or 0
  if not self.stage:compact(id, index, math.max(0, index - kept)) then
    failed('node %d: not all up to %d is committed and durable here', id, index)
  end
  self:take()
end

-- install N [I]
function verbs.install(self, list)
  local id = self:up(list[1], 'install')
  local offered = self.stage:status(id).offered
  local index = list[2] and words.number(list[2], 'install', offered and offered.first, offered and offered.last) or 0
  self.proposed[id] = offered and self.stage:install(id, index) and 'taken' or 'refused'
  self:take()
  if not offered then self:say('%d was offered no snapshot', id) end
end

verbs['hold-disk'] = function(self, list)
  for _, id in ipairs(words.nodes(list[1], self.count, 'hold-disk')) do self.stage:hold_disk(id, true) end
end

verbs['release-disk'] = function(self, list)
  for _, id in ipairs(words.nodes(list[1], self.count, 'release-disk')) do
    self.stage:hold_disk(id, false)
    self:take()
  end
end

verbs['hold-entries'] = function(self, list)
  for _, id in ipairs(words.nodes(list[1], self.count, 'hold-entries')) do self.stage:hold_entries(id, true) end
end

verbs['release-entries'] = function(self, list)
  for _, id in ipairs(words.nodes(list[1], self.count, 'release-entries')) do
    self.stage:hold_entries(id, false)
    self:take()
  end
end

function verbs.persist(self, list)
  local id = self:up(list[1], 'persist')
  local waiting = self.stage:status(id).waiting
  if waiting == 0 then failed('nothing waits for the disk of node %d', id) end
  self.stage:persist(id, list[2] and words.number(list[2], 'persist', 1) or waiting)
  self:take()
end

verbs['fail-disk'] = function(self, list)
  self.stage:fail_disk(self:up(list[1], 'fail-disk'))
end

function verbs.raw(self, list)
  local from, to = (list[1] or ''):match('^(%d+)%->(%d+)$')
  if not from or tonumber(from) < 1 or #from > 9 then wrong('raw wants from whom to whom, and a message: raw 2->1 RequestVote term 3') end
  local id = self:up(to, 'raw')
  local message = words.message(list, 2, 'raw')
  message.from, message.to, message.term = tonumber(from), id, message.term or 0
  if message.from == id then wrong('raw: a node sends itself nothing') end
  local before = {}
  for peer = 0, self.count do before[peer] = peer ~= id and self.stage:count(id, peer) or 0 end
  self.stage:receive(message)
  self:take()
  for peer = 0, self.count do
    for place = before[peer] + 1, peer ~= id and self.stage:count(id, peer) or 0 do
      local answer = self.stage:message(id, peer, place)
      self:say('%d->%d %s', id, answer.to, words.show_message(answer))
    end
  end
end

-- --- looking -------------------------------------------------------------------------------------------------------------------

for verb, show in pairs(look) do verbs[verb] = show end
for verb, play_it in pairs(members.verbs) do verbs[verb] = play_it end

function verbs.expect(self, list)
  expect.run(self, list)
end

-- --- running a file ------------------------------------------------------------------------------------------------------------

local silent = { expect = true } -- not repeated in the transcript

local function every_verb()
  local names = {}
  for verb in pairs(setup) do names[#names + 1] = verb end
  for verb in pairs(verbs) do names[#names + 1] = verb end
  table.sort(names)
  return table.concat(names, ' ')
end

local function run_line(self, line)
  local list = {}
  for word in line:gmatch('%S+') do list[#list + 1] = word end
  local verb = table.remove(list, 1)
  if not verb then return end
  if setup[verb] then
    if self.stage then wrong('%s must come before the first step', verb) end
    setup[verb](self, list)
    return
  end
  if not verbs[verb] then wrong('%s is no verb; the verbs are: %s', verb, every_verb()) end
  words.at_most(list, verb)
  self:begin()
  if not silent[verb] then self:say('> %s', table.concat({ verb, unpack(list) }, ' ')) end
  verbs[verb](self, list)
end

-- A comment begins with # at the line's beginning, or after a blank; #3 after a way is the third message.
local function without_comment(line)
  return (line:gsub('\r$', ''):gsub('^%s*#.*', ''):gsub('%s#%D.*$', ''):gsub('%s#$', ''))
end

-- The first line in which two transcripts differ.
local function difference(expected, got)
  local next_expected, next_got = expected:gmatch('([^\n]*)\n'), got:gmatch('([^\n]*)\n')
  local number = 0
  while true do
    local a, b = next_expected(), next_got()
    number = number + 1
    if a ~= b or not a then return number, a or 'the end', b or 'the end' end
  end
end

local function read(path)
  local file, why = io.open(path)
  if not file then return nil, why end
  local text
  text, why = file:read('*a')
  file:close()
  return text, why and path .. ': ' .. why
end

function scenario.run(source)
  local path, text, why = 'scenario', source, nil
  if not source:find('\n', 1, true) then
    path = source
    text, why = read(source)
    if not text then return false, '', why, 'input' end
  end
  local self = setmetatable({ output = {}, count = 3, nodes = {}, held = {}, told = {}, proposed = {}, changed = {}, reads = 0, clock = 0,
    options = { election_timeout_ms = 1000, heartbeat_ms = 100, start_wait_ms = 0 } }, play)
  local number, golden, ok = 0, nil, true
  for line, after in (text:sub(-1) == '\n' and text or text .. '\n'):gmatch('([^\n]*)\n()') do
    number = number + 1
    if line:find('^%-%-%-%-+$') then
      golden = text:sub(after)
      break
    end
    ok, why = pcall(run_line, self, without_comment(line))
    if not ok then break end
  end
  if ok then ok, why = pcall(self.begin, self) end -- a file without a step is a scenario of its beginning
  local output = table.concat(self.output, '\n') .. (#self.output > 0 and '\n' or '')
  if self.stage then self.stage:close() end
  if not ok then
    if type(why) ~= 'table' then error(why, 0) end
    return false, output, ('%s:%d: %s'):format(path, number, why.wrong or why.failed), why.wrong and 'input' or 'failed'
  end
  if golden and golden ~= output then
    local at, expected, got = difference(golden, output)
    return false, output, ('%s: the transcript differs in its line %d\n  expected: %s\n  got:      %s'):format(path, at, expected, got),
      'failed'
  end
  return true, output
end

return scenario
