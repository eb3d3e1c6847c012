-- spec/support/core.lua: the floors below net, node and cli, through LuaJIT's FFI.
--
--   local core = require 'spec.support.core'
--   local C = core.load('state/tree.h', 'state/view.h')      -- declares what the headers declare, once
--
-- Headers are taken as they are, through the C preprocessor: there is no binding code that could drift. Only lines that
-- come from files under src/ are declared (LuaJIT knows the system's own types); a header may be loaded any number of
-- times, from any number of spec files in one process.
local ffi = require 'ffi'

-- Specs are interpreted. Debian's LuaJIT is known to compile some code wrongly, and a judge that is written in Lua must not be
-- wrong about C that is right: "all orders" once, in a hundred runs, found one for a first read of what nobody had written.
jit.off()
jit.flush()

local core = { ffi = ffi, build = os.getenv('TIDELOCK_BUILD') or 'build/release' }
core.C = ffi.load(core.build .. '/libcore.so')

-- What `header` and all it includes declare: the lines whose marker names a file of ours.
local function preprocess(header)
  -- A sanitizer's library that was preloaded for us is not for the compiler.
  local pipe = assert(io.popen('LD_PRELOAD= cc -E -std=c11 -D_GNU_SOURCE -Isrc src/' .. header .. ' 2>&1; echo "#!$?"'))
  local lines, ours = {}, false
  for line in pipe:lines() do
    local file = line:match('^# %d+ "(.-)"')
    if file then
      ours = file:sub(1, 4) == 'src/'
    elseif line:sub(1, 2) == '#!' then
      assert(line == '#!0', 'cc could not preprocess src/' .. header .. ':\n' .. table.concat(lines, '\n'))
    elseif ours or line:find('error:', 1, true) then
      lines[#lines + 1] = line
    end
  end
  pipe:close()
  return table.concat(lines, '\n')
end

-- One declaration at a time, so that what another header declared already is passed over.
local declared = {}

local function declare_one(header, one)
  one = one:gsub('_Noreturn', ''):gsub('_Atomic ', ''):gsub('%s+', ' '):gsub('^ ', '')
  if declared[one] then return end
  local ok, why = pcall(ffi.cdef, one)
  assert(ok, ('%s: %s\n%s'):format(header, why, one))
  declared[one] = true
end

-- A static inline function is the header's own; an inline one is in the library too.
local function declare(header, text)
  local depth, start = 0, 1
  for at in text:gmatch('()[{};]') do
    local c = text:sub(at, at)
    depth = depth + (c == '{' and 1 or c == '}' and -1 or 0)
    local one = text:sub(start, at)
    if c == '}' and depth == 0 and one:find('^[%s%a]*%f[%w]inline%s') then
      local head = one:match('^%s*inline%s+([^{]-)%s*{')
      if head then declare_one(header, head .. ';') end
      start = at + 1
    elseif c == ';' and depth == 0 then
      declare_one(header, one)
      start = at + 1
    end
  end
end

local loaded = {}

-- Declares what the headers (written from src/) declare, and gives the library.
function core.load(...)
  for _, header in ipairs { 'base/slice.h', 'base/memory.h', ... } do
    if not loaded[header] then
      declare(header, preprocess(header))
      loaded[header] = true
    end
  end
  return core.C
end

core.load()

-- In the build of `make mutants`: this planted bug is on (src/base/mutant.h).
if os.getenv('MUTANT') then
  ffi.cdef 'void mutant_choose(unsigned n);'
  core.C.mutant_choose(tonumber(os.getenv('MUTANT')))
end

-- A slice of a Lua string, which must stay alive as long as the slice is used.
-- The text is kept for a while: nothing else may hold it until the call that it goes to has read it (async-raft's singlenode, seed 576,
-- was told that 441 is 40).
local KEPT = 64
core.kept = {}
local kept_at = 0
function core.slice(text)
  kept_at = kept_at % KEPT + 1
  core.kept[kept_at] = text
  return ffi.new('struct slice', { data = ffi.cast('const uint8_t *', text), size = #text })
end

-- The bytes of a slice as a Lua string.
function core.text(slice)
  return slice.size == 0 and '' or ffi.string(slice.data, slice.size)
end

-- An empty buffer that frees itself.
function core.buffer()
  return ffi.gc(ffi.new('struct buffer'), core.C.buffer_close)
end

-- The bytes of a buffer as a Lua string.
core.buffer_text = core.text

-- A repeatable source of numbers for property specs: math.random's sequence is fixed by the seed.
function core.random(seed)
  math.randomseed(seed)
  return math.random
end

-- Runs `code` in an interpreter of its own, for what ends a process: its exit status and all it printed. A process that
-- a signal ended has 128 + the signal's number.
function core.child(code)
  local file = os.tmpname()
  local out = assert(io.open(file, 'w'))
  out:write("package.path = './?.lua;./lua/?.lua;' .. package.path\n", code)
  out:close()
  local pipe = assert(io.popen('luajit ' .. file .. ' 2>&1 </dev/null; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  os.remove(file)
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

return core
