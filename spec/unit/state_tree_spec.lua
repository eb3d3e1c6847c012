-- The tree against a plain Lua model: random histories of put, delete, range, undo, savepoint and view.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/checksum.h', 'state/key.h', 'state/tree.h', 'state/view.h')

local HISTORIES = 1000

local function sorted_keys(rows)
  local keys = {}
  for key in pairs(rows) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function copy(rows)
  local out = {}
  for k, v in pairs(rows) do out[k] = v end
  return out
end

-- What a range gives in the model.
local function model_range(rows, lo, hi, reverse)
  local out = {}
  for _, key in ipairs(sorted_keys(rows)) do
    if (lo == '' or key >= lo) and (hi == '' or key < hi) then out[#out + 1] = key .. '=' .. rows[key] end
  end
  if reverse then
    for i = 1, math.floor(#out / 2) do out[i], out[#out + 1 - i] = out[#out + 1 - i], out[i] end
  end
  return table.concat(out, ' ')
end

local key_slice, value_slice = ffi.new('struct slice[1]'), ffi.new('struct slice[1]')

local function drain(next_row, cursor)
  local out = {}
  while next_row(cursor, key_slice, value_slice) do
    out[#out + 1] = core.text(key_slice[0]) .. '=' .. core.text(value_slice[0])
  end
  return table.concat(out, ' ')
end

local function tree_range(tree, lo, hi, reverse)
  local cursor = C.tree_cursor_open(tree, core.slice(lo), core.slice(hi), reverse)
  local text = drain(C.tree_cursor_next, cursor)
  C.tree_cursor_close(cursor)
  return text
end

local function view_range(view, lo, hi, reverse)
  local cursor = C.view_cursor_open(view, core.slice(lo), core.slice(hi), reverse)
  local text = drain(C.view_cursor_next, cursor)
  C.view_cursor_close(cursor)
  return text
end

local function random_key(random)
  local kind = random(4)
  if kind == 1 then return ('a'):rep(random(60)) .. random(3) end
  return ('k%0' .. random(3) .. 'd'):format(random(200))
end

local function digest_text(digest)
  return ('%s %s'):format(tostring(digest.lo), tostring(digest.hi))
end

-- What the digest must be: the sum of row hashes, by adding the same rows to a new tree.
local function digest_of(rows)
  local tree = C.tree_new()
  for key, value in pairs(rows) do C.tree_put(tree, core.slice(key), core.slice(value)) end
  local text = digest_text(C.tree_digest(tree))
  C.tree_free(tree)
  return text
end

local function check_whole(tree, rows)
  local broken = C.tree_invariants(tree)
  assert.is_true(broken == nil, broken ~= nil and ffi.string(broken) or nil)
  assert.equal(model_range(rows, '', '', false), tree_range(tree, '', '', false))
end

local function history(seed)
  local random = core.random(seed)
  local tree, rows = C.tree_new(), {}
  local marks, views, cursors = {}, {}, {}
  C.tree_count_apart(tree, 0x6b303130) -- keys from k010 on

  local function put()
    local key, value = random_key(random), ('v'):rep(random(3)) .. random(1000)
    assert.equal(rows[key] ~= nil, C.tree_replace(tree, core.slice(key), core.slice(value), value_slice))
    if rows[key] then assert.equal(rows[key], core.text(value_slice[0])) end
    rows[key] = value
  end
  local function del()
    local key = random_key(random)
    assert.equal(rows[key] ~= nil, C.tree_remove(tree, core.slice(key), value_slice))
    if rows[key] then assert.equal(rows[key], core.text(value_slice[0])) end
    rows[key] = nil
  end
  local function range()
    local lo, hi = random_key(random), random_key(random)
    if random(3) == 1 then lo = '' end
    if random(3) == 1 then hi = '' end
    local reverse = random(2) == 1
    assert.equal(model_range(rows, lo, hi, reverse), tree_range(tree, lo, hi, reverse))
    local _, count = model_range(rows, lo, hi):gsub('=', '')
    assert.equal(count, tonumber(C.tree_count(tree, core.slice(lo), core.slice(hi))))
  end
  local function get()
    local key = random_key(random)
    local found = C.tree_get(tree, core.slice(key), value_slice)
    assert.equal(rows[key], found and core.text(value_slice[0]) or nil)
  end
  local function savepoint()
    marks[#marks + 1] = { mark = C.tree_savepoint(tree), rows = copy(rows) }
  end
  local function open_cursor()
    local reverse = random(2) == 1
    cursors[#cursors + 1] = { cursor = C.tree_cursor_open(tree, core.slice(''), core.slice(''), reverse),
      expect = model_range(rows, '', '', reverse), shown = {}, marks = #marks }
  end
  local function step_cursor()
    local c = cursors[#cursors]
    if c and C.tree_cursor_next(c.cursor, key_slice, value_slice) then
      c.shown[#c.shown + 1] = core.text(key_slice[0]) .. '=' .. core.text(value_slice[0])
    end
  end
  local function close_cursor(abandoned)
    local c = table.remove(cursors)
    if not c then return end
    if not abandoned then
      local rest = drain(C.tree_cursor_next, c.cursor)
      if rest ~= '' then c.shown[#c.shown + 1] = rest end
      assert.equal(c.expect, table.concat(c.shown, ' '))
    end
    C.tree_cursor_close(c.cursor)
  end
  local function rollback()
    if #marks == 0 then return end
    local target = random(#marks)
    while cursors[1] and cursors[#cursors].marks >= target do close_cursor(true) end
    C.tree_rollback(tree, marks[target].mark)
    rows = copy(marks[target].rows)
    for i = #marks, target + 1, -1 do marks[i] = nil end
  end
  local function commit()
    while cursors[1] do close_cursor() end
    C.tree_commit(tree)
    marks = {}
  end
  local function view()
    commit()
    views[#views + 1] = { view = C.tree_view(tree), rows = copy(rows) }
  end
  local function release()
    if #views == 0 then return end
    local v = table.remove(views, random(#views))
    local lo, reverse = random_key(random), random(2) == 1
    assert.equal(model_range(v.rows, lo, '', reverse), view_range(v.view, lo, '', reverse))
    assert.equal(digest_of(v.rows), digest_text(C.view_digest(v.view)))
    assert.equal(digest_text(C.view_rehash(v.view)), digest_text(C.view_digest(v.view)))
    C.tree_view_release(tree, v.view)
  end
  local function sweep() C.tree_sweep(tree, random(30)) end

  local steps = { put, put, put, put, put, del, del, range, get, savepoint, open_cursor, step_cursor, step_cursor,
    close_cursor, rollback, commit, view, release, sweep, sweep }
  for step = 1, 60 + random(100) do
    steps[random(#steps)]()
    if step % 20 == 0 then check_whole(tree, rows) end
  end
  commit()
  check_whole(tree, rows)
  assert.equal(digest_of(rows), digest_text(C.tree_digest(tree)))
  while #views > 0 do release() end
  while C.tree_sweep(tree, 1) do end
  assert.equal(0, tonumber(C.tree_view_bytes(tree)))
  C.tree_free(tree)
end

describe('the state tree', function()
  it('does what a plain table does, over ' .. HISTORIES .. ' random histories', function()
    for seed = 1, HISTORIES do
      local ok, why = pcall(history, seed)
      if not ok then error(('seed %d: %s'):format(seed, type(why) == 'table' and why.message or tostring(why)), 0) end
    end
  end)

  it('keeps order, counts and digest over many rows put and deleted in order', function()
    local tree = C.tree_new()
    for i = 1, 20000 do
      local key = ('%08d'):format(i)
      C.tree_put(tree, core.slice(key), core.slice('x'))
    end
    C.tree_commit(tree)
    local cursor, seen = C.tree_cursor_open(tree, core.slice(''), core.slice(''), false), 0
    while C.tree_cursor_next(cursor, key_slice, value_slice) do
      seen = seen + 1
      C.tree_del(tree, key_slice[0])
    end
    C.tree_cursor_close(cursor)
    assert.equal(20000, seen)
    assert.equal(0, tonumber(C.tree_rows(tree)))
    local broken = C.tree_invariants(tree)
    assert.equal('none', broken ~= nil and ffi.string(broken) or 'none')
    local digest = C.tree_digest(tree)
    assert.equal('0ULL 0ULL', digest_text(digest))
    C.tree_rollback(tree, 0)
    assert.equal(20000, tonumber(C.tree_rows(tree)))
    broken = C.tree_invariants(tree)
    assert.equal('none', broken ~= nil and ffi.string(broken) or 'none')
    C.tree_free(tree)
  end)

  it('frees what a view held a little at a time, also while others are out', function()
    local tree, random = C.tree_new(), core.random(3)
    local function put(from, to)
      for i = from, to do C.tree_put(tree, core.slice(('%05d'):format(i)), core.slice(('v'):rep(100) .. random(1000))) end
      C.tree_commit(tree)
    end
    put(1, 5000)
    local first = C.tree_view(tree)
    put(1, 5000)
    local held = tonumber(C.tree_view_bytes(tree))
    assert.is_true(held > 500000)
    C.tree_view_release(tree, first)
    assert.equal(held, tonumber(C.tree_view_bytes(tree)))
    assert.is_true(C.tree_sweep(tree, 100))
    local left = tonumber(C.tree_view_bytes(tree))
    assert.is_true(left < held and left > held * 0.9)
    local second = C.tree_view(tree)
    local shown = view_range(second, '', '', false)
    put(2000, 3000)
    local steps = 0
    while C.tree_sweep(tree, 100) do steps = steps + 1 end
    assert.is_true(steps > 40)
    assert.equal(shown, view_range(second, '', '', false))
    C.tree_view_release(tree, second)
    while C.tree_sweep(tree, 100) do end
    assert.equal(0, tonumber(C.tree_view_bytes(tree)))
    assert.is_false(C.tree_sweep(tree, 100))
    C.tree_free(tree)
  end)

  it('stays in order through waves of rows put and deleted, upwards and downwards', function()
    for seed = 4, 6 do
      local random, tree, n = core.random(seed), C.tree_new(), 10000
      for wave = 1, 40 do
        local lo = random(n)
        local hi = math.min(n, lo + random(n / 2))
        local put, down = random(2) == 1, random(2) == 1
        local stride = random(3) == 1 and random(7) or 1
        for i = down and hi or lo, down and lo or hi, down and -stride or stride do
          local key = core.slice(('%07d'):format(i))
          if put then C.tree_put(tree, key, core.slice('v')) else C.tree_del(tree, key) end
        end
        C.tree_commit(tree)
        local broken = C.tree_invariants(tree)
        assert.equal('none', broken ~= nil and ffi.string(broken) or 'none', ('seed %d wave %d'):format(seed, wave))
      end
      C.tree_free(tree)
    end
  end)

  it('counts bytes of keys and values exactly', function()
    local tree = C.tree_new()
    C.tree_put(tree, core.slice('ab'), core.slice('12345'))
    C.tree_put(tree, core.slice('c'), core.slice(('x'):rep(100000)))
    assert.equal(2 + 5 + 1 + 100000, tonumber(C.tree_bytes(tree)))
    C.tree_put(tree, core.slice('c'), core.slice(''))
    assert.equal(2 + 5 + 1, tonumber(C.tree_bytes(tree)))
    C.tree_free(tree)
  end)
end)

describe('a key', function()
  local function encode(list)
    local buffer = core.buffer()
    for _, element in ipairs(list) do
      if type(element) == 'boolean' then C.key_append_boolean(buffer, element)
      elseif type(element) == 'number' then C.key_append_number(buffer, element)
      else C.key_append_text(buffer, core.slice(element)) end
    end
    return core.buffer_text(buffer)
  end

  local rank = { boolean = 1, number = 2, string = 3 }

  local function less(a, b)
    for i = 1, math.max(#a, #b) do
      local x, y = a[i], b[i]
      if x == nil then return y ~= nil end
      if y == nil then return false end
      if x ~= y then
        if type(x) ~= type(y) then return rank[type(x)] < rank[type(y)] end
        if type(x) == 'boolean' then return y end
        return x < y
      end
    end
    return false
  end

  local elements = { true, false, 0, -1, 1, 1.5, -1e300, 1e300, 2^53, -2^53, 5e-324, -5e-324, '', '\0', '\0\0', '\0\255',
    'a', 'a\0', 'a\0b', 'ab', 'b', '\255', 'a\1' }

  it('sorts as its values do', function()
    local random = core.random(7)
    for _ = 1, 20000 do
      local a, b = {}, {}
      for i = 1, random(3) do a[i] = elements[random(#elements)] end
      for i = 1, random(3) do b[i] = elements[random(#elements)] end
      assert.equal(less(a, b), encode(a) < encode(b))
      assert.equal(less(b, a), encode(b) < encode(a))
    end
  end)

  it('reads back what was written', function()
    local element = ffi.new('struct key_element[1]')
    for _, value in ipairs(elements) do
      local bytes = encode { value, 'end' }
      local reader = ffi.new('struct key_reader[1]')
      reader[0].rest = core.slice(bytes)
      assert.equal(0, tonumber(C.key_read(reader, element)))
      local e = element[0]
      local got
      if e.type == 1 then got = false elseif e.type == 2 then got = true
      elseif e.type == 3 then got = e.number else got = core.text(e.text) end
      assert.equal(value, got)
      assert.equal(0, tonumber(C.key_read(reader, element)))
      assert.equal('end', core.text(element[0].text))
      C.buffer_close(reader[0].scratch)
    end
  end)
end)
