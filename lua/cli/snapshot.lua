-- cli/snapshot.lua: a snapshot now.
local sys, wire, client = require 'tidelock.sys', require 'tidelock.wire', require 'tidelock.client'
local call = require 'cli.call'

local snapshot = {
  summary = 'have a node take a snapshot now',
  usage = [[
tidelock snapshot [--to H:P]

Waits until it counts: written, read back, and a majority has the same state there. Prints {"bytes":n,"index":n,"term":n}.

  --to H:P         the node (or the first of TIDELOCK_TO that answers)
  --timeout MS     wait no longer than this (600000); it goes on without you
  --json           {"ok":value,"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', json = 'flag' },
}

-- On a terminal a line that changes, else a line each 5 seconds: what takes no time says nothing.
local function teller(cli)
  local tty, began, said = sys.isatty(2), sys.now(), sys.now()
  return function(node)
    local s = node and node.snapshot
    if not s or s.doing == '' or sys.now() - began < 1 then return end
    if tty then io.stderr:write(('\r%s %d%% \27[K'):format(s.doing, s.percent))
    elseif sys.now() - said >= 5 then
      said = sys.now()
      cli.say(s.doing, ' ', tostring(s.percent), '%')
    end
  end, function() if tty and sys.now() - began >= 1 then io.stderr:write('\r\27[K') end end
end

-- The first node that can be connected to. -> a client of it, and another to ask how far it is
local function connect(addresses, cli)
  local why
  for address in addresses:gmatch('[^,]+') do
    local c, bad = client.new(address)
    if not c then cli.stop(2, '--to: ', bad) end
    local ok, problem = c:connect(1)
    if ok then return c, client.new(address, { timeout = 1000 }) end
    why = problem
  end
  cli.stop(3, why or 'no address')
end

function snapshot.run(options, rest, cli)
  if rest[1] then cli.stop(2, 'snapshot takes no words, only options') end
  local timeout = cli.number(options, 'timeout', 1, 600000) or 600000
  local c, other = connect(call.addresses(options), cli)
  local tell, clear = teller(cli)
  local deadline = sys.now() + timeout / 1000 + 1
  c.socket:send(wire.request(1, 'tidelock.snapshot', wire.pack({}), wire.pack { timeout_ms = timeout }))
  local got, err, value, index
  repeat
    got, err, value, index = c:receive(1, c.now() + 300)
    if not got and err == 'timeout' then tell(other:status()) end
  until got or err ~= 'timeout' or sys.now() > deadline
  clear()
  c:close()
  other:close()
  if got and not err then
    call.print_answer(options, value, index)
    return 0
  end
  local failure = { code = 'LOST', message = 'no answer: ' .. tostring(err), definite = false }
  if got then failure = select(2, wire.unpack(err)) end
  call.print_error(options, failure, cli)
  return call.exit_code(failure, false)
end

return snapshot
