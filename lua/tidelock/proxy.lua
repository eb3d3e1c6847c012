-- tidelock/proxy.lua: the network between the nodes of a cluster in mode 'live': a process that hands on what they send each other,
-- unless a script wants it cut, slow or lossy.
--
-- Each node listens on a port of its own, and the others look for it at a port of this process. A link begins with the byte C1 and
-- a HELLO that names who dialled (wire/message.h); it carries that node's messages one way. Anything else is a client: handed on.
-- Orders come line by line on the control port, each is answered by a line: "cut FROM TO on|off", "lose LOST DOUBLED OVERTAKEN"
-- (shares of the frames of the core), "delay MS" (at most, from 1; 0: none).
local sys, wire = require 'tidelock.sys', require 'tidelock.wire'

local proxy = {}

local PENDING_MAX, IDLE_SECONDS, MARK = 4 * 1024 * 1024, 3600, '\193'

local cuts, loss, delay = {}, { lost = 0, doubled = 0, overtaken = 0 }, 0
local pairs_open = {} -- connections, by the socket that was accepted

-- One direction: bytes that came from `source` and go to `sink`.
local function lane(source, sink)
  return { source = source, sink = sink, queue = {}, bytes = 0, sent = 1, due = 0 }
end

local function close(one)
  if pairs_open[one.near] == nil then return end
  pairs_open[one.near] = nil
  one.near:close()
  one.far:close()
end

