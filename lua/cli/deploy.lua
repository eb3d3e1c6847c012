-- cli/deploy.lua: puts new code in force, at one index of the log.
local call, client, deploy, sys, wire = require 'cli.call', require 'tidelock.client', require 'tidelock.deploy',
  require 'tidelock.sys', require 'tidelock.wire'

local command = {
  summary = 'put new code in force in a cluster that runs',
  usage = [[
tidelock deploy [MOUNT=]FILE

  tidelock deploy kv=examples/kv_v2.lua
  tidelock deploy kv=examples/kv_v2.lua --dry-run    say what would change, and change nothing
  tidelock deploy --format jsonl.lua                 snapshots are written in this format from then on
  tidelock deploy --format default                   and in rows again
  tidelock deploy --policy autopilot.lua             who shall be a member is decided by this policy from then on
  tidelock deploy --policy manual                    and by operators alone again

The file and all it requires is checked, compared with what is in force, and becomes a log entry: commands before it ran the
old code, commands behind it run the new one, on every node. The version of the module must grow. Its migrate runs at that
entry; if it fails, everything stays as it was. Somebody else's deploy in between is a conflict. A policy keeps the memory that it
still declares.

  --dry-run          say what would change; exit 1 if the file would be refused, 6 for its version. What depends on rows and timers (a
                     timer's function that is gone, migrate itself) the deploy finds
  --budget N         instructions for each step of migrate (the limit migrate_budget)
  --yes              do not ask; only a terminal is asked
  --to H:P,...       nodes to ask (or TIDELOCK_TO; default 127.0.0.1:7301..7303)
  --timeout MS       give up after this long (60000)
  --json             print {"ok":value,"index":n} or {"error":{...}}]],
  options = { ['dry-run'] = 'flag', budget = 'value', yes = 'flag', to = 'value', timeout = 'value', json = 'flag', format = 'value',
    policy = 'value' },
}

-- Asks on a terminal. False: no.
function command.agreed(options, cli, question)
  if options.yes or not (sys.isatty(0) and sys.isatty(2)) then return true end
  io.stderr:write(question, ' [y/N] ')
  local answer = io.stdin:read('*l')
  if answer and answer:match('^[yY]') then return true end
  cli.say('nothing was changed')
  return false
end

function command.client(options, cli)
  local c, why = client.new(call.addresses(options), { timeout = cli.number(options, 'timeout', 1, 600000) or 60000 })
  if not c then cli.stop(2, '--to: ', why) end
  return c
end

-- Ends with what a request said.
function command.refused(options, err, cli, is_query)
  call.print_error(options, err, cli)
  return call.exit_code(err, is_query)
end

function command.done(options, value, index, text, cli)
  if options.json then
    io.stdout:write(('{"ok":%s,"index":%.0f}\n'):format(wire.pack_json(wire.pack(value)), index or 0))
  else
    cli.say(text)
  end
  return 0
end

local function at(index) return index and index > 0 and (' from entry %.0f on'):format(index) or '' end

local function describe(what, before)
  if before.hash == '' then return 'nothing' end
  return what.shape and ('%s %d'):format(what.shape.name, what.shape.version) or before.hash:sub(1, 8)
end

-- What would change, to people; on standard output if that is all that was asked for.
local function tell(options, before, built, what)
  if options.json then return end
  local out = options['dry-run'] and io.stdout or io.stderr
  out:write(('%s: %s -> %s\n'):format(what, describe(before, before), describe(built, built)))
  for _, line in ipairs(deploy.diff(before, built)) do out:write('  ', line, '\n') end
end

-- Takes out what is at a place, for what holds without. words: as it is already, as it would be, as it is now
local function take_out(options, c, place, words, cli)
  local before, err = deploy.look(c, place)
  if not before then return command.refused(options, err, cli, true) end
  if options['dry-run'] or before.hash == '' then
    return command.done(options, true, 0, before.hash == '' and words[1] or words[2], cli)
  end
  local ok, why, index = deploy.remove(c, place, before.hash)
  if not ok then return command.refused(options, why, cli) end
  return command.done(options, true, index, words[3] .. at(index), cli)
end

-- The deploy is an entry, and its migrate wants more of them. -> exit code
local function see_through(options, c, built, index, cli)
  local ok, err = deploy.wait(c, built, index, function(steps)
    cli.say(('%s is being migrated: %.0f steps so far'):format(built.mount, steps))
  end)
  if ok then return 0 end
  call.print_error(options, err, cli)
  cli.say(built.mount, ' is as it was before')
  return call.exit_code(err, false)
end

function command.run(options, words, cli)
  local kind = options.format and 'format' or options.policy and 'policy' or 'machine'
  if #words ~= (kind == 'machine' and 1 or 0) or options.format and options.policy then
    cli.stop(2, 'deploy one file, like: tidelock deploy kv=kv_v2.lua')
  end
  local budget = cli.number(options, 'budget', 1, 100000000000)
  local c = command.client(options, cli)
  if options.format == 'default' then
    return take_out(options, c, '', { 'snapshots are rows already', 'snapshots would be rows', 'snapshots are rows' }, cli)
  elseif options.policy == 'manual' then
    return take_out(options, c, '(policy)', { 'the policy is manual already', 'the policy would be manual', 'the policy is manual' }, cli)
  end
  local built, why = deploy.build(options.format or options.policy or words[1], kind)
  if not built then cli.stop(1, why) end
  local what = kind == 'format' and 'the snapshot format' or kind == 'policy' and 'the policy' or built.mount
  local before, err = deploy.look(c, deploy.place(built))
  if not before then return command.refused(options, err, cli, true) end
  if before.hash == built.hash and kind ~= 'policy' then -- a policy that failed is put in force again by the same code, too
    return command.done(options, { hash = built.hash, unchanged = true }, 0, what .. ': this very code is in force', cli)
  end
  tell(options, before, built, what)
  local stale = built.shape and before.shape and built.shape.version <= before.shape.version
  if options['dry-run'] and stale then
    return command.refused(options, { code = 'CONFLICT', definite = true, message = ('%s is version %.0f, and its version must grow'):format(
      what, before.shape.version) }, cli)
  end
  if options['dry-run'] then return options.json and command.done(options, { diff = deploy.diff(before, built) }, 0, '', cli) or 0 end
  if not command.agreed(options, cli, 'deploy it?') then return 1 end
  local answer, refused, index = deploy.send(c, built, before.hash, { budget = budget })
  if not answer then return command.refused(options, refused, cli) end
  if answer.unchanged then return command.done(options, answer, 0, what .. ': this very code is in force', cli) end
  local code = answer.migrating and see_through(options, c, built, index, cli) or 0
  if code ~= 0 then return code end
  return command.done(options, answer, index, ('%s is version %.0f%s'):format(what, answer.version, at(index)), cli)
end

return command
