-- cli/version.lua
return {
  summary = 'what this is', usage = 'tidelock version [--json]', options = { json = 'flag' },
  run = function(options, rest, cli)
    if rest[1] then cli.stop(2, 'version takes no words') end
    local version = require('tidelock.node').version
    io.stdout:write(options.json and ('{"luajit":"%s","version":"%s"}\n'):format(jit.version, version)
      or ('tidelock %s (%s)\n'):format(version, jit.version))
  end,
}
