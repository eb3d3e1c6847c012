-- tidelock/client.lua: a client of a cluster, over MessagePack-RPC.
--
--   local client = require 'tidelock.client'.new('127.0.0.1:7301,127.0.0.1:7302', { timeout = 5000 })
--   local value, err = client:call('kv.set', 'a', 1)     err: { code, message, data, definite }
--
--   local session = client:session{ ttl = 30000 }        commands that run once, however often they are sent: tidelock/session.lua
--   local watch = client:watch('lock.granted')           events: tidelock/watch.lua
--
-- It tries its addresses in turn. A refusal is definite for its attempt. Without a session a command is sent anew only while no
-- attempt could have been taken. With one it is sent until there is an answer: if an attempt was unknown, then a refusal of a later
-- one says nothing of it, unless it is what the log answered to the same (session, seq).
local sys, wire = require 'tidelock.sys', require 'tidelock.wire'

-- How time passes, in ms: the clients of a cluster let its tasks go on meanwhile.
local client = { now = function() return sys.now() * 1000 end, sleep = function(ms) sys.sleep(ms / 1000) end }
client.__index = client

local function split(text)
  local list = {}
  for address in text:gmatch('[^,]+') do
    local host, port = address:match('^%[(.-)%]:(%d+)$')
    if not host then host, port = address:match('^([^:]+):(%d+)$') end
    if not host then host, port = address:match('^([^:]+)$'), 7301 end
    port = tonumber(port)
    if not host or port < 1 or port > 65535 then return nil, 'an address is HOST:PORT, not ' .. address end
    list[#list + 1] = { host = host, port = port, name = address }
  end
  if #list == 0 then return nil, 'no address' end
  return list
end

-- The connection of a watch (tidelock/watch.lua): asks for it. -> as client:attempt
function client:begin_watch(args, deadline)
  self.heard = {}
  return self:attempt('tidelock.watch', args, { timeout_ms = math.max(1, math.floor(deadline - self.now())) }, deadline)
end

-- The next thing that the server says unasked, until the deadline. -> method, packed params; or nil, 'timeout' or why
function client:hear(deadline)
  if not self.heard[1] then
    local _, why = self:receive('unasked', deadline)
    if not self.heard[1] then return nil, why end
  end
  local one = table.remove(self.heard, 1)
  return one[1], one[2]
end

-- Whether the node that is watched still runs, and follows or leads.
function client:is_well(deadline)
  self.id = self.id % 4294967295 + 1
  if not self.socket:send(wire.request(self.id, 'tidelock.status', wire.pack({}), wire.pack({}))) then return false end
  local got, err, value = self:receive(self.id, deadline)
  if not got or err then return false end
  return select(2, wire.unpack(value)).leader ~= 0
end

function client:unwatch() self:close() end

function client.new(addresses, options)
  local list, why = split(addresses)
  if not list then return nil, why end
  return setmetatable({ list = list, at = 1, id = 0, timeout = (options or {}).timeout or 5000 }, client)
end

function client:close()
  if self.socket then self.socket:close() end
  self.socket = nil
end

local function failure(code, message, definite)
  return { code = code, message = message, definite = definite }
end

function client:connect(seconds)
  if self.socket then return true end
  local address = self.list[self.at]
  local socket, why = sys.connect(address.host, address.port, seconds)
  if not socket then
    return nil, why:find(address.host .. ':', 1, true) == 1 and why or address.name .. ': ' .. why
  end
  self.socket, self.input = socket, ''
  return true
end

-- Bytes of the socket, within ms. -> bytes, '' when it was closed; or nil, why
function client.await(socket, ms) return socket:receive(ms / 1000) end

-- Waits for the answer to request `id`, until the deadline (ms).
function client:receive(id, deadline)
  while true do
    local used, got, err, value, index = wire.response(self.input)
    if used == nil and got then return nil, got end
    if used then
      self.input = self.input:sub(used + 1)
      if got == id then return true, err, value, index end
      if type(got) == 'string' and self.heard then
        self.heard[#self.heard + 1] = { got, value }
        if id == 'unasked' then return true end
      end
    else
      local left = deadline - self.now()
      if left <= 0 then return nil, 'timeout' end
      local bytes, why = self.await(self.socket, left)
      if not bytes then return nil, why end
      if bytes == '' then return nil, 'the connection was closed' end
      self.input = self.input .. bytes
    end
  end
end

-- Of arguments; a bundle of code may be larger.
local ARGS_BYTES_MAX, DEPLOY_BYTES_MAX = 1024 * 1024, 8 * 1024 * 1024 + 4096

-- One attempt at the server that the client is at. -> 'answered', packed error or nil, packed value, index; or, with a sentence:
-- 'unreached' (it certainly has nothing), 'unsent' (not all of it), 'timeout', 'lost'
function client:attempt(name, args, options, deadline)
  local ok, why = self:connect(math.min(1, (deadline - self.now()) / 1000))
  if not ok then return 'unreached', why end
  self.id = self.id % 4294967295 + 1
  local sent = self.socket:send(wire.request(self.id, name, args, wire.pack(options)))
  local got, err, value, index = self:receive(self.id, deadline + 250)
  if got then return 'answered', err, value, index end
  self:close()
  return sent == nil and 'unsent' or err == 'timeout' and 'timeout' or 'lost', err
end

-- Another node may do better, or a later moment: BUSY is also said by a service whose migration goes on.
local function is_passing(err)
  return err.definite and (err.code == 'NO_LEADER' or err.code == 'BUSY')
end

-- Whether what may be asked twice is worth asking again: nobody answers for the cluster (true), or it says that it has something to
-- do first (true, true).
function client.may_pass(err)
  local busy = err.code == 'BUSY' or err.code == 'CONFIG_PENDING'
  return busy or err.code == 'NO_LEADER' or err.code == 'TIMEOUT' or err.code == 'LOST', busy
end

-- What is told of a command whose last attempt ended in `err`, when one before may have had an effect.
local function of_all(err)
  if not err.definite or (err.index or 0) > 0 and err.code ~= 'SESSION_EXPIRED' and err.code ~= 'BUSY' then return err end
  return failure('LOST', ('an attempt was lost, and the next one ended %s (%s): the outcome is unknown'):format(err.code,
    err.message or ''), false)
end

-- One request, with arguments and options packed already. -> packed value, nil, index | nil, error
function client:raw(name, args, options, is_query)
  local bytes_max = name == 'tidelock.deploy' and DEPLOY_BYTES_MAX or ARGS_BYTES_MAX
  if #args > bytes_max then
    return nil, failure('TOO_LARGE', ('the arguments are larger than %d MiB'):format(bytes_max / 1024 / 1024), true)
  end
  local deadline = self.now() + self.timeout
  local last, unsure = failure('NO_LEADER', 'no server answered', true), false
  while self.now() < deadline do
    options.timeout_ms = math.max(1, math.floor(deadline - self.now()))
    local how, err, value, index = self:attempt(name, args, options, deadline)
    if how == 'answered' then
      if not err then return value, nil, index end
      last = select(2, wire.unpack(err))
      if not is_passing(last) and (last.definite or is_query or not options.session) then
        return nil, unsure and of_all(last) or last
      end
      self:close()
    elseif how == 'unreached' then last = failure('NO_LEADER', err, true)
    else
      last = failure(how == 'timeout' and 'TIMEOUT' or 'LOST', 'no answer: ' .. tostring(err), is_query == true)
      if not is_query and how ~= 'unsent' and not options.session then return nil, last end
    end
    unsure = unsure or not is_query and how ~= 'unsent' and last.definite == false
    self.at = self.at % #self.list + 1
    if how == 'answered' or how == 'unreached' then self.sleep(20) end
  end
  return nil, unsure and of_all(last) or last
end

local function pack_args(...)
  local count = select('#', ...)
  local list = {}
  for i = 1, count do list[i] = select(i, ...) end
  return wire.pack(list)
end

local function finish(value, err, index)
  if not value then return nil, err end
  local _, lua = wire.unpack(value)
  return lua, nil, index
end

-- client.ticket: { session, seq, done_below } of the next commands; a session sets it for its own.
function client:call(name, ...)
  local args, why = pack_args(...)
  if not args then return nil, failure('BAD_ARGS', why, true) end
  local options = {}
  for key, value in pairs(self.ticket or {}) do options[key] = value end
  return finish(self:raw(name, args, options))
end

-- Opens a session, of ttl ms (30000). -> tidelock/session.lua | nil, error
function client:session(options) return require 'tidelock.session'.open(self, options) end

-- Watches the events of 'MOUNT' or 'MOUNT.TOPIC' whose keys begin with options.prefix, from now on or after the id options.from.
-- -> tidelock/watch.lua
function client:watch(what, options) return require 'tidelock.watch'.new(self, what, options) end

function client:query(name, ...)
  local args, why = pack_args(...)
  if not args then return nil, failure('BAD_ARGS', why, true) end
  return finish(self:raw(name, args, { query = true, read = self.read or 'linearizable' }, true))
end

-- The same in two steps, so that many nodes can be asked at once: begin_status sends, end_status waits until `deadline`
-- (sys.now's seconds) at most. -> the table, or nil
function client:begin_status()
  local ok = self:connect(self.timeout / 1000)
  self.id = self.id + 1
  local request = wire.request(self.id, 'tidelock.status', wire.pack({}), wire.pack { timeout_ms = self.timeout })
  self.asked = ok and self.socket:send(request) and self.id
end

function client:end_status(deadline)
  local got, err, value = nil, nil, nil
  if self.asked then got, err, value = self:receive(self.asked, math.max(deadline, sys.now() + 0.02) * 1000) end
  if not got or err then return nil end
  return (finish(value))
end

-- Has a node take a snapshot now, and waits until it counts. -> { bytes, index, term } | nil, error
function client:snapshot()
  return finish(self:raw('tidelock.snapshot', wire.pack({}), {}))
end

-- What one node says of itself: of the address that the client is at.
function client:status()
  return finish(self:raw('tidelock.status', wire.pack({}), {}, true))
end

return client
