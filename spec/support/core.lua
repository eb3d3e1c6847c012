-- spec/support/core.lua: the floors below node and cli, through LuaJIT's FFI.
--
--   local core = require 'spec.support.core'
--   local C = core.load('state/tree.h', 'state/view.h')      -- declares what the headers declare, once
--
-- Headers are taken as they are, through the C preprocessor: there is no binding code that could drift.
local ffi = require 'ffi'

local core = { ffi = ffi, build = os.getenv('TIDELOCK_BUILD') or 'build/release' }
core.C = ffi.load(core.build .. '/libcore.so')

local declared = {}

local function preprocess(header)
  local pipe = assert(io.popen('cc -E -P -D_GNU_SOURCE -Isrc src/' .. header .. " -D'__attribute__(x)=' 2>&1"))
  local text = pipe:read('*a')
  pipe:close()
  return text
end

-- One declaration at a time, so that what another header declared already is passed over.
local function declare(text)
  local depth, start = 0, 1
  for at = 1, #text do
    local c = text:byte(at)
    if c == 123 then depth = depth + 1
    elseif c == 125 then depth = depth - 1
    elseif c == 59 and depth == 0 then
      local one = text:sub(start, at):gsub('^%s+', ''):gsub('_Noreturn', '')
      start = at + 1
      local system = one:find('^typedef') and (one:find('__') or one:find('int_') or one:find('wchar_t')
        or one:find('max_align') or one:find('uint') and not one:find('raft_') and not one:find('node_id')
        or one:find('size_t') and not one:find('tree_'))
      if not declared[one] and not system and not one:find('va_list') then
        declared[one] = true
        ffi.cdef(one)
      end
    end
  end
end

local loaded = {}

function core.load(...)
  for _, header in ipairs { 'base/slice.h', 'base/memory.h', ... } do
    if not loaded[header] then
      loaded[header] = true
      declare(preprocess(header))
    end
  end
  return core.C
end

core.load()

-- A slice of a Lua string, which must stay alive as long as the slice is used.
function core.slice(text)
  return ffi.new('struct slice', { data = ffi.cast('const uint8_t *', text), size = #text })
end

function core.text(slice)
  return ffi.string(slice.data, slice.size)
end

-- An empty buffer that frees itself.
function core.buffer()
  return ffi.gc(ffi.new('struct buffer'), core.C.buffer_close)
end

function core.buffer_text(buffer)
  return ffi.string(buffer.data, buffer.size)
end

-- A repeatable source of numbers for property specs: math.random's sequence is fixed by the seed.
function core.random(seed)
  math.randomseed(seed)
  return math.random
end

return core
