-- cli/members.lua: who the members are, and changing that: words become one request, and what was decided is waited for.
local wire, client, sys = require 'tidelock.wire', require 'tidelock.client', require 'tidelock.sys'
local call = require 'cli.call'

local members = {
  summary = 'who is a member; let nodes join, vote, leave',
  usage = [[
tidelock members [CHANGE...] [--force]
tidelock members history

  tidelock members                          who is there, votes, is silent, lags
  tidelock members add 4=127.0.0.1:7304     node 4 may join: prints the line that starts it
  tidelock members promote 4                it votes; a learner that has not caught up is refused
  tidelock members demote 2                 it stays, and votes no more
  tidelock members remove 2                 it is no member any more; its node is told, and ends
  tidelock members replace 3 5=127.0.0.1:7305   node 5 joins in its place, and takes it when it has caught up
  tidelock members promote 4 demote 2       several at once are one change
  tidelock members history                  what was decided, by whom, why, on what was known

What was decided is waited for, for as long as --timeout says. Where a policy is in force (deploy --policy), it is asked first, and may
refuse; --force passes it over, and also lets a node vote that has not caught up. Both are in the history.

  --why TEXT      for the history
  --expect ID     only if this configuration is in force (members --json shows it)
  --no-wait       do not wait until it is done
  --force         without the policy's consent, and whatever was observed
  --to H:P,...    nodes to ask (or TIDELOCK_TO)
  --timeout MS    give up after this long (30000)
  --json          {"ok":value,"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', json = 'flag', force = 'flag', why = 'value', expect = 'value', ['no-wait'] = 'flag' },
}

local LOOK_MS, TELL_MS = 100, 5000

-- What a verb is followed by: an ID, ID=H:P, or OLD and ID=H:P (or the ID of a member).
local verbs = { add = 'place', promote = 'id', demote = 'id', remove = 'id', address = 'place', replace = 'both' }

local function read_id(word, cli)
  local id = word and word:match('^%d+$') and tonumber(word)
  if not id or id < 1 or id >= 2^53 then cli.stop(2, 'a node is named by its id, a whole number from 1, not ', tostring(word or 'nothing')) end
  return id
end

local function read_place(word, cli)
  local id, address = (word or ''):match('^(%d+)=(.+:%d+)$')
  if not id then cli.stop(2, 'write ID=HOST:PORT, like 4=127.0.0.1:7304, not ', tostring(word or 'nothing')) end
  return read_id(id, cli), address
end

-- Words -> a list of changes, as tidelock.members_change takes them.
function members.read(words, cli)
  local changes, at = {}, 1
  while words[at] do
    local verb = words[at]
    local kind = verbs[verb]
    if not kind then cli.stop(2, 'members knows add, remove, promote, demote, replace, address and history, not ', verb) end
    local change = { op = verb }
    if kind == 'place' then change.id, change.address = read_place(words[at + 1], cli)
    else change.id = read_id(words[at + 1], cli) end
    at = at + 2
    if kind == 'both' then
      local word = words[at] or ''
      if word:find('=', 1, true) then change.with, change.address = read_place(word, cli) else change.with = read_id(word, cli) end
      at = at + 1
    end
    changes[#changes + 1] = change
  end
  return changes
end

-- --- showing ---

local function ago(ms)
  if ms < 1000 then return ('%.0f ms'):format(ms) end
  if ms < 120000 then return ('%.0f s'):format(ms / 1000) end
  return ('%.0f min'):format(ms / 60000)
end

local function state_of(m, idle)
  local words = {}
  if m.is_leader then words[#words + 1] = 'leads' end
  if m.old then words[#words + 1] = 'will not vote' end
  if m.parked then words[#words + 1] = 'parked' end
  if m.silent_ms > 0 then words[#words + 1] = 'silent for ' .. ago(m.silent_ms)
  elseif m.role == 'learner' and not m.caught_up then words[#words + 1] = ('catching up, lacks %.0f'):format(m.lag)
  elseif m.role == 'learner' then words[#words + 1] = 'caught up' end
  if #words == 0 and not idle then words[1] = 'well' end
  return table.concat(words, ', ')
end

local function tags_of(m)
  local list = {}
  for key, value in pairs(m.tags) do list[#list + 1] = key .. '=' .. value end
  table.sort(list)
  if m.zone ~= '' then table.insert(list, 1, 'zone ' .. m.zone) end
  if m.priority > 0 then list[#list + 1] = ('priority %.0f'):format(m.priority) end
  return table.concat(list, ' ')
end

local function change_text(change)
  local op, id, with, address = change[1], change[2], change[3], change[4]
  if op == 'replace' then return ('replace %.0f by %.0f'):format(id, with) end
  if (op == 'add' or op == 'address') and address ~= '' then return ('%s %.0f=%s'):format(op, id, address) end
  return ('%s %.0f'):format(op, id)
end

local function changes_text(list)
  local parts = {}
  for i, change in ipairs(list) do parts[i] = change_text(change) end
  return table.concat(parts, ', ')
end

-- The lines that people see of what tidelock.members said.
function members.table_of(all)
  local lines = {}
  for _, m in ipairs(all.members) do
    lines[#lines + 1] = ('%-4.0f %-22s %-8s %s%s'):format(m.id, m.address, m.role, state_of(m),
      tags_of(m) ~= '' and '  (' .. tags_of(m) .. ')' or '')
  end
  for _, one in ipairs(all.invited) do
    lines[#lines + 1] = ('%-4.0f %-22s invited  has not joined yet%s'):format(one.id, one.address,
      one.replaces > 0 and ('; takes the place of %.0f'):format(one.replaces) or '')
  end
  lines[#lines + 1] = ('configuration %.0f%s, policy %s'):format(all.configuration, all.joint and ' (a change goes on)' or '', all.policy)
  if all.decision then
    lines[#lines + 1] = ('decided at entry %.0f by %s: %s (%s)'):format(all.decision.index, all.decision.by,
      changes_text(all.decision.changes), all.decision.why)
  end
  if all.waiting then lines[#lines + 1] = ('the policy waits: %s'):format(tostring(all.waiting.why or all.waiting[2] or '')) end
  if all.alarm then lines[#lines + 1] = 'ALARM: the policy is not asked any more: ' .. tostring(all.alarm) end
  return lines
end

function members.line_of(line)
  local done = line.done == true and 'done' or type(line.done) == 'string' and 'not done: ' .. line.done or 'under way'
  return ('entry %.0f  %s%s: %s -- %s [%s%s]'):format(line.index, line.by, line.force and ' (forced)' or '', changes_text(line.changes),
    line.why, done, line.done == true and line.configuration > 0 and (', configuration %.0f'):format(line.configuration) or '')
end

-- --- asking ---

local function print_list(options, c, cli)
  local value, err, index = c:raw('tidelock.members', wire.pack({}), {}, true)
  if not value then
    call.print_error(options, err, cli)
    return call.exit_code(err, true)
  end
  if options.json then call.print_answer(options, value, index) return 0 end
  local all, status = select(2, wire.unpack(value)), c:status()
  for _, m in ipairs(all.members) do m.is_leader = status and status.leader == m.id or false end
  for _, line in ipairs(members.table_of(all)) do io.stdout:write(line, '\n') end
  return 0
end

local function print_history(options, c, cli)
  local value, err, index = c:raw('tidelock.members_history', wire.pack({}), {}, true)
  if not value then
    call.print_error(options, err, cli)
    return call.exit_code(err, true)
  end
  if options.json then call.print_answer(options, value, index) return 0 end
  for _, line in ipairs(select(2, wire.unpack(value))) do io.stdout:write(members.line_of(line), '\n') end
  return 0
end

local advice = {
  CONFIG_PENDING = 'see what is under way: tidelock members; --force puts this in its place, if it only waits',
  STALE_CONFIG = 'see who is a member now: tidelock members',
  DENIED = 'the policy said no; --force passes it over, and is recorded',
  NOT_FOUND = 'see who is a member: tidelock members',
}

local function refused(options, err, cli)
  call.print_error(options, err, cli)
  if not options.json and advice[err.code] then cli.say('tidelock: ', advice[err.code]) end
  return call.exit_code(err, false)
end

local function find_line(c, index)
  for _, line in ipairs(c:query('tidelock.members_history') or {}) do
    if line.index == index then return line end
  end
end

-- What the learners of a change lack, while it goes on.
local function progress(c)
  local all = c:query('tidelock.members', {})
  local words = {}
  for _, m in ipairs(all and all.members or {}) do
    if m.role == 'learner' and not m.caught_up then words[#words + 1] = ('node %.0f lacks %.0f entries'):format(m.id, m.lag) end
  end
  return table.concat(words, ', ')
end

-- Until the history says what became of the decision. -> its line; nil: not in time
local function await(c, index, cli)
  local deadline, told = c.now() + c.timeout, c.now()
  local terminal = sys.isatty(2)
  local shown = false
  repeat
    local line = find_line(c, index)
    if line and line.done ~= nil then
      if shown then io.stderr:write('\r\27[K') end
      return line
    end
    if terminal and c.now() - told > 1000 then
      io.stderr:write('\r', 'waits for ', progress(c), ' \27[K')
      shown, told = true, c.now()
    elseif not terminal and c.now() - told > TELL_MS then
      cli.say('tidelock: not done yet; ', progress(c))
      told = c.now()
    end
    c.sleep(LOOK_MS)
  until c.now() >= deadline
  if shown then io.stderr:write('\r\27[K') end
end

local function join_line(id, address, options)
  return ('tidelock start --id %.0f --data DIR --listen %s --join %s'):format(id, address, call.addresses(options))
end

-- A client of all members, too: whoever is asked now may be removed.
local function widen(c, options)
  local all = c:query('tidelock.members')
  local list = { call.addresses(options) }
  for _, m in ipairs(all and all.members or {}) do
    if not (',' .. list[1] .. ','):find(',' .. m.address .. ',', 1, true) then list[#list + 1] = m.address end
  end
  local wide = client.new(table.concat(list, ','), { timeout = c.timeout })
  if not wide then return c end
  c:close()
  return wide
end

-- What came of a request that was taken.
local function follow(options, c, changes, answer, index, cli)
  if options.json and (options['no-wait'] or not answer.decision) then
    call.print_answer(options, wire.pack(answer), index)
    return 0
  end
  if answer.invited then
    local address = changes[1].address
    cli.say(('node %.0f may join. Start it where %s leads to it:'):format(answer.invited, address))
    io.stdout:write(join_line(answer.invited, address, options), '\n')
  elseif answer.withdrawn then cli.say(('node %.0f is not invited any more'):format(answer.withdrawn))
  elseif answer.member then cli.say(('node %.0f is a member already'):format(answer.member))
  elseif options['no-wait'] then cli.say(('decided at entry %.0f'):format(answer.decision))
  else
    local line = await(c, answer.decision, cli)
    if not line then
      cli.say(('tidelock: decided at entry %.0f, and not done yet: see tidelock members'):format(answer.decision))
      return 4
    end
    if line.done ~= true then
      if options.json then
        io.stdout:write('{"error":', wire.pack_json(wire.pack { code = 'CONFLICT', message = line.done, definite = true }), '}\n')
      else cli.say('CONFLICT: ', tostring(line.done)) end
      return 6
    end
    if options.json then call.print_answer(options, wire.pack { decision = line.index, configuration = line.configuration }, index)
    else cli.say(('done: %s (configuration %.0f)'):format(changes_text(line.changes), line.configuration)) end
  end
  return 0
end

function members.run(options, words, cli)
  local c, why = client.new(call.addresses(options), { timeout = cli.number(options, 'timeout', 1, 600000) or 30000 })
  if not c then cli.stop(2, '--to: ', why) end
  local changing = words[1] and words[1] ~= 'history'
  if not changing and (options.force or options.why or options.expect or options['no-wait']) then
    cli.stop(2, 'what is to be changed? see tidelock help members')
  end
  if words[1] == 'history' and words[2] then cli.stop(2, 'members history takes no more words') end
  local status
  if words[1] == 'history' then status = print_history(options, c, cli)
  elseif not changing then status = print_list(options, c, cli)
  else
    local changes = members.read(words, cli)
    c = widen(c, options)
    local how = { force = options.force or false, expected = cli.number(options, 'expect', 1, 2^53) or 0, why = options.why }
    local answer, err, index = c:call('tidelock.members_change', changes, how)
    status = answer and follow(options, c, changes, answer, index, cli) or not answer and refused(options, err, cli) or 0
  end
  c:close()
  return status
end

return members
