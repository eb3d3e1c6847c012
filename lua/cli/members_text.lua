-- cli/members_text.lua: words of `tidelock members` as changes, and what nodes say of members as lines for people. It asks nobody.
local text = {}

-- What a verb is followed by: an ID, ID=H:P, or OLD and ID=H:P (or the ID of a member).
local verbs = { add = 'place', promote = 'id', demote = 'id', remove = 'id', address = 'place', replace = 'both' }

local function read_id(word)
  local id = word and word:match('^%d+$') and tonumber(word)
  if id and id >= 1 and id < 2^53 then return id end
  return nil, ('a node is named by its id, a whole number from 1, not %s'):format(word or 'nothing')
end

local function read_place(word)
  local id, address = (word or ''):match('^(%d+)=(.+:%d+)$')
  if not id then return nil, ('write ID=HOST:PORT, like 4=127.0.0.1:7304, not %s'):format(word or 'nothing') end
  local number, why = read_id(id)
  return number, number and address or why
end

-- -> a list of changes, as tidelock.members_change takes them; or nil, why not
function text.read(words)
  local changes, at = {}, 1
  while words[at] do
    local verb = words[at]
    local kind, why = verbs[verb], nil
    if not kind then return nil, 'members knows add, remove, promote, demote, replace, address and history, not ' .. verb end
    local change = { op = verb }
    if kind == 'place' then change.id, change.address = read_place(words[at + 1])
    else change.id, why = read_id(words[at + 1]) end
    if not change.id then return nil, ('%s: %s'):format(verb, why or change.address) end
    at = at + 2
    if kind == 'both' then
      local word = words[at]
      if word and word:find('=', 1, true) then change.with, change.address = read_place(word)
      else change.with, why = read_id(word) end
      if not change.with then return nil, ('replace %.0f by whom? %s'):format(change.id, why or change.address) end
      at = at + 1
    end
    changes[#changes + 1] = change
  end
  return changes
end

-- --- lines ---

-- Texts of members come from whoever wrote them: they stay within their line, and steer no terminal.
local function clean(value)
  return (tostring(value):gsub('[%c\127]', function(c) return ('\\x%02x'):format(c:byte()) end))
end

local function ago(ms)
  if ms < 1000 then return ('%.0f ms'):format(ms) end
  if ms < 120000 then return ('%.0f s'):format(ms / 1000) end
  return ('%.0f min'):format(ms / 60000)
end

-- The node at a member's address, if it is that member: what it says of itself. down: it does not answer. nil: nobody asked
local function own_word(m, own)
  local said = own[m.address]
  if said and (said.down or said.id == m.id) then return said end
end

-- Who leads, and how far the log is committed, by those that answered; else by what was observed last.
local function look(all, own)
  local leader, term, commit = nil, 0, 0
  for _, said in pairs(own) do
    if not said.down then
      commit = math.max(commit, said.commit or 0)
      if (said.leader or 0) > 0 and (said.term or 0) >= term then leader, term = said.leader, said.term end
    end
  end
  for _, m in ipairs(all.members) do
    if not leader and m.is_leader then leader = m.id end
  end
  return leader, commit
end

-- The log has what was observed when it last changed, and under `manual` nobody looks: what a node says now goes before it.
local function state_of(m, own, leader, commit)
  local words, said = {}, own_word(m, own)
  local there, other = said and not said.down, own[m.address]
  if m.id == leader then words[#words + 1] = 'leads' end
  if m.old then words[#words + 1] = 'votes until the change is done' end
  if there and (said.parked_at or 0) > 0 or not there and m.parked then words[#words + 1] = 'parked' end
  if said and said.down then words[#words + 1] = 'does not answer' end
  if other and not said then words[#words + 1] = ('node %.0f answers at its address'):format(other.id) end
  if not there and m.silent_ms > 0 then words[#words + 1] = 'silent for ' .. ago(m.silent_ms)
  elseif (there or not said) and m.role == 'learner' then
    local lag = there and said.applied and math.max(0, commit - said.applied) or m.lag
    words[#words + 1] = m.caught_up and 'caught up' or ('catching up, lacks %.0f'):format(lag)
  end
  return #words == 0 and 'well' or table.concat(words, ', ')
end

local function tags_of(m)
  local list = {}
  for key, value in pairs(m.tags) do list[#list + 1] = key .. '=' .. value end
  table.sort(list)
  if m.zone ~= '' then table.insert(list, 1, 'zone ' .. m.zone) end
  if m.priority > 0 then list[#list + 1] = ('priority %.0f'):format(m.priority) end
  return #list > 0 and '  (' .. clean(table.concat(list, ' ')) .. ')' or ''
end

local function change_text(change)
  local op, id, with, address = change[1], change[2], change[3], change[4]
  if op == 'replace' then return ('replace %.0f by %.0f'):format(id, with) end
  if (op == 'add' or op == 'address') and address ~= '' then return ('%s %.0f=%s'):format(op, id, address) end
  return ('%s %.0f'):format(op, id)
end

function text.changes(list)
  local parts = {}
  for i, change in ipairs(list) do parts[i] = clean(change_text(change)) end
  return table.concat(parts, ', ')
end

-- Who may come. An invitation to replace somebody stays until that is decided, also when the node has joined.
local function invitation(one, by_id)
  local joined, replaces = by_id[one.id], one.replaces > 0 and one.replaces
  if joined and (not replaces or joined.role ~= 'learner' or not by_id[replaces]) then return nil end -- it is over
  local line = ('%-4.0f %-22s invited  %s'):format(one.id, clean(one.address), joined and 'has joined' or 'has not joined yet')
  if replaces then line = line .. ('; takes the place of %.0f%s'):format(replaces, joined and ' when it has caught up' or '') end
  return line
end

-- What tidelock.members said. own: by address, what the node there says of itself (tidelock.status), or { down = true }
function text.table_of(all, own)
  own = own or {}
  local lines, by_id, leader, commit = {}, {}, look(all, own)
  for _, m in ipairs(all.members) do
    by_id[m.id] = m
    lines[#lines + 1] = ('%-4.0f %-22s %-8s %s%s'):format(m.id, clean(m.address), m.role, state_of(m, own, leader, commit), tags_of(m))
  end
  for _, one in ipairs(all.invited) do lines[#lines + 1] = invitation(one, by_id) end
  lines[#lines + 1] = ('configuration %.0f%s, policy %s'):format(all.configuration, all.joint and ' (a change goes on)' or '',
    clean(all.policy))
  if all.decision then
    lines[#lines + 1] = ('decided at entry %.0f by %s: %s (%s)'):format(all.decision.index, all.decision.by,
      text.changes(all.decision.changes), clean(all.decision.why))
  end
  if all.waiting then lines[#lines + 1] = 'the policy waits: ' .. clean(all.waiting.why or '') end
  if all.alarm then lines[#lines + 1] = 'ALARM: the policy is not asked any more: ' .. clean(all.alarm) end
  return lines
end

-- One line of tidelock.members_history.
function text.line_of(line)
  local done = line.done == true and 'done' or type(line.done) == 'string' and 'not done: ' .. clean(line.done) or 'under way'
  return ('entry %.0f  %s%s: %s -- %s [%s%s]'):format(line.index, line.by, line.force and ' (forced)' or '', text.changes(line.changes),
    clean(line.why), done, line.done == true and line.configuration > 0 and (', configuration %.0f'):format(line.configuration) or '')
end

-- What a change waits for.
function text.progress(all)
  if not all then return 'nobody says how far it is' end
  local words = {}
  for _, m in ipairs(all.members) do
    if m.role == 'learner' and not m.caught_up then words[#words + 1] = ('node %.0f lacks %.0f entries'):format(m.id, m.lag) end
  end
  return #words > 0 and table.concat(words, ', ') or all.joint and 'the old and the new voters decide' or 'the leader carries it out'
end

-- The line that starts a node which may join, and the address it must be reached at. It asks three members that are well, and not the one
-- it replaces; or `otherwise`.
function text.join_line(changes, id, all, otherwise)
  local mine
  for _, change in ipairs(changes) do
    if (change.with or change.id) == id then mine = change end
  end
  local list = {}
  for _, m in ipairs(all and all.members or {}) do
    local leaves = mine.with and m.id == mine.id
    if #list < 3 and not leaves and not m.old and not m.parked and m.silent_ms == 0 then list[#list + 1] = m.address end
  end
  return ('tidelock start --id %.0f --data DIR --listen %s --join %s'):format(id, mine.address,
    #list > 0 and table.concat(list, ',') or otherwise), mine.address
end

-- What to type after a refusal; nil: it says so itself.
function text.advice(err)
  local message = err.message or ''
  if err.code == 'CONFIG_PENDING' then
    return 'see what is under way: tidelock members; --force puts this in its place, if that only waits'
  elseif err.code == 'STALE_CONFIG' then return 'see who is a member now: tidelock members'
  elseif err.code == 'DENIED' then return 'the policy said no; --force passes it over, and is recorded'
  elseif err.code == 'CONFLICT' and message:find('has not caught up', 1, true) then
    return 'see what it lacks: tidelock members; --force lets it vote all the same'
  elseif err.code == 'TIMEOUT' or err.code == 'LOST' then return 'see what came of it: tidelock members history' end
end

return text
