-- cli/history.lua: judges histories of clients.
local history, wire = require 'tidelock.history', require 'tidelock.wire'

local SECONDS, SECONDS_MAX = 60, 86400
local EXIT = { ['linearizable'] = 0, ['NOT linearizable'] = 1, ['unknown'] = 2 }

local function print_json(file, r, why, line)
  local out = { file = file, verdict = r and r.verdict or 'bad input', error = why, line = line }
  for _, name in ipairs { 'operations', 'keys', 'undecided', 'key', 'prefix', 'line', 'opid', 'shortest', 'failed' } do
    if r then out[name] = r[name] end
  end
  if r and r.events then
    out.lines, out.states, out.states_more = {}, {}, r.states_more
    for i, event in ipairs(r.events) do out.lines[i] = event.line end
    for i, s in ipairs(r.states) do out.states[i] = s.present and '=' .. s.text or 'nil' end
  end
  io.stdout:write(wire.pack_json(wire.pack(out)), '\n')
end

return {
  summary = 'judge histories of clients: linearizable?',
  usage = [[
tidelock history check FILE...

Prints one verdict a file: linearizable; NOT linearizable, and the shortest prefix of its events that shows it; or unknown. FILE
is in lin1 (README, "Histories"), - is standard input.

  --timeout SECONDS  give up on a file after this long, and say unknown (60)
  --json             one object a file: {"file":...,"verdict":...}

exit codes: 0 all are linearizable, 1 one is not, 2 one is unknown, 3 one makes no sense or cannot be read (the highest of 3, 1, 2, 0)]],
  options = { timeout = 'value', json = 'flag' },
  run = function(options, words, cli)
    if words[1] ~= 'check' then cli.stop(2, 'history check FILE...') end
    if not words[2] then cli.stop(2, 'check which file? like: tidelock history check history.txt') end
    local seconds = tonumber(options.timeout or SECONDS)
    if not seconds or not (seconds > 0 and seconds <= SECONDS_MAX) then
      cli.stop(2, '--timeout ', options.timeout, ': wants seconds, more than 0 and at most ', SECONDS_MAX)
    end
    local seen = {}
    for i = 2, #words do
      local file = words[i]
      local r, why, line = history.check_file(file, seconds)
      seen[r and EXIT[r.verdict] or 3] = true
      if options.json then print_json(file, r, why, line)
      elseif r then io.stdout:write(history.explain(file, r))
      else cli.say('tidelock: ', file, line and (':%d'):format(line) or '', ': ', why) end
      io.stdout:flush()
    end
    return seen[3] and 3 or seen[1] and 1 or seen[2] and 2 or 0
  end,
}
