-- The pool of base/pool.h: blocks do not overlap, are reused by size, and keep what is written to them.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/pool.h')

describe('a pool', function()
  local function new() return ffi.gc(ffi.new('struct pool'), C.pool_close) end

  it('gives blocks of any size that do not touch each other', function()
    local pool, random, blocks = new(), core.random(7), {}
    for round = 1, 20000 do
      local at = random(200)
      local old = blocks[at]
      if old then
        local bytes = ffi.cast('uint8_t *', old.block)
        for i = 0, old.size - 1 do assert(bytes[i] == old.mark) end
        C.pool_free(pool, old.block, old.size)
      end
      local size = random(12) == 1 and 400 + random(2000) or random(120)
      local block = C.pool_alloc(pool, size)
      assert(tonumber(ffi.cast('uintptr_t', block)) % 16 == 0)
      ffi.fill(block, size, round % 251)
      blocks[at] = { block = block, size = size, mark = round % 251 }
    end
    for _, one in pairs(blocks) do C.pool_free(pool, one.block, one.size) end
  end)

  it('gives a freed block again', function()
    if os.getenv('LD_PRELOAD') then return end -- under a sanitizer each block is an allocation of its own
    local pool = new()
    local first = C.pool_alloc(pool, 100)
    C.pool_free(pool, first, 100)
    assert(C.pool_alloc(pool, 97) == first)
    C.pool_free(pool, first, 97)
  end)
end)