local function add(way, bytes)
  if bytes == '' then return end
  local now = sys.now()
  -- What comes later never arrives earlier.
  way.due = math.max(way.due, delay > 0 and now + math.random(delay) / 1000 or now)
  way.queue[#way.queue + 1] = { bytes = bytes, due = way.due }
  way.bytes = way.bytes + #bytes
end

-- Takes whole frames of a link, and does to those of the core what a bad network does. false: these are no frames.
local function add_frames(way)
  while true do
    local size, kind = wire.link_frame(way.input)
    if size == nil then return true end
    if not size then return false end
    local frame = way.input:sub(1, size)
    way.input = way.input:sub(size + 1)
    if kind ~= 'raft' or math.random() >= loss.lost then
      if kind == 'raft' and not way.held and math.random() < loss.overtaken then way.held = frame
      else
        add(way, frame)
        if kind == 'raft' and math.random() < loss.doubled then add(way, frame) end
        if way.held then add(way, way.held) end
        way.held = nil
      end
    end
  end
end

-- What the one who dialled sends: until it is known who that is, nothing is handed on.
local function take(one, bytes)
  local way = one.there
  if one.client then add(way, bytes) return true end
  way.input = (way.input or '') .. bytes
  if not one.from then
    if way.input:sub(1, 1) ~= MARK then
      one.client = true
      add(way, way.input)
      return true
    end
    local size, kind, from = wire.link_frame(way.input:sub(2))
    if size == nil then return true end
    if kind ~= 'hello' then return false end
    one.from = from
    if cuts[from .. ' ' .. one.to] then return false end
    add(way, MARK)
    way.input = way.input:sub(2)
  end
  return add_frames(way)
end

-- Receives what is there. false: the connection is over.
local function receive(way, use)
  while way.bytes < PENDING_MAX do
    local bytes, why = way.source:receive(-1)
    if not bytes then return why == 'timeout' end
    if bytes == '' or use(bytes) == false then return false end
  end
  return true
end

-- Sends what is due. false: nobody takes it.
local function send(way)
  local now = sys.now()
  while way.queue[1] and way.queue[1].due <= now do
    local first = way.queue[1]
    local count = way.sink:put(first.bytes, way.sent)
    if not count then return false end
    way.sent = way.sent + count
    if way.sent <= #first.bytes then return true end
    way.bytes, way.sent = way.bytes - #first.bytes, 1
    table.remove(way.queue, 1)
  end
  return true
end

local function step(one)
  local ok = receive(one.there, function(bytes) return take(one, bytes) end)
    and receive(one.back, function(bytes) add(one.back, bytes) end)
  -- What was taken before the end is still handed on, as far as it goes.
  if not (send(one.there) and send(one.back) and ok) then close(one) end
end

local function accept(door)
  local near = door.socket:accept()
  if not near then return end
  local far = sys.connect('127.0.0.1', door.port, 1)
  if not far then
    near:close()
    return
  end
  pairs_open[near] = { near = near, far = far, to = door.id, there = lane(near, far), back = lane(far, near) }
end

local function obey(line)
  local word, a, b, c = line:match('^(%a+) (%S+) ?(%S*) ?(%S*)$')
  if word == 'cut' then
    cuts[a .. ' ' .. b] = c == 'on' or nil
    for _, one in pairs(pairs_open) do
      if one.from and cuts[one.from .. ' ' .. one.to] then close(one) end
    end
  elseif word == 'lose' then loss = { lost = tonumber(a), doubled = tonumber(b), overtaken = tonumber(c) }
  elseif word == 'delay' then delay = tonumber(a)
  else return 'what?' end
  return 'ok'
end

-- Lines of the script's. false: it is gone.
local function listen_to(control)
  local bytes, why = control.socket:receive(-1)
  if not bytes then return why == 'timeout' end
  if bytes == '' then return false end
  control.input = control.input .. bytes
  for line in control.input:gmatch('([^\n]*)\n') do control.socket:send(obey(line) .. '\n') end
  control.input = control.input:match('[^\n]*$')
  return true
end

-- What to wait for: who may bring something, who may take something, until when.
local function interests(doors, control)
  local reads, writes, due = { control.socket }, {}, sys.now() + IDLE_SECONDS
  for _, door in ipairs(doors) do reads[#reads + 1] = door.socket end
  for _, one in pairs(pairs_open) do
    for _, way in ipairs { one.there, one.back } do
      if way.bytes < PENDING_MAX then reads[#reads + 1] = way.source end
      local first = way.queue[1]
      if first and first.due <= sys.now() then writes[#writes + 1] = way.sink elseif first then due = math.min(due, first.due) end
    end
  end
  return reads, due - sys.now(), writes
end

-- Runs until the script that connects to the control port first is gone. doors: a list of { id, listen = port, port = the node's }.
function proxy.serve(control_port, doors)
  sys.end_with_parent()
  for _, door in ipairs(doors) do door.socket = assert(sys.listen(door.listen)) end
  local listener = assert(sys.listen(control_port))
  local control
  repeat
    sys.poll({ listener }, 1)
    control = listener:accept()
  until control
  control = { socket = control, input = '' }
  while listen_to(control) do
    for _, door in ipairs(doors) do accept(door) end
    for _, one in pairs(pairs_open) do step(one) end
    sys.poll(interests(doors, control))
  end
end

-- --- the script's side ---

local remote = {}
remote.__index = remote

-- Starts one. doors as above; log: the file that it writes to. -> r, with r:order(...) and r:close(); raises if it does not come up
function proxy.start(doors, log)
  local port, list = assert(sys.free_port()), {}
  for i, door in ipairs(doors) do list[i] = ('{ id = %d, listen = %d, port = %d }'):format(door.id, door.listen, door.port) end
  local code = ("require 'tidelock.proxy'.serve(%d, { %s })"):format(port, table.concat(list, ', '))
  local self = setmetatable({ pid = assert(sys.spawn({ sys.exe(), 'run', '-e', code }, log)) }, remote)
  local deadline = sys.now() + 10
  repeat
    self.socket = sys.connect('127.0.0.1', port, 1)
    if not self.socket then sys.sleep(0.005) end
  until self.socket or sys.now() > deadline
  if not self.socket then
    sys.kill(self.pid, 'KILL')
    sys.wait(self.pid, true)
    error('the process between the nodes does not answer', 0)
  end
  return self
end

-- Gives an order, and waits until it is obeyed.
function remote:order(format, ...)
  assert(self.socket:send(format:format(...) .. '\n'))
  local answer = ''
  repeat
    local bytes = self.socket:receive(10)
    if not bytes or bytes == '' then error('the process between the nodes has ended', 0) end
    answer = answer .. bytes
  until answer:find('\n', 1, true)
  assert(answer == 'ok\n', answer)
end

function remote:close()
  self.socket:close()
  sys.kill(self.pid, 'KILL')
  sys.wait(self.pid, true)
end

return proxy
