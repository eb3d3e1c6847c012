-- tidelock/scenario/expect.lua: what `expect` can ask of a stage. spec/README.md lists it.
--
-- Each form either returns, or throws error{ failed = sentence } that says what is there instead.
local words = require 'tidelock.scenario.words'

local expect = {}

local wrong = words.wrong

local function failed(...)
  error({ failed = string.format(...) }, 0)
end

-- A number as it is (3), or bounded: >=3, <=3, >3, <3. Gives a test, and the word.
local function bound(word, what)
  local op, digits = (word or ''):match('^([<>]?=?)(%d+)$')
  local n = tonumber(digits)
  if not n or op == '=' then wrong('%s wants a number: 3, >=3, <=3, >3 or <3; not %s', what, word or 'nothing') end
  return function(value)
    if op == '>=' then return value >= n elseif op == '<=' then return value <= n
    elseif op == '>' then return value > n elseif op == '<' then return value < n end
    return value == n
  end
end

local function nobody(id) return id == 0 and 'none' or tostring(id) end

local function last_of(log) return #log end

local roles = { follower = true, candidate = true, leader = true, ['pre-candidate'] = true }

-- PROPERTY VALUE: how it is read from a status.
local numbers = {
  term = function(s) return s.term end,
  commit = function(s) return s.commit end,
  last = function(s) return s.log and last_of(s.log) end,
  waiting = function(s) return s.waiting end,
  configuration = function(s) return s.configuration and s.configuration.id end,
  base = function(s) return s.base end,
  offered = function(s) return s.up and (s.offered and s.offered.first or 0) or nil end,
  ['disk-term'] = function(s) return s.disk.term end,
  ['disk-base'] = function(s) return s.disk.base end,
  ['disk-last'] = function(s) return last_of(s.disk.log) end,
}
local names = {
  voted = function(s) return s.voted end,
  follows = function(s) return s.leader end,
  ['disk-voted'] = function(s) return s.disk.voted end,
  ['hands-over'] = function(s) return s.transfer_to end,
}
local lists = {
  voters = function(s) return s.configuration.voters end,
  ['old-voters'] = function(s) return s.configuration.old_voters end,
  learners = function(s) return s.configuration.learners end,
}
local logs = {
  log = function(s) return s.log end,
  ['disk-log'] = function(s) return s.disk.log end,
}
-- PROPERTY PEER VALUE
local states = { probes = true, replicates = true, snapshots = true }
local peers = { next = true, match = true, inflight = true, window = true }

