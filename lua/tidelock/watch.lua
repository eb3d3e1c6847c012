-- tidelock/watch.lua: a client that watches events, at any node, and goes on at another where it was when that one is lost.
--
--   local watch, err = client:watch('lock.granted', { prefix = 'db', from = id })
--   local event, err = watch:next(1000)     within ms; without: for as long as it takes
--   watch:close()
--
-- event: { id, topic, key, data, packed = data as bytes }. err: { code = 'TIMEOUT' } when none came, and it can be asked again;
-- COMPACTED when what follows is on no node any more, with data.first, an id after which everything is; or what is wrong with what
-- was asked for.
local wire = require 'tidelock.wire'

local watch = {}
watch.__index = watch

local QUIET_MS, ANSWER_MS, RETRY_MS = 2000, 2000, 100

local begin

-- -> a watch, that has begun; nil, error: what was asked for is not to be had, or no node answered within the client's time
function watch.new(client, what, options)
  options = options or {}
  local mount, topic = what:match('^([^.]*)%.(.+)$')
  -- A client of its own: what it hears is not for others.
  local own = setmetatable({ list = client.list, at = client.at, id = 0, timeout = client.timeout }, getmetatable(client))
  local self = setmetatable({ client = own, mount = mount or what, topic = topic, prefix = options.prefix, from = options.from,
    gone = 0 }, watch)
  local deadline = own.now() + own.timeout
  repeat
    local began, err = begin(self, deadline)
    if began then return self end
    if err then return nil, err end
    own.sleep(RETRY_MS)
  until own.now() >= deadline
  return nil, { code = 'NO_LEADER', message = 'no node could be watched', definite = true }
end

local nothing = string.char(0xC0)

local function pack_args(self)
  local function word(text) return text and wire.pack(text) or nothing end
  return string.char(0x94) .. word(self.mount) .. word(self.topic) .. word(self.prefix) .. word(self.from)
end

local function unpacked(bytes) return select(2, wire.unpack(bytes)) end

-- The connection is of no more use: the next node.
local function leave(self)
  self.client:unwatch()
  self.open = nil
  self.client.at = self.client.at % #self.client.list + 1
end

-- An error map of a node. -> it, if it is for the caller; nil: another node may do better
local function judge(self, err)
  leave(self)
  if err.code == 'COMPACTED' then
    self.gone = self.gone + 1
    return self.gone >= #self.client.list and err or nil
  end
  self.gone = 0
  return (err.code == 'BAD_ARGS' or err.code == 'UNKNOWN_COMMAND' or err.code == 'DENIED') and err or nil
end

-- -> true; nil, an error for the caller, or nil to go on
function begin(self, deadline)
  local how, err, value = self.client:begin_watch(pack_args(self), math.min(deadline, self.client.now() + ANSWER_MS))
  if how == 'answered' and not err then
    self.open, self.gone = true, 0
    self.from = self.from or unpacked(value).from
    return true
  end
  if how == 'answered' then return nil, judge(self, unpacked(err)) end
  leave(self)
end

-- One thing that a node says: -> event | nil, an error for the caller, or nil to go on
local function take(self, method, params)
  local parts = wire.parts(params)
  if method == 'tidelock.watch_end' then return nil, judge(self, unpacked(parts[1])) end
  if method ~= 'tidelock.event' then return nil end
  self.from = unpacked(parts[1])
  return { id = self.from, topic = unpacked(parts[2]), key = unpacked(parts[3]), data = unpacked(parts[4]), packed = parts[4] }
end

function watch:next(ms)
  local now = self.client.now
  local deadline = ms and now() + ms or math.huge
  while true do
    local event, err
    if self.open then
      local method, params = self.client:hear(math.min(deadline, now() + QUIET_MS))
      if method then event, err = take(self, method, params)
      elseif params ~= 'timeout' or now() < deadline and not self.client:is_well(now() + ANSWER_MS) then leave(self) end
    else
      local began
      began, err = begin(self, deadline)
      if not began and not err and now() < deadline then self.client.sleep(RETRY_MS) end
    end
    if event or err then return event, err end
    if now() >= deadline then return nil, { code = 'TIMEOUT', message = 'no event came', definite = true } end
  end
end

function watch:close() self.client:unwatch() end

return watch
