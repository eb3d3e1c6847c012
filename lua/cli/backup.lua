-- cli/backup.lua: a snapshot of a live cluster into a file here.
local wire, client, files = require 'tidelock.wire', require 'tidelock.client', require 'tidelock.files'
local call, snapshot, start = require 'cli.call', require 'cli.snapshot', require 'cli.start'

local PIECE_BYTES, ATTEMPTS = 1024 * 1024, 3

local backup = {
  summary = 'copy the state of a live cluster into a file',
  usage = [[
tidelock backup FILE [--to H:P] [--format F]

Has a node take a snapshot that counts, fetches its file in pieces, checks every hash, and only then gives it its name. What
is there already under that name stays, and nothing is done. tidelock restore makes a new cluster of it. The index
that is printed says how far it goes: a node that hears of no leader may know of nothing newer.

  --to H:P,...     the nodes (or TIDELOCK_TO): the first that answers, and the next one if it is killed meanwhile
  --format F       written anew in this format, a Lua module, in place of the cluster's. One that does not give back the whole
                   state makes an export: to read elsewhere (tidelock snapshot inspect FILE --raw), not to restore
  --timeout MS     how long the snapshot may take (600000), and how long no piece may come (10000 unless said)
  --json           {"ok":{"bytes":n,"file":name,"index":n,"term":n},"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', format = 'value', json = 'flag' },
}

-- Fetches the file piece by piece. A connection that breaks costs the piece that was under way.
-- -> true; or nil, error
local function fetch(address, part, facts, timeout, cli)
  local made, bad = files.begin(part)
  if not made then cli.stop(1, part, ': ', bad) end
  local file, why = io.open(part, 'r+b')
  if not file then cli.stop(1, why) end
  local from = client.new(address, { timeout = timeout })
  local tell, clear = snapshot.teller(cli)
  local offset, failure = 0, nil
  while offset < facts.bytes and not failure do
    local args = wire.pack { facts.index, offset, math.min(PIECE_BYTES, facts.bytes - offset) }
    local value, err = from:raw('tidelock.snapshot_read', args, {}, true)
    local piece = value and select(2, wire.unpack(value))
    if not value then failure = err
    elseif piece == '' then failure = { code = 'NOT_FOUND', message = 'the file ends too early', definite = true }
    else
      local ok, trouble = file:write(piece)
      if not ok then cli.stop(1, part, ': ', trouble) end
      offset = offset + #piece
      tell('fetching', math.floor(offset * 100 / facts.bytes))
    end
  end
  clear()
  from:close()
  local closed, trouble = file:close()
  if failure then return nil, failure end
  if not closed then cli.stop(1, part, ': ', trouble) end
  return true
end

-- A snapshot that counts, in `part`. -> its facts; or nil, error
local function copy(options, part, timeout, cli)
  local failure
  for _ = 1, ATTEMPTS do
    local facts, got
    local c, other, address = snapshot.connect(call.addresses(options), cli)
    local packed, problem = snapshot.take(c, other, timeout or 600000, cli)
    c:close()
    other:close()
    if packed then
      facts = select(2, wire.unpack(packed))
      got, problem = fetch(address, part, facts, timeout or 10000, cli)
    end
    if got then return facts end
    -- The node has ended in the midst, or a newer one took its place: once more from the beginning.
    if problem.code ~= 'NOT_FOUND' and problem.code ~= 'LOST' then return nil, problem end
    failure = problem
  end
  return nil, failure
end

-- Gives what is in `part` its name, in another format if one is asked for. -> bytes of the file
local function keep(part, path, format, cli)
  local name = path:match('[^/]*$')
  local ok, why, status
  if format then ok, why, status = files.export(part, name, format) else ok, why, status = files.keep(part, name) end
  if not ok then cli.stop(status == 'EXISTS' and 6 or 1, why) end
  if format and why ~= '' then
    cli.say('tidelock: an export that cannot be restored: ', why)
  end
  local file = assert(io.open(path, 'rb'))
  local bytes = file:seek('end')
  file:close()
  return bytes
end

function backup.run(options, rest, cli)
  local path = rest[1]
  if not path or rest[2] then cli.stop(2, 'tidelock backup FILE') end
  if path:match('[^/]*$') == '' then cli.stop(2, path, ': name a file') end
  local there = io.open(path, 'rb')
  if there then
    there:close()
    cli.stop(6, path, ' is there already: give another name, or remove it')
  end
  local timeout = cli.number(options, 'timeout', 1, 600000)
  local format = start.other('format', options.format, cli)
  local part = path .. '.part'
  local ok, facts, err = xpcall(function()
    local facts, err = copy(options, part, timeout, cli)
    if facts then facts.bytes = keep(part, path, format, cli) end
    return facts, err
  end, function(e) return type(e) == 'table' and e or debug.traceback(tostring(e), 2) end)
  os.remove(part)
  if not ok then error(facts, 0) end
  if not facts then
    err.definite = true -- no file was made, whatever became of the snapshot
    call.print_error(options, err, cli)
    return call.exit_code(err, true)
  end
  facts.file = path
  call.print_answer(options, wire.pack(facts), facts.index)
  return 0
end

return backup
