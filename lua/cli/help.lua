-- cli/help.lua: help for all, and of one command.
local help = { summary = 'this, or help of one command', usage = 'tidelock help [COMMAND]', raw = true }

function help.text()
  local lines = { [[
tidelock: a Raft node whose service is written in Lua

  tidelock dev examples/kv.lua            three nodes on this machine, ready to call
  tidelock call kv.set colour teal        change something
  tidelock query kv.get colour            read it, from any node
  tidelock status                         who leads, and is everyone equal?

commands
]] }
  for _, name in ipairs(require('cli.cli').commands) do
    local command = require('cli.' .. name)
    lines[#lines + 1] = ('  %-9s %s\n'):format(name, command.summary)
  end
  lines[#lines + 1] = '\ntidelock COMMAND --help says more. Data goes to stdout, talk to stderr.\n'
    .. 'exit codes: 0 done, 1 the service said no, 2 usage, 3 no leader (not done), 4 outcome unknown, 5 not found,\n'
    .. '            6 conflict or exists, 7 refused, 70 bug, 78 configuration, 130 interrupted\n'
  return table.concat(lines)
end

function help.of(command)
  return command.summary .. '\n\n' .. command.usage .. '\n'
end

function help.run(words, cli)
  if words[1] == nil then
    io.stdout:write(help.text())
    return 0
  end
  if words[1] == '--help' or words[1] == '-h' then words[1] = 'help' end
  for _, name in ipairs(cli.commands) do
    if name == words[1] then
      io.stdout:write(help.of(require('cli.' .. name)))
      return 0
    end
  end
  cli.unknown(words[1])
end

return help
