-- cli/watch.lua: events as they come, a line each, or a command for each.
local wire, client = require 'tidelock.wire', require 'tidelock.client'
local call = require 'cli.call'

local watch = {
  summary = 'events of the service, as they come',
  usage = [[
tidelock watch MOUNT[.TOPIC] [PREFIX] [--from ID] [-- CMD ARG...]

  tidelock watch lock.granted                     one line each: ID TOPIC KEY DATA
  tidelock watch orders paid/ --from 8123.1-89abcdef
  tidelock watch lock -- sh -c 'echo "$TIDELOCK_TOPIC $TIDELOCK_KEY"'

Events from now on; with --from those after that id, on any node, without a gap and none twice. An id is INDEX.N-CCCCCCCC as it is
printed; INDEX.N is taken, too, and INDEX for the end of an entry (what call --json gave). When a node is lost, it goes on at another.
Exit 6 (COMPACTED): what follows the id is on no node any more; the message has an id to go on from.

With CMD it is run for each event, one after another, with TIDELOCK_TOPIC, TIDELOCK_KEY, TIDELOCK_ID and TIDELOCK_DATA (text as it
is, else JSON; empty where it is over 64 KiB). When CMD fails, so does watch, with its status, and says where to go on.

  PREFIX          only keys that begin so
  --to H:P,...    nodes to watch, one at a time (or TIDELOCK_TO)
  --json          {"id":...,"topic":...,"key":...,"data":...}]],
  options = { to = 'value', from = 'value', json = 'flag' },
  raw = true,
}

local DATA_BYTES_MAX = 64 * 1024

local function quote(text) return "'" .. text:gsub('%z', ''):gsub("'", "'\\''") .. "'" end

-- Text as it is, anything else as JSON.
local function as_text(event)
  return type(event.data) == 'string' and event.data or wire.pack_json(event.packed)
end

-- A command for one event -> its exit status
local function run(words, event)
  local data = as_text(event)
  if #data > DATA_BYTES_MAX then data = '' end
  local parts = { 'TIDELOCK_TOPIC=' .. quote(event.topic), 'TIDELOCK_KEY=' .. quote(event.key), 'TIDELOCK_ID=' .. quote(event.id),
    'TIDELOCK_DATA=' .. quote(data), 'env' }
  for _, word in ipairs(words) do parts[#parts + 1] = quote(word) end
  local status = os.execute(table.concat(parts, ' '))
  return status >= 256 and math.floor(status / 256) or status == 0 and 0 or 128 + status % 128
end

local function print_event(options, event)
  if options.json then
    io.stdout:write(('{"id":"%s","topic":"%s","key":%s,"data":%s}\n'):format(event.id, event.topic,
      wire.pack_json(wire.pack(event.key)), wire.pack_json(event.packed)))
  else
    local plain = event.key:find('^[%w_./:@+-]+$') ~= nil
    io.stdout:write(('%s %s %s %s\n'):format(event.id, event.topic, plain and event.key or wire.pack_json(wire.pack(event.key)),
      wire.pack_json(event.packed)))
  end
  io.stdout:flush()
end

-- A typing error would wait for ever.
local function look(c, mount, cli)
  local node = c:status()
  local mounts = node and node.service and node.service.mounts
  if mounts and not mounts[mount] then cli.say('tidelock: there is no mount ', mount, ' yet') end
end

local function follow(options, words, seen, err, cli)
  local event
  while seen do
    event, err = seen:next()
    if event and words then
      local status = run(words, event)
      if status ~= 0 then
        cli.say('tidelock: the command failed at event ', event.id, ' with ', tostring(status), '; go on behind it: --from ', event.id)
        return status
      end
    elseif event then print_event(options, event) else break end
  end
  call.print_error(options, err, cli)
  if err.data and err.data.first then cli.say('tidelock: everything since then is there: --from ', err.data.first) end
  return call.exit_code(err, true)
end

function watch.run(words, cli)
  local before, after = {}, nil
  for _, word in ipairs(words) do
    if after then after[#after + 1] = word elseif word == '--' then after = {} else before[#before + 1] = word end
  end
  local options, rest = cli.parse(watch, before)
  if options.help then
    io.stdout:write(require('cli.help').of(watch))
    return 0
  end
  if after and #after == 0 then cli.stop(2, 'a command belongs behind --') end
  if #rest < 1 or #rest > 2 or not rest[1]:find('^[a-z][a-z0-9_]*%.?[a-z0-9_]*$') then
    cli.stop(2, 'what to watch? like: tidelock watch lock, or lock.granted, and a prefix of keys')
  end
  local c, why = client.new(call.addresses(options))
  if not c then cli.stop(2, '--to: ', why) end
  look(c, rest[1]:match('^[^.]*'), cli)
  local seen, err = c:watch(rest[1], { prefix = rest[2], from = options.from })
  c:close()
  local status = follow(options, after, seen, err, cli)
  if seen then seen:close() end
  return status
end

return watch