local function same(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- One property of one node, from word `at` on; gives the place after it.
local function property(play, id, status, list, at, first)
  local word, value = list[at], list[at + 1]
  local function have(is, ...)
    if not is then failed('node %d ' .. (...), id, select(2, ...)) end
  end
  local function up() have(status.up, 'is down') end
  if word == 'up' or word == 'down' then
    have(status.up == (word == 'up'), 'is ' .. (status.up and 'up' or 'down'))
    return at + 1
  elseif roles[word] then
    up()
    have(status.role == word, 'is a ' .. status.role)
    return at + 1
  elseif word == 'refused' or word == 'taken' then
    have(play.proposed[id] == word, 'has ' .. (play.proposed[id] or 'not been given') .. ' the last proposal, or snapshot')
    return at + 1
  elseif numbers[word] then
    local test, got = bound(value, word), numbers[word](status)
    if got == nil then up() end
    have(test(got), 'has %s %d, not %s', word, got, value)
    return at + 2
  elseif names[word] then
    local who = value == 'none' and 0 or words.node(value, play.count, word)
    local got = names[word](status)
    if got == nil then up() end
    have(got == who, '%s %s, not %s', word, nobody(got), nobody(who))
    return at + 2
  elseif logs[word] then
    local got = logs[word](status)
    if got == nil then up() end
    if value == 'same' then
      first[word] = first[word] or got
      have(same(got, first[word]), 'has another %s: %s, not %s', word, words.show_terms(got), words.show_terms(first[word]))
      return at + 2
    end
    local log, after = words.terms(list, at + 1)
    if value == 'empty' then after = at + 2
    elseif #log == 0 then wrong('%s wants terms, empty, or same; not %s', word, value or 'nothing') end
    have(same(got, log), 'has %s %s, not %s', word, words.show_terms(got), words.show_terms(log))
    return after
  elseif lists[word] then
    up()
    local got, all = lists[word](status), words.members(value, play.count, word)
    have(same(got, all), 'has %s %s, not %s', word, words.show_members(got), words.show_members(all))
    return at + 2
  elseif word == 'change' or word == 'transfer' then
    local got = word == 'change' and (play.changed[id] or 'none') or status.transferred
    have(got == value, '%s: %s, not %s', word, got, value or 'nothing')
    return at + 2
  elseif word == 'lease' or word == 'no-lease' then
    up()
    have(status.lease == (word == 'lease'), status.lease and 'reads by lease' or 'has no lease')
    return at + 1
  elseif word == 'caught-up' or word == 'behind' then
    local peer = status.peers and status.peers[words.node(value, play.count, word)]
    have(peer, 'does not lead ' .. value)
    have(peer.caught_up == (word == 'caught-up'), peer.caught_up and 'finds %s caught up' or 'finds %s behind', value)
    return at + 2
  elseif word == 'tells' or word == 'tells-no' then
    local peer = status.peers and status.peers[words.node(value, play.count, word)]
    have((peer ~= nil) == (word == 'tells'), peer and 'replicates to %s' or 'does not replicate to %s', value)
    return at + 2
  elseif states[word] then
    local peer = status.peers and status.peers[words.node(value, play.count, word)]
    have(peer, 'leads nobody')
    have(peer.state == word, peer.state .. ' %s', value)
    return at + 2
  elseif peers[word] then
    local peer = status.peers and status.peers[words.node(value, play.count, word)]
    have(peer, 'leads nobody')
    have(bound(list[at + 2], word)(peer[word]), 'has %s %d for %s, not %s', word, peer[word], value, list[at + 2])
    return at + 3
  end
  wrong('of a node can be expected: follower candidate pre-candidate leader up down term commit last log base voted follows waiting '
    .. 'offered disk-term disk-last disk-base disk-voted disk-log refused taken next match inflight window probes replicates snapshots '
    .. 'configuration voters old-voters learners change transfer hands-over caught-up behind tells tells-no lease no-lease; not %s', word)
end

local function of_nodes(play, list)
  local ids, first = words.nodes(list[1], play.count, 'expect'), {}
  if not list[2] then wrong('expect %s what? for example: expect %s term 2', list[1], list[1]) end
  for _, id in ipairs(ids) do
    local status = play.stage:status(id)
    local at = 2
    while list[at] do at = property(play, id, status, list, at, first) end
  end
end

-- WAY N | WAY MESSAGE | no WAY [MESSAGE]
local function of_ways(play, list, at, none)
  local ways = words.ways(list[at], play.count, 'expect')
  local said = table.concat(list, ' ', at)
  local found, count, there = 0, 0, nil
  local wanted = list[at + 1] and not list[at + 1]:find('^[<>=%d]') and words.message(list, at + 1, 'expect')
  for _, way in ipairs(ways) do
    for place = 1, play.stage:count(way[1], way[2]) do
      local message = play.stage:message(way[1], way[2], place)
      count = count + 1
      there = there or ('%d->%d %s'):format(way[1], way[2], words.show_message(message))
      if not wanted or words.matches(message, wanted) then found = found + 1 end
    end
  end
  if none then
    if found > 0 then failed('there is %d on the way, the first: %s', found, there) end
  elseif wanted then
    if found == 0 then failed('no %s; on the way: %d%s', said, count, there and ', the first: ' .. there or '') end
  elseif not bound(list[at + 1], list[at])(count) then
    failed('%d on the way%s', count, there and ', the first: ' .. there or '')
  end
end

local function of_read(play, list)
  local number = words.number(list[2], 'expect read', 1)
  local state, index = play.stage:read_state(number)
  local wanted = list[3]
  if wanted ~= 'answered' and wanted ~= 'waiting' and wanted ~= 'refused' and wanted ~= 'lost' then
    wrong('a read can be expected answered [INDEX], waiting, refused or lost; not %s', wanted or 'nothing')
  end
  if state == 'none' then failed('there was no read %d', number) end
  if state ~= wanted then failed('read %d is %s', number, state) end
  if list[4] and not bound(list[4], 'answered')(index) then failed('read %d was answered at %d', number, index) end
end

local function leaders(play)
  local best, term
  for id = 1, play.count do
    local status = play.stage:status(id)
    if status.role == 'leader' and (not term or status.term > term) then best, term = id, status.term end
  end
  return best
end

local function of_leader(play, list)
  local leader = leaders(play)
  if list[2] == 'any' then
    if not leader then failed('nobody leads') end
    return
  end
  local wanted = words.node(list[2], play.count, 'expect leader')
  if leader ~= wanted then failed('%s leads', leader and 'node ' .. leader or 'nobody') end
end

-- `list`: the words after `expect`.
function expect.run(play, list)
  local word = list[1]
  if word == nil then wrong('expect what? for example: expect 1 leader term 2') end
  if word == 'no' and list[2] == 'leader' then
    local leader = leaders(play)
    if leader then failed('node %d leads', leader) end
  elseif word == 'no' and words.is_way(list[2]) then of_ways(play, list, 2, true)
  elseif words.is_way(word) then of_ways(play, list, 1)
  elseif word == 'leader' then of_leader(play, list)
  elseif word == 'read' then of_read(play, list)
  elseif word == 'committed' then
    local got = play.stage:committed()
    if not bound(list[2], 'committed')(got) then failed('%d is committed', got) end
  elseif word:find('^[%d*]') or word == 'all' then of_nodes(play, list)
  else
    wrong('expect wants a node (expect 1 leader), a way (expect 1->2 AppendEntries, expect no 1->2), leader, no leader, read N '
      .. 'or committed N; not %s', word)
  end
end

return expect
