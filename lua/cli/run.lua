-- cli/run.lua: plain LuaJIT with tidelock.* at hand.
local sys = require 'tidelock.sys'

return {
  summary = 'run a Lua script with tidelock.* at hand',
  usage = 'tidelock run FILE ARG...\ntidelock run -e CODE\n\n  tidelock run examples/demos/failover.lua',
  raw = true,
  run = function(words, cli)
    local chunk, why
    if words[1] == '-e' then
      if not words[2] then cli.stop(2, '-e wants code') end
      chunk, why = loadstring(words[2], '=-e')
      table.remove(words, 1)
    elseif words[1] == '--help' or words[1] == '-h' then
      io.stdout:write(require('cli.help').of(require('cli.run')))
      return 0
    elseif not words[1] or words[1]:sub(1, 1) == '-' then cli.stop(2, 'run which file?')
    else chunk, why = loadfile(words[1]) end
    if not chunk then cli.stop(1, why) end
    local file = table.remove(words, 1)
    words[0] = file
    rawset(_G, 'arg', words)
    -- A script must not leave its nodes behind, whatever ends it.
    local exit = os.exit
    local function close_clusters()
      local cluster = package.loaded['tidelock.cluster']
      if cluster then cluster.close_all() end
    end
    rawset(os, 'exit', function(...)
      close_clusters()
      io.stdout:flush()
      exit(...)
    end)
    sys.stop_on_signal()
    local ok, result = xpcall(function() return chunk(unpack(words)) end, function(e)
      if type(e) == 'table' then return e end
      -- The script's own part of the trace: what is below it is ours.
      return (debug.traceback(tostring(e), 2):gsub("\n%s*%[C%]: in function 'xpcall'.*", ''))
    end)
    close_clusters()
    if sys.interrupted() then cli.stop(130, 'interrupted') end
    if not ok then cli.stop(1, type(result) == 'table' and (result.message or result.code or 'failed') or result) end
    return type(result) == 'number' and result or 0
  end,
}
