-- cli/transfer.lua: leadership to another node.
local call = require 'cli.call'

local transfer = {
  summary = 'have another node lead',
  usage = [[
tidelock transfer [ID]

  tidelock transfer 3      node 3 leads from now on
  tidelock transfer        whoever lacks least of the log, and answers

The leader lets the other catch up, tells it to campaign, and meanwhile takes no commands: they wait, and go on at the new leader. If it
does not take over within an election time-out (a CONFLICT), the old one leads on. A leader that is told to end (SIGTERM) does the same.

  --to H:P,...    nodes to ask (or TIDELOCK_TO)
  --timeout MS    give up after this long (5000)
  --json          {"ok":value,"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', json = 'flag' },
}

function transfer.run(options, rest, cli)
  local id = rest[1] and tonumber(rest[1])
  if #rest > 1 or rest[1] and (not id or id % 1 ~= 0 or id < 1 or id >= 2^53) then
    cli.stop(2, 'transfer takes the id of a node, or nothing: see tidelock status')
  end
  return call.host('tidelock.transfer', { id }, options, cli)
end

return transfer
