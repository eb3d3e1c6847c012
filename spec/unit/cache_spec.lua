-- The cache of recent records (replica/cache.h), held against a table of what it should have.
local core = require 'spec.support.core'
local C, ffi = core.load('replica/cache.h'), core.ffi

local function records(first, last)
  local bytes = ffi.new('struct buffer')
  for index = first, last do
    local entry = ffi.new('struct entry')
    entry.index, entry.term, entry.kind = index, 1, C.ENTRY_COMMAND
    entry.payload = C.slice_make(ffi.cast('const uint8_t *', 'payload'), 7)
    C.entry_encode(bytes, entry, 0)
  end
  return bytes
end

local function new(bytes_max)
  local cache = ffi.gc(ffi.new('struct cache'), C.cache_close)
  cache.bytes_max = bytes_max
  return cache
end

local size = tonumber(records(1, 1).size)

describe('the cache', function()
  it('finds what it has, and nothing else', function()
    local random, cache, first, last = core.random(11), new(size * 500), 1, 0 -- entries first..last are there
    local starts = {} -- of the chunk of each entry
    for _ = 1, 3000 do
      if random(40) == 1 and last > 0 then
        local from = math.max(1, last - random(30) + 1)
        C.cache_cut(cache, from)
        last = from - 1
      end
      local to = last + random(3)
      local chunk = C.cache_append(cache, records(last + 1, to), last + 1, to)
      assert.equal(last + 1, tonumber(chunk.first))
      for index = last + 1, to do starts[index] = last + 1 end
      last = to
      assert.equal(last, tonumber(C.cache_last(cache)))
      assert.is_true(cache.bytes <= size * 500)
      while first < last and C.cache_find(cache, first) == nil do first = first + 1 end
      for _ = 1, 5 do
        local index = random(last + 3)
        local found = C.cache_find(cache, index)
        assert.equal(index >= first and index <= last, found ~= nil, ('entry %d of %d..%d'):format(index, first, last))
        if found ~= nil then
          assert.equal(starts[index], tonumber(found.first))
          assert.equal(size, tonumber(C.chunk_records(found, index, index).size))
        end
      end
    end
    assert.is_true(first > 1000)
    C.cache_close(cache)
    assert.is_true(C.cache_find(cache, last) == nil)
    assert.equal(0, tonumber(cache.bytes))
    C.cache_append(cache, records(7, 8), 7, 8)
    assert.equal(7, tonumber(C.cache_find(cache, 8).first))
  end)

  it('finds one of 300,000 as fast as of few', function()
    -- Steps are what counts, not time: with a walk this spec would take minutes.
    local cache = new(size * 300000)
    for index = 1, 300000 do C.cache_append(cache, records(index, index), index, index) end
    for index = 1, 300000 do assert(C.cache_find(cache, index).first == index) end
  end)
end)
