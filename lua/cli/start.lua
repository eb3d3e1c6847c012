-- cli/start.lua: runs one node.
local node, check, sys = require 'tidelock.node', require 'cli.check', require 'tidelock.sys'
local join, wire = require 'cli.join', require 'tidelock.wire'

local start = {
  summary = 'run one node',
  usage = [[
tidelock start --id N --data DIR --listen H:P [--cluster 1=H:P,2=H:P,... --machine [NAME=]FILE | --join H:P]

The first start of every node needs the same --cluster and --machine: the nodes find each other and form the cluster. Later
starts need neither: the code is in the log. Directories that tidelock restore made need --cluster alone. A node that joins a cluster
needs --join and no more: it comes as a learner, once an operator (tidelock members add) or the policy lets it in.

  --id N                 this node, a whole number from 1
  --data DIR             where it keeps its log; made if it is not there (its parent must be)
  --listen H:P           where it listens, for members and clients
  --join H:P,...         members to ask to be let in; later, to tell them of another address
  --advertise H:P        where the others find it, as --cluster says, if something stands between
  --zone Z   --tag K=V   where it stands, and what else policies are to know of it; --tag may be given more than once
  --priority N (0)       up to 100: the higher leads rather
  --cluster LINE         all members: 1=127.0.0.1:7301,2=127.0.0.1:7302,...
  --machine [NAME=]FILE  a service; may be given more than once
  --format FILE          how snapshots are written, on a first start: a Lua module (default: rows as MessagePack)
  --policy FILE          who shall be a member, on a first start: a Lua module (default: manual, what operators say)
  --config FILE          a Lua file that returns a table with the same keys; flags win
  --heartbeat MS (100)   --election MS (1000, drawn up to double)
  --snapshot-bytes N|off (67108864)   a snapshot after so much log, and after as much as the last one had
  --snapshot-entries N|off (off)   --snapshot-every MS|off (off)   or after so many entries, or so long
  --snapshot-keep ENTRIES (100000)   kept in the log behind a snapshot, at most 512 MiB of them: who lags less needs none
  --snapshot-chunk BYTES (262144)   of pieces on disk and on the way   --snapshot-rate BYTES/S (no limit)   --snapshot-zstd
  --scrub-rate BYTES/S|off (8388608)   of the state in memory, looked at for rot
  --log-level error|warn|info|debug|trace   --log-format text|json
  --insecure             allow listening beyond loopback without any authentication]],
  options = { id = 'value', data = 'value', listen = 'value', advertise = 'value', cluster = 'value', machine = 'many', config = 'value',
    heartbeat = 'value', election = 'value', format = 'value', policy = 'value', join = 'value', zone = 'value', tag = 'many',
    priority = 'value', ['snapshot-bytes'] = 'value', ['snapshot-entries'] = 'value',
    ['snapshot-every'] = 'value', ['snapshot-keep'] = 'value', ['snapshot-chunk'] = 'value', ['snapshot-rate'] = 'value',
    ['snapshot-zstd'] = 'flag', ['scrub-rate'] = 'value', ['log-level'] = 'value', ['log-format'] = 'value', insecure = 'flag' },
}

