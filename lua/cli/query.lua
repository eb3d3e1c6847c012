-- cli/query.lua: call.lua, but commands are refused.
local call = require 'cli.call'

return {
  summary = 'read from the service; refuses commands',
  usage = (call.usage:gsub('tidelock call MOUNT.*$', '')) .. [[
tidelock query MOUNT.NAME ARG...

  tidelock query kv.get colour
  tidelock query kv.get colour --read stale          whatever this node has applied

options as of tidelock call]],
  raw = true,
  run = function(words, cli) return call.go(words, cli, true) end,
}
