-- cli/version.lua
return {
  summary = 'what this is', usage = 'tidelock version', options = {},
  run = function() io.stdout:write('tidelock ', require('tidelock.node').version, ' (', jit.version, ')\n') end,
}
