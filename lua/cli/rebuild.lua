-- cli/rebuild.lua: a node throws its state away, and takes the leader's.
local call, snapshot, status = require 'cli.call', require 'cli.snapshot', require 'cli.status'

local rebuild = {
  summary = "have a parked node take the leader's state in place of its own",
  usage = [[
tidelock rebuild ID [--to H:P,...]

Node ID parks, if it is not parked, and throws its state away; the leader's snapshot takes its place, taken now if none will do, and
the node applies its own log from there. Its log, its vote and its snapshots stay. Prints {"index":n}: where it goes on.

  --to H:P,...     any node (or TIDELOCK_TO)
  --timeout MS     wait no longer than this (600000); it goes on without you
  --json           {"ok":value,"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', json = 'flag' },
}

function rebuild.run(options, rest, cli)
  local id = tonumber(rest[1])
  if not id or rest[2] then cli.stop(2, 'rebuild which node? like: tidelock rebuild 2') end
  local timeout = cli.number(options, 'timeout', 1, 600000) or 600000
  local list = status.gather(call.addresses(options), 1000)
  if not list then cli.stop(3, 'no node answers at ', call.addresses(options)) end
  local address
  for _, node in ipairs(list) do
    if node.id == id then address = node.address end
  end
  if not address then cli.stop(5, 'there is no node ', rest[1], '; see tidelock status') end
  local c, other = snapshot.connect(address, cli)
  local value, index = snapshot.take(c, other, timeout, cli, 'tidelock.rebuild')
  c:close()
  other:close()
  if value then
    call.print_answer(options, value, index)
    return 0
  end
  call.print_error(options, index, cli)
  return call.exit_code(index, false)
end

return rebuild
