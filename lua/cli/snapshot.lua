-- cli/snapshot.lua: a snapshot now, and a look into a snapshot's file.
local sys, wire, client, files = require 'tidelock.sys', require 'tidelock.wire', require 'tidelock.client', require 'tidelock.files'
local call = require 'cli.call'

local snapshot = {
  summary = "have a node take a snapshot now, or look into a snapshot's file",
  usage = [[
tidelock snapshot [--to H:P]

Waits until it counts: written, read back, and a majority has the same state there. Prints {"bytes":n,"index":n,"term":n}.

  --to H:P         the node (or the first of TIDELOCK_TO that answers)
  --timeout MS     wait no longer than this (600000); it goes on without you
  --json           {"ok":value,"index":n} or {"error":{...}}

tidelock snapshot inspect FILE

Reads the file to its end: what it holds, and whether it is whole. Exit 1 with file and offset if it is damaged.

  --json           all of it as JSON
  --raw            the bytes that its format wrote, as they are, to standard output]],
  options = { to = 'value', timeout = 'value', json = 'flag', raw = 'flag' },
}

-- On a terminal a line that changes, else a line each 5 seconds: what takes no time says nothing.
-- -> tell(what, percent), clear()
function snapshot.teller(cli)
  local tty, began, said = sys.isatty(2), sys.now(), sys.now()
  return function(what, percent)
    if what == '' or sys.now() - began < 1 then return end
    if tty and sys.now() - said >= 0.2 then
      said = sys.now()
      io.stderr:write(('\r%s %d%% \27[K'):format(what, percent))
    elseif not tty and sys.now() - said >= 5 then
      said = sys.now()
      cli.say(what, ' ', tostring(percent), '%')
    end
  end, function() if tty and sys.now() - began >= 1 then io.stderr:write('\r\27[K') end end
end

-- The first node that can be connected to. -> a client of it, and another to ask how far it is, its address
function snapshot.connect(addresses, cli)
  local why
  for address in addresses:gmatch('[^,]+') do
    local c, bad = client.new(address)
    if not c then cli.stop(2, '--to: ', bad) end
    local ok, problem = c:connect(1)
    if ok then return c, client.new(address, { timeout = 1000 }), address end
    why = problem
  end
  cli.stop(3, why or 'no address')
end

-- Has a node take one, or do what else takes long (`name`), and waits until it is done. -> packed answer, index; or nil, error
function snapshot.take(c, other, timeout, cli, name)
  local tell, clear = snapshot.teller(cli)
  local deadline = sys.now() + timeout / 1000 + 1
  c.socket:send(wire.request(1, name or 'tidelock.snapshot', wire.pack({}), wire.pack { timeout_ms = timeout }))
  local got, err, value, index
  repeat
    got, err, value, index = c:receive(1, c.now() + 300)
    if not got and err == 'timeout' then
      local node = other:status()
      if node and node.snapshot then tell(node.snapshot.doing, node.snapshot.percent) end
    end
  until got or err ~= 'timeout' or sys.now() > deadline
  clear()
  if got and not err then return value, index end
  if got then return nil, select(2, wire.unpack(err)) end
  return nil, { code = err == 'timeout' and 'TIMEOUT' or 'LOST', message = 'no answer: ' .. tostring(err), definite = false }
end

-- "kv.rows 3, kv.sets 0"
local function counts(map)
  local list = {}
  for name, count in pairs(map) do list[#list + 1] = ('%s %.0f'):format(name, count) end
  table.sort(list)
  return #list > 0 and table.concat(list, ', ') or 'none'
end

local function print_inspected(s)
  local function line(name, text, ...) io.stdout:write(('%-12s '):format(name), text:format(...), '\n') end
  line('entries', 'up to %.0f, term %.0f, chain %s', s.index, s.term, s.chain)
  line('cluster', '%s, configuration of entry %.0f', s.cluster_id, s.configuration_index)
  line('time', '%.0f', s.stamp_ms)
  line('format', '%s %g', s.format.name, s.format.version)
  line('state', '%.0f rows, %.0f bytes', s.rows, s.bytes)
  line('maps', '%s', counts(s.maps))
  line('host rows', '%s', counts(s.host))
  line('digest', '%s, of the rows alone %s', s.digest, s.tree_digest)
  line('file', '%.0f bytes, %.0f chunks, hash %s', s.file_bytes, s.chunks, s.hash)
  line('runtime', '%s', s.fingerprint)
  line('verdict', '%s', s.verdict)
end

local function inspect(options, path, cli)
  if not path then cli.stop(2, 'snapshot inspect which file?') end
  if options.raw then
    local ok, why = files.raw(path)
    if not ok then cli.stop(1, why) end
    return 0
  end
  local packed, why, status = files.inspect(path)
  if not packed then cli.stop(status == 'NOT_FOUND' and 5 or 1, why) end
  local _, found = wire.unpack(packed)
  if options.json then io.stdout:write(wire.pack_json(packed), '\n') else print_inspected(found) end
  return found.good and 0 or 1
end

function snapshot.run(options, rest, cli)
  if rest[1] == 'inspect' and not rest[3] then return inspect(options, rest[2], cli) end
  if rest[1] then cli.stop(2, 'snapshot takes no words but inspect FILE') end
  local timeout = cli.number(options, 'timeout', 1, 600000) or 600000
  local c, other = snapshot.connect(call.addresses(options), cli)
  local value, index = snapshot.take(c, other, timeout, cli)
  c:close()
  other:close()
  if value then
    call.print_answer(options, value, index)
    return 0
  end
  call.print_error(options, index, cli)
  return call.exit_code(index, false)
end

return snapshot
