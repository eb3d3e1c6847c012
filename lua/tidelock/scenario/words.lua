-- tidelock/scenario/words.lua: the notation of scenarios: numbers, nodes, ways, logs, messages; both ways, text and value.
--
-- What a word cannot mean is an error{ wrong = sentence } that says what it could.
local words = {}

local NUMBER_MAX, LOG_MAX = 2 ^ 53, 60000

function words.wrong(...)
  error({ wrong = string.format(...) }, 0)
end
local wrong = words.wrong

-- How many words follow a verb; those that are not here have a grammar of their own.
local MOST = { campaign = 2, timeout = 1, advance = 1, run = 1, stabilize = 2, propose = 2, read = 2, transfer = 2, deliver = 2, drop = 2,
  duplicate = 2, hold = 1, release = 1, cut = 1, heal = 1, link = 2, crash = 3, restart = 1, persist = 2, trace = 1,
  ['hold-disk'] = 1, ['release-disk'] = 1, ['hold-entries'] = 1, ['release-entries'] = 1, ['fail-disk'] = 1 }

-- Refuses what follows the last word that `verb` takes.
function words.at_most(list, verb)
  local most = MOST[verb]
  if most and #list > most then wrong('%s: what is %s? at most %d word%s follow%s', verb, list[most + 1], most, most == 1 and '' or 's',
    most == 1 and 's' or '') end
end

-- A whole number from `low` to `high`; `what` is its name in the complaint.
function words.number(word, what, low, high)
  low, high = low or 0, high or NUMBER_MAX
  local n = word and word:match('^%d+$') and tonumber(word)
  if not n or n < low or n > high then
    wrong('%s wants a whole number %s, not %s', what, high == NUMBER_MAX and ('from %d on'):format(low)
      or ('from %d to %d'):format(low, high), word or 'nothing')
  end
  return n
end

