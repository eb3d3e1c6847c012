-- cli/dev.lua: a cluster on this machine, in a temporary directory, until Ctrl-C.
local sys = require 'tidelock.sys'

return {
  summary = 'a cluster on this machine, to try a service',
  usage = 'tidelock dev [NAME=]FILE... [--nodes 3]\n\n  tidelock dev examples/kv.lua\n\nCtrl-C ends it and cleans up.',
  options = { nodes = 'value' },
  run = function(options, files, cli)
    if #files == 0 then cli.stop(2, 'dev which file? like: tidelock dev examples/kv.lua') end
    local nodes = cli.number(options, 'nodes', 1, 9) or 3
    local bundles = require('cli.start').bundle(files, cli, 1)
    local machines = {}
    for i, word in ipairs(files) do machines[i] = word end
    sys.on_interrupt()
    local c = require 'tidelock.cluster' { nodes = nodes, machines = machines, direct = true }
    local function finish(code)
      c:close()
      return code
    end
    local ok, why = pcall(function() c:wait_leader { within = 20000 } end)
    if not ok or sys.interrupted() then
      finish()
      cli.stop(sys.interrupted() and 130 or 1, tostring(why))
    end
    io.stdout:write(nodes, ' nodes run in ', c.dir, ' with ', #bundles, ' service', #bundles > 1 and 's' or '',
      '. Ctrl-C ends them. In another terminal:\n\n  export TIDELOCK_TO=', c.to, '\n')
    io.stdout:write('  ', sys.exe(), ' status\n')
    c:wait_equal()
    local mounts = c:leader():status().service.mounts
    for name in pairs(mounts) do
      local example = name == 'kv' and 'kv.set colour teal' or name .. '.COMMAND ARG...'
      io.stdout:write('  ', sys.exe(), ' call ', example, '\n')
    end
    io.stdout:flush()
    while not sys.interrupted() do
      sys.sleep(0.2)
      for _, n in ipairs(c:nodes()) do
        if n.pid and not n:alive() then cli.say('node ', tostring(n.id), ' ended with ', tostring(n.exit), '; see ', n.log) end
      end
    end
    io.stdout:write('\nending\n')
    return finish(130)
  end,
}
