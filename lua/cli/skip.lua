-- cli/skip.lua: the operator's way past an entry that parks nodes.
local call = require 'cli.call'

local skip = {
  summary = 'go on past an entry that parks nodes',
  usage = [[
tidelock skip INDEX

  tidelock status        1  127.0.0.1:7301  leader ... PARKED at entry 84123: not enough memory
  tidelock skip 84123

An entry that takes more memory than a node gives Lua cannot be applied, and parks it: it stores and votes, and does not answer. When
the leader is parked at it too, it can be skipped, by an entry of the log: then every node refuses it (SKIPPED), and goes on. Who sent
it was told that the outcome is unknown; now it certainly had no effect. A node that has applied it nevertheless parks then, and is
to be rebuilt.

  --to H:P,...    nodes to ask (or TIDELOCK_TO)
  --timeout MS    give up after this long (5000)
  --json          {"ok":value,"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', json = 'flag' },
}

function skip.run(options, rest, cli)
  local index = rest[1] and tonumber(rest[1])
  if #rest ~= 1 or not index or index % 1 ~= 0 or index < 1 or index >= 2^53 then
    cli.stop(2, 'skip takes the index of the entry at which nodes are parked: see tidelock status')
  end
  return call.host('tidelock.skip', { index }, options, cli)
end

return skip