-- 1, or 1,3, or * for all: a list of ids.
function words.nodes(word, count, what)
  local list = {}
  if word == '*' or word == 'all' then
    for id = 1, count do list[id] = id end
    return list
  end
  for part in (word or ''):gmatch('[^,]+') do
    if not part:match('^%d+$') then wrong('%s wants a node (1 to %d), some (1,3) or all (*), not %s', what, count, word) end
    list[#list + 1] = words.node(part, count, what)
  end
  if not list[1] then wrong('%s wants a node, 1 to %d', what, count) end
  return list
end

function words.node(word, count, what)
  local id = word and word:match('^%d+$') and tonumber(word)
  if not id or id < 1 or id > count then wrong('%s wants a node, 1 to %d, not %s', what, count, word or 'nothing') end
  return id
end

-- As words.nodes, or none. What a list of members wants: in order, each once.
function words.members(word, count, what)
  if word == 'none' then return {} end
  local list = words.nodes(word, count, what)
  table.sort(list)
  for i = 2, #list do
    if list[i] == list[i - 1] then wrong('%s names node %d twice', what, list[i]) end
  end
  return list
end

function words.show_members(list)
  return #list > 0 and table.concat(list, ',') or 'none'
end

function words.is_way(word)
  return word ~= nil and word:find('^[%d*]+%-') ~= nil
end

-- 1->2, 1->*, *->2, *->*, 1-2 (both), and with `lone` also 1 (all its ways) and * (all): a list of { from, to }.
function words.ways(word, count, what, lone)
  local from, arrow, to = (word or ''):match('^([%d*]+)(%-?>?)([%d*]*)$')
  if lone and from and arrow == '' and to == '' then
    arrow, to = '-', '*'
  end
  if not from or to == '' or (arrow ~= '->' and arrow ~= '-') then
    wrong('%s wants a way: 1->2, 1->*, *->2, or both ways: 1-2%s; not %s', what, lone and ', 1, *' or '', word or 'nothing')
  end
  local list, seen = {}, {}
  local function add(a, b)
    for _, i in ipairs(words.nodes(a, count, what)) do
      for _, j in ipairs(words.nodes(b, count, what)) do
        if i ~= j and not seen[i * 100 + j] then
          seen[i * 100 + j] = true
          list[#list + 1] = { i, j }
        end
      end
    end
  end
  add(from, to)
  if arrow == '-' then add(to, from) end
  if not list[1] and not (from .. to):find('*', 1, true) then wrong('%s: %s is no way, from a node to itself', what, word) end
  table.sort(list, function(a, b) return a[1] * 100 + a[2] < b[1] * 100 + b[2] end)
  return list
end

-- A word of a log: 2, 2x3 (three of term 2), 1..4 (one of each), 1..9/2 (1 3 5 7 9), 1..4x5: first, last, step, times.
local function term_word(word)
  local terms, times = word:match('^([%d./]+)x(%d+)$')
  local first, rest = (terms or word):match('^(%d+)(.*)$')
  local last, step = (rest or ''):match('^%.%.(%d+)/?(%d*)$')
  if not first or (rest ~= '' and not last) or step == '0' then return nil end
  return tonumber(first), tonumber(last or first), tonumber(step ~= '' and step or 1), tonumber(times or 1)
end

-- The terms of a log, from word `at` on, as far as they are terms. Gives the list and the place after it.
function words.terms(list, at)
  local log = {}
  while list[at] do
    local first, last, step, times = term_word(list[at])
    if not first then break end
    if times * ((last - first) / step + 1) + #log > LOG_MAX then wrong('a log has at most %d entries', LOG_MAX) end
    for term = first, last, step do
      for _ = 1, times do log[#log + 1] = term end
    end
    at = at + 1
  end
  return log, at
end

function words.show_terms(log)
  if #log == 0 then return 'empty' end
  if #log <= 16 then return table.concat(log, ' ') end
  local out, i = {}, 1
  while i <= #log do
    local j = i
    while log[j + 1] == log[i] do j = j + 1 end
    out[#out + 1] = j > i and ('%dx%d'):format(log[i], j - i + 1) or tostring(log[i])
    i = j + 1
  end
  if #out > 40 then out = { out[1], out[2], ('... %d more terms ...'):format(#out - 4), out[#out - 1], out[#out] } end
  return table.concat(out, ' ')
end

-- --- messages -------------------------------------------------------------------------------------------------------------

-- Fields in the order they are shown; the paper's names where it has them (Figure 2).
local fields = {
  RequestVote = { 'term', 'lastLogIndex', 'lastLogTerm', 'transfer' },
  PreVote = { 'term', 'lastLogIndex', 'lastLogTerm' },
  VoteReply = { 'term', 'voteGranted' },
  PreVoteReply = { 'term', 'voteGranted' },
  AppendEntries = { 'term', 'prevLogIndex', 'prevLogTerm', 'entries', 'leaderCommit', 'round', 'epoch' },
  AppendReply = { 'term', 'success', 'matchIndex', 'rejectIndex', 'hintIndex', 'hintTerm', 'round', 'epoch', 'voteWait' },
  InstallSnapshot = { 'term', 'lastIncludedIndex', 'lastIncludedTerm', 'epoch' },
  TimeoutNow = { 'term' },
}
local flags = { voteGranted = true, success = true, transfer = true }

-- TYPE [FIELD VALUE]... from word `at` on: a table of what was said.
function words.message(list, at, what)
  local kind = list[at]
  local known = fields[kind or '']
  if not known then
    wrong('%s wants a message: RequestVote, PreVote, VoteReply, PreVoteReply, AppendEntries, AppendReply, InstallSnapshot or TimeoutNow, '
      .. 'not %s', what, kind or 'nothing')
  end
  local message = { type = kind }
  at = at + 1
  while list[at] do
    local name, value = list[at], list[at + 1]
    local has = false
    for _, field in ipairs(known) do has = has or field == name end
    if not has then wrong('%s has no field %s; it has %s', kind, name, table.concat(known, ' ')) end
    if flags[name] then
      if value ~= 'yes' and value ~= 'no' then wrong('%s wants yes or no, not %s', name, value or 'nothing') end
      message[name], at = value == 'yes', at + 2
    elseif name == 'entries' then
      if value == 'none' then message.entries, at = {}, at + 2
      else
        message.entries, at = words.terms(list, at + 1)
        if #message.entries == 0 then wrong('entries wants the terms of some entries, or none; not %s', value or 'nothing') end
        if #message.entries > 1024 then wrong('a message has at most 1024 entries, not %d', #message.entries) end
      end
    else
      message[name], at = words.number(value, name), at + 2
    end
  end
  return message
end

local function show_field(name, value)
  if flags[name] then return value and 'yes' or 'no' end
  if name == 'entries' then return #value == 0 and 'none' or words.show_terms(value) end
  return ('%d'):format(value)
end

function words.show_message(message)
  local out = { message.type }
  for _, name in ipairs(fields[message.type]) do
    local value = message[name]
    -- What says nothing is left out: no round, no epoch, no entries, the half of a reply that it does not use.
    local quiet = value == nil or ((name == 'round' or name == 'epoch' or name == 'voteWait') and value == 0)
      or (name == 'transfer' and not value)
      or (name == 'entries' and #value == 0) or (name == 'matchIndex' and not message.success)
      or ((name:match('^hint') or name == 'rejectIndex') and message.success)
    if not quiet then out[#out + 1] = name .. ' ' .. show_field(name, value) end
  end
  return table.concat(out, ' ')
end

-- True if `message` is what `wanted` says, field by field.
function words.matches(message, wanted)
  for name, value in pairs(wanted) do
    if type(value) == 'table' then
      if #value ~= #message[name] then return false end
      for i, term in ipairs(value) do
        if message[name][i] ~= term then return false end
      end
    elseif message[name] ~= value then return false end
  end
  return true
end

return words
