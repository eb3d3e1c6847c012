-- spec/support/machine.lua: a machine in a spec: a module from text, commands as Lua values.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/trace.h', 'wire/pack.h', 'wire/entry.h', 'script/bundle.h', 'machine/machine.h')

-- Each deploy says so, and each failure of a timer: not for the terminal.
C.log_setup(os.getenv('LOG') and C.LOG_DEBUG or C.LOG_ERROR, C.LOG_TEXT)

local M = { C = C }
M.__index = M

local function pack(buffer, value)
  local kind = type(value)
  if kind == 'nil' then C.pack_nil(buffer)
  elseif kind == 'boolean' then C.pack_boolean(buffer, value)
  elseif kind == 'number' then C.pack_number(buffer, value)
  elseif kind == 'string' then C.pack_text(buffer, core.slice(value))
  elseif value.n or #value > 0 or next(value) == nil then
    local n = value.n or #value
    C.pack_array(buffer, n)
    for i = 1, n do pack(buffer, value[i]) end
  else
    local keys = {}
    for k in pairs(value) do if k ~= 'map' then keys[#keys + 1] = k end end
    table.sort(keys)
    C.pack_map(buffer, #keys)
    for _, k in ipairs(keys) do
      pack(buffer, k)
      pack(buffer, value[k])
    end
  end
end

function M.pack(value)
  local buffer = core.buffer()
  pack(buffer, value)
  return core.buffer_text(buffer)
end

local item = ffi.new('struct pack_item[1]')

local function unpack_next(reader)
  assert(tonumber(C.pack_read(reader, item)) == 0)
  local i = item[0]
  local t = tonumber(i.type)
  if t == 0 then return nil
  elseif t == 1 then return i.boolean
  elseif t == 2 then return tonumber(i.integer)
  elseif t == 4 then return i.number
  elseif t == 5 or t == 6 then return core.text(i.bytes) end
  local out, count = {}, i.count
  for at = 1, count do
    if t == 7 then out[at] = unpack_next(reader)
    else
      local key = unpack_next(reader)
      out[key] = unpack_next(reader)
    end
  end
  return out
end

function M.unpack(bytes)
  local reader = ffi.new('struct pack_reader[1]')
  reader[0] = C.pack_reader_make(core.slice(bytes))
  local value = unpack_next(reader)
  return value, #bytes -- no tail call: the bytes must live as long as they are read
end

-- All values of a sequence.
function M.unpack_all(bytes)
  local reader, list = ffi.new('struct pack_reader[1]'), {}
  reader[0] = C.pack_reader_make(core.slice(bytes))
  while reader[0].at < reader[0]['end'] do list[#list + 1] = unpack_next(reader) end
  return list, #bytes
end

-- The bundle of a module's text; nil, why.
function M.bundle(mount, text)
  local file = M.pack { 1, 'machine', mount, 'module', { { 'module', text } } }
  local why = core.buffer()
  if tonumber(C.bundle_check(core.slice(file), why)) == 0 then return file end
  return nil, core.buffer_text(why)
end

-- The bundle of a snapshot format's text; nil, why.
function M.format(text)
  local file = M.pack { 1, 'format', '', 'format', { { 'format', text } } }
  local why = core.buffer()
  if tonumber(C.bundle_check(core.slice(file), why)) == 0 then return file end
  return nil, core.buffer_text(why)
end

-- Nothing is applied yet. modules: lua_bytes_max, invariants.
function M.empty(modules)
  local options = ffi.new('struct machine_options[1]')
  options[0].lua_bytes_max = modules.lua_bytes_max or 64 * 1024 * 1024
  options[0].invariants = modules.invariants or false
  options[0].desk = modules.desk or 0
  return setmetatable({ C = C, index = 0, m = ffi.gc(C.machine_new(options), C.machine_free),
    results = ffi.new('struct machine_results[1]'), now = 1700000000000 }, M)
end

function M.new(modules)
  local self = M.empty(modules)
  self:entry(2, 'set')
  for mount, text in pairs(modules) do
    if type(text) == 'string' then self:entry(3, assert(M.bundle(mount, text))) end
  end
  return self
end

-- Applies one entry, in term self.term or 1; -> ok, value, bytes of the answer | nil when the machine parked. self.events gets a
-- list { index, n, topic, key, data } for each of its events.
function M:entry(kind, payload)
  local record, entry = core.buffer(), ffi.new('struct entry[1]')
  self.index = self.index + 1
  entry[0].index, entry[0].term, entry[0].kind, entry[0].stamp_ms = self.index, self.term or 1, kind, self.now
  entry[0].payload = core.slice(payload)
  C.entry_encode(record, entry, 0)
  local r = self.results[0]
  r.count, r.bytes.size, r.events.size = 0, 0, 0
  if tonumber(C.machine_apply(self.m, core.slice(core.buffer_text(record)), true, r)) ~= self.index then return nil end
  self.events = M.unpack_all(core.buffer_text(r.events))
  if r.count == 0 then return true end
  local one = r.list[0]
  local bytes = ffi.string(r.bytes.data + one.offset, one.size)
  return one.ok, (M.unpack(bytes)), bytes
end

local function answer(ok, value)
  if ok == nil then return nil, { code = 'PARKED' } end
  if ok then return value end
  return nil, value
end

function M:call(name, ...) return answer(self:entry(4, M.pack(name) .. M.pack { n = select('#', ...), ... })) end
function M:batch(list) return answer(self:entry(5, M.pack(list))) end

-- A command with a ticket; -> ok, value, bytes
function M:ticket(session, seq, done_below, name, ...)
  return self:entry(4, M.pack(name) .. M.pack { n = select('#', ...), ... } .. M.pack { session, seq, done_below })
end

function M:session(verb, what) return answer(self:entry(6, M.pack { verb, what })) end
function M:due() return self:entry(7, '') end
function M:limit(name, value) return answer(self:entry(10, M.pack { name, value })) end
function M:skip_entry(index) return answer(self:entry(11, M.pack { index })) end

function M:query(name, ...)
  local r = self.results[0]
  r.count, r.bytes.size = 0, 0
  local args = M.pack { n = select('#', ...), ... }
  C.machine_query(self.m, core.slice(name), core.slice(args), self.query_now or 0, r)
  return answer(r.list[0].ok, (M.unpack(ffi.string(r.bytes.data + r.list[0].offset, r.list[0].size))))
end

function M:status()
  local status = ffi.new('struct machine_status[1]')
  C.machine_get_status(self.m, status)
  return status[0]
end

function M:digest()
  local d = self:status().digest
  return tostring(d.hi) .. tostring(d.lo)
end

return M
