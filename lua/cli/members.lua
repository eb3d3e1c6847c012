-- cli/members.lua: who the members are, and changing that: words become one request, and what was decided is waited for.
local wire, client, sys = require 'tidelock.wire', require 'tidelock.client', require 'tidelock.sys'
local call, status, text = require 'cli.call', require 'cli.status', require 'cli.members_text'

local members = {
  summary = 'who is a member; let nodes join, vote, leave',
  usage = [[
tidelock members [CHANGE...] [--force]
tidelock members history

  tidelock members                              who is there, votes, does not answer, lags
  tidelock members add 4=127.0.0.1:7304         node 4 may join: prints the line that starts it
  tidelock members promote 4                    it votes; a learner that has not caught up is refused
  tidelock members demote 2                     it stays, and votes no more
  tidelock members remove 2                     it is no member any more; its node is told, and ends
  tidelock members replace 3 5=127.0.0.1:7305   node 5 joins in its place, and takes it when it has caught up
  tidelock members address 2=127.0.0.1:7312     where the others find it from now on
  tidelock members promote 4 demote 2           several at once are one change
  tidelock members history                      what was decided, by whom, and why

What was decided is waited for, for as long as --timeout says. Where a policy is in force (deploy --policy), it is asked
first, and may refuse; --force passes it over, and also lets a node vote that has not caught up. Both are in the history.

  --why TEXT      for the history
  --expect ID     only if this configuration is in force (members --json shows it)
  --no-wait       do not wait until it is done
  --force         without the policy's consent, and whatever was observed
  --read LEVEL    of a list or the history: linearizable (default), lease, or stale, which needs no leader
  --to H:P,...    nodes to ask (or TIDELOCK_TO)
  --timeout MS    give up after this long (30000)
  --json          {"ok":value,"index":n} or {"error":{...}}; of a list: what is in the log]],
  options = { to = 'value', timeout = 'value', json = 'flag', force = 'flag', why = 'value', expect = 'value', read = 'value',
    ['no-wait'] = 'flag' },
}

local LOOK_MS, TELL_MS, ASK_MS = 100, 5000, 1000
local reads = { linearizable = true, lease = true, stale = true }

-- --- asking ---

-- A client each of whose requests ends with the command's own time.
local function within(c, deadline)
  c.timeout = math.max(1, math.floor(deadline - c.now()))
  return c
end

local function refused(options, err, cli, is_query)
  call.print_error(options, err, cli)
  local advice = not is_query and not options.json and text.advice(err)
  if advice then cli.say('tidelock: ', advice) end
  return call.exit_code(err, is_query)
end

-- What each member says of itself, by its address.
local function ask_all(options, timeout)
  local own = {}
  for _, said in ipairs(status.gather(call.addresses(options), math.min(timeout, ASK_MS)) or {}) do own[said.address] = said end
  return own
end

local function print_read(name, options, c, cli)
  local value, err, index = c:raw(name, wire.pack({}), { query = true, read = options.read or 'linearizable' }, true)
  if not value then return refused(options, err, cli, true) end
  if options.json then call.print_answer(options, value, index) return 0 end
  local all, lines = select(2, wire.unpack(value)), {}
  if name == 'tidelock.members' then lines = text.table_of(all, ask_all(options, c.timeout))
  else for i, line in ipairs(all) do lines[i] = text.line_of(line) end end
  for _, line in ipairs(lines) do io.stdout:write(line, '\n') end
  if #lines == 0 then cli.say('nothing was decided yet') end
  return 0
end

-- One node's word will do where no majority confirms a read: what it has applied is committed, "done" is never said too early.
local function look(c, name, deadline)
  local value = within(c, math.min(deadline, c.now() + ASK_MS)):query(name)
  if value then return value end
  c.read = 'stale'
  local err
  value, err = within(c, math.min(deadline, c.now() + ASK_MS)):query(name)
  c.read = nil
  return value, err
end

local function find_line(c, index, deadline)
  for _, line in ipairs(look(c, 'tidelock.members_history', deadline) or {}) do
    if line.index == index then return line end
  end
end