-- A plain table: the file sees nothing, and may not run for ever.
local function read_config(path, options, cli)
  local chunk, why = loadfile(path, 't', {})
  if not chunk then cli.stop(78, '--config ', why) end
  setfenv(chunk, {})
  jit.off(chunk, true)
  debug.sethook(function() error('runs too long', 0) end, '', 1000000)
  local ok, config = pcall(chunk)
  debug.sethook()
  if not ok or type(config) ~= 'table' then
    cli.stop(78, '--config ', path, ': ', ok and 'must return a table' or tostring(config))
  end
  for key, value in pairs(config) do
    local name = tostring(key):gsub('_', '-')
    local kind = start.options[name]
    if not kind or name == 'config' then cli.stop(78, '--config ', path, ': unknown key ', tostring(key)) end
    if options[name] == nil then
      if kind == 'many' and type(value) == 'table' then
        local list = {}
        for i, v in ipairs(value) do list[i] = tostring(v) end
        for k, v in pairs(value) do if type(k) == 'string' then list[#list + 1] = k .. '=' .. tostring(v) end end
        table.sort(list)
        options[name] = list
      elseif kind == 'many' then options[name] = { tostring(value) }
      elseif kind == 'flag' then
        if type(value) ~= 'boolean' then cli.stop(78, '--config ', path, ': ', tostring(key), ' must be true or false') end
        options[name] = value or nil
      elseif type(value) == 'string' or type(value) == 'number' then options[name] = tostring(value)
      else cli.stop(78, '--config ', path, ': ', tostring(key), ' must be text or a number, as its flag takes it') end
    end
  end
end

-- Checks each module in a process of its own, which the parser may crash, then bundles it here.
function start.bundle(words, cli, exit)
  local bundles = {}
  for i, word in ipairs(words) do
    local name, path = word:match('^([^=/]*)=(.*)$')
    if name and not name:match('^[a-z][a-z0-9_]*$') then
      cli.stop(2, '--machine ', word, ': a mount is named by small letters, digits and _, and begins with a letter')
    end
    if not check.survives(word) then cli.stop(exit, word, ': LuaJIT itself cannot load this file') end
    local bytes, why = node.bundle(name or '', path or word)
    if not bytes then cli.stop(exit, why) end
    bundles[i] = bytes
  end
  return bundles
end

-- A file of another kind as a bundle: 'format', 'policy'. -> bytes; nil if there is no path
function start.other(kind, path, cli)
  if not path then return nil end
  if not check.survives(path) then cli.stop(78, path, ': LuaJIT itself cannot load this file') end
  local bytes, why = node.bundle('', path, kind)
  if not bytes then cli.stop(78, why) end
  return bytes
end

-- The services, and what else the cluster is formed with.
local function bundles_of(options, cli)
  local bundles = start.bundle(options.machine or {}, cli, 78)
  for _, kind in ipairs { 'format', 'policy' } do bundles[#bundles + 1] = start.other(kind, options[kind], cli) end
  return bundles
end

-- What the node is to be known by. nil: nothing was said of it.
local function self_of(options, id, cli)
  local self = { id = id, data = options.data, listen = options.listen, advertise = options.advertise, insecure = options.insecure,
    zone = options.zone, priority = cli.number(options, 'priority', 0, 100) }
  if self.zone and (#self.zone > 63 or self.zone:find('%c')) then cli.stop(2, '--zone: text of at most 63 bytes') end
  for _, word in ipairs(options.tag or {}) do
    local key, value = word:match('^([^=]+)=(.*)$')
    if not key then cli.stop(2, '--tag ', word, ': write it as KEY=VALUE') end
    self.tags = self.tags or {}
    self.tags[key] = value
  end
  local packed = self.tags and wire.pack(self.tags)
  if packed and (#packed > 256 or #options.tag > 8) then cli.stop(2, '--tag: at most 8 of them, and 256 bytes in all') end
  self.tags_packed = packed
  return self
end

-- A threshold that may be off. 0: it is.
local function threshold(options, name, low, default, cli)
  local text = options[name]
  if text == 'off' then return 0 end
  if text and not tonumber(text) then cli.stop(2, '--', name, ' ', text, ': wants a whole number, or off') end
  return cli.number(options, name, low, 2^50) or default
end

function start.run(options, rest, cli)
  if rest[1] then cli.stop(2, 'start takes no words, only options') end
  if options.config then read_config(options.config, options, cli) end
  local id = cli.number(options, 'id', 1, 2^53)
  if not id then cli.stop(2, 'start needs --id N') end
  if not options.data then cli.stop(2, 'start needs --data DIR') end
  if not options.listen then cli.stop(2, 'start needs --listen HOST:PORT') end
  if not options.listen:find(':', 1, true) then
    cli.stop(2, '--listen ', options.listen, ': write HOST:PORT, like 127.0.0.1:', options.listen)
  end
  if options.advertise and not options.advertise:find(':', 1, true) then
    cli.stop(2, '--advertise ', options.advertise, ': write HOST:PORT')
  end
  local heartbeat = cli.number(options, 'heartbeat', 1, 60000) or 100
  local election = cli.number(options, 'election', 2, 600000) or 1000
  if heartbeat * 2 > election then cli.stop(2, '--election must be at least twice --heartbeat') end
  local level, format = options['log-level'] or 'info', options['log-format'] or 'text'
  if not ({ error = 1, warn = 1, info = 1, debug = 1, trace = 1 })[level] then
    cli.stop(2, '--log-level ', level, ': there are error warn info debug trace')
  end
  if format ~= 'text' and format ~= 'json' then cli.stop(2, '--log-format ', format, ': there are text and json') end
  local self = self_of(options, id, cli)
  if options.join and (options.cluster or options.machine or options.format or options.policy) then
    cli.stop(2, '--join goes without --cluster, --machine, --format and --policy: the cluster has them')
  end
  sys.end_with_parent()
  local told = false
  if options.join then
    local code
    code, told = join.enter(self, options.join, cli)
    if code ~= 0 then return code end
  end
  local code, why = node.run {
    id = id, data = options.data, listen = options.listen, advertise = options.advertise, cluster = options.cluster, heartbeat = heartbeat,
    election = election, log_level = level, log_format = format, insecure = options.insecure,
    lua_bytes_max = tonumber(os.getenv('TIDELOCK_LUA_BYTES_MAX')),
    snapshot_bytes = threshold(options, 'snapshot-bytes', 4096, 64 * 1024 * 1024, cli),
    snapshot_entries = threshold(options, 'snapshot-entries', 1, 0, cli),
    snapshot_every = threshold(options, 'snapshot-every', 100, 0, cli),
    snapshot_keep = cli.number(options, 'snapshot-keep', 0, 2^50) or 100000,
    snapshot_chunk = cli.number(options, 'snapshot-chunk', 4096, 16 * 1024 * 1024) or 0,
    snapshot_rate = cli.number(options, 'snapshot-rate', 1024, 2^50) or 0,
    snapshot_zstd = options['snapshot-zstd'],
    scrub_rate = threshold(options, 'scrub-rate', 1024, 8 * 1024 * 1024, cli),
    bundles = bundles_of(options, cli), zone = self.zone, priority = self.priority, tags_packed = self.tags_packed,
    joins = told,
  }
  if code ~= 0 and why ~= '' then cli.say('tidelock: ', why) end
  return code
end

return start