-- Until the history says what became of the decision. -> its line; nil: not in time
local function await(c, index, deadline, cli)
  local told, terminal, shown, found = c.now(), sys.isatty(2), false, nil
  repeat
    local line = find_line(c, index, deadline)
    if line and line.done ~= nil then found = line break end
    if terminal and c.now() - told > 1000 then
      io.stderr:write('\r', 'decided; ', text.progress((look(c, 'tidelock.members', deadline))), ' \27[K')
      shown, told = true, c.now()
    elseif not terminal and c.now() - told > TELL_MS then
      cli.say('tidelock: decided, not done yet; ', text.progress((look(c, 'tidelock.members', deadline))))
      told = c.now()
    end
    c.sleep(LOOK_MS)
  until c.now() >= deadline
  if shown then io.stderr:write('\r\27[K') end
  return found
end

-- A client of all members, too: whoever is asked now may be removed. -> client, the members; nil, error: then nothing was sent
local function widen(c, options, deadline)
  local all, err
  repeat all, err = look(c, 'tidelock.members', deadline) until all or not client.may_pass(err) or c.now() >= deadline
  if not all then return nil, err end
  local given = call.addresses(options)
  local list = { given }
  for _, m in ipairs(all.members) do
    if not (',' .. given .. ','):find(',' .. m.address .. ',', 1, true) then list[#list + 1] = m.address end
  end
  local wide = client.new(table.concat(list, ','), { timeout = c.timeout })
  if not wide then return c, all end
  c:close()
  return wide, all
end

-- --- changing ---

-- What was decided is done, or was not, or takes longer than the command may.
local function see_through(options, c, index, deadline, cli)
  local line = await(c, index, deadline, cli)
  if not line then
    return refused(options, { code = 'TIMEOUT', definite = false,
      message = ('decided at entry %.0f, and not done in time'):format(index) }, cli)
  end
  if line.done ~= true then return refused(options, { code = 'CONFLICT', message = tostring(line.done), definite = true }, cli) end
  if options.json then call.print_answer(options, wire.pack { decision = line.index, configuration = line.configuration }, index)
  else cli.say(('done: %s (configuration %.0f)'):format(text.changes(line.changes), line.configuration)) end
  return 0
end

local function change(options, words, c, deadline, cli)
  local changes, why = text.read(words)
  if not changes then cli.stop(2, why) end
  local expected = cli.number(options, 'expect', 1, 2^53) or 0
  local wide, all = widen(c, options, deadline)
  if not wide then return refused(options, all, cli, true) end
  local answer, err, index = within(wide, deadline):call('tidelock.members_change', changes,
    { force = options.force or false, expected = expected, why = options.why })
  local code = 0
  if not answer then code = refused(options, err, cli)
  elseif answer.decision and not options['no-wait'] then code = see_through(options, wide, answer.decision, deadline, cli)
  elseif options.json then call.print_answer(options, wire.pack(answer), index)
  elseif answer.invited then
    local line, address = text.join_line(changes, answer.invited, all, call.addresses(options))
    cli.say(('node %.0f may join. Start it where %s leads to it:'):format(answer.invited, address))
    io.stdout:write(line, '\n')
  elseif answer.withdrawn then cli.say(('node %.0f is not invited any more'):format(answer.withdrawn))
  elseif answer.member then cli.say(('node %.0f is a member already'):format(answer.member))
  else cli.say(('decided at entry %.0f'):format(answer.decision)) end
  wide:close()
  return code
end

function members.run(options, words, cli)
  local lists = words[1] == nil or words[1] == 'history'
  if lists and (options.force or options.why or options.expect or options['no-wait']) then
    cli.stop(2, 'what is to be changed? see tidelock help members')
  end
  if words[1] == 'history' and words[2] then cli.stop(2, 'members history takes no more words') end
  if options.read and not lists then cli.stop(2, '--read is for a list or the history: a change goes through the leader') end
  if options.read and not reads[options.read] then cli.stop(2, '--read ', options.read, ': there are linearizable, lease and stale') end
  local timeout = cli.number(options, 'timeout', 1, 600000) or 30000
  local c, why = client.new(call.addresses(options), { timeout = timeout })
  if not c then cli.stop(2, '--to: ', why) end
  if not lists then return change(options, words, c, c.now() + timeout, cli) end
  local code = print_read(words[1] and 'tidelock.members_history' or 'tidelock.members', options, c, cli)
  c:close()
  return code
end

return members
