-- Rows with a ttl, through the machine alone: held against a plain model in every method of a map, and in what on_expire is told.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'

local file = io.open('examples/formats/jsonl.lua')
local formats = { jsonl = file:read('*a') }
file:close()
for _, name in ipairs { 'sorted_text', 'csv_orders' } do
  file = io.open('examples/formats/' .. name .. '.lua')
  formats[name] = file:read('*a')
  file:close()
end

-- `run` does what a list of operations says, and gives what each gave; those inside a 'pcall' are undone.
local module = [=[
local look, run = {}, {}
function look.get(m, k) return m:get(k) end
function look.has(m, k) return m:has(k) end
function look.len(m, p) return m:len(p) end
function look.first(m, p) return { m:first(p) } end
function look.last(m, p) return { m:last(p) } end
function look.pairs(m, opts)
  local list = {}
  for k, v in m:pairs(nil, opts) do list[#list + 1] = { k, v } end
  return list
end
function look.range(m, lo, hi, opts)
  local list = {}
  for k, v in m:range(lo, hi, opts) do list[#list + 1] = { k, v } end
  return list
end
function run.put(m, k, v, ttl) m:put(k, v, ttl and { ttl = ttl }) end
function run.del(m, k) return m:del(k) end
function run.take(m, k) return m:take(k) end
function run.add(m, k, n) return m:add(k, n) end
function run.update(m, k, n) return m:update(k, function(old) if n == 0 then return nil end return (old or 0) + n end) end
function run.clear(m, p) return m:clear(p) end
local all
local function one(ctx, op)
  if op[1] == 'pcall' then
    pcall(function() all(ctx, op[2]) error('undo') end)
    return nil
  end
  return (run[op[1]] or look[op[1]])(ctx.db.rows, unpack(op, 2))
end
all = function(ctx, list)
  local out = {}
  for i, op in ipairs(list) do out[i] = { one(ctx, op) } end
  return out
end
return { name = 'm', version = 1, state = { rows = 'map', gone = 'map', other = 'map' },
  commands = { all = all, refused = function(ctx, list) all(ctx, list) return nil, 'no' end,
    other = function(ctx, n) for i = 1, n do ctx.db.other:put(i, i, { ttl = 1 }) end end,
    fickle = function(ctx) ctx.db.other:put('fickle', true) end },
  queries = { look = all, gone = function(ctx)
    local list = {}
    for _, v in ctx.db.gone:pairs() do list[#list + 1] = v end
    return list
  end },
  on_expire = function(ctx, map, key, value)
    if map == 'rows' then ctx.db.gone:put(ctx.id(), { key, value }) end
    if map == 'rows' and ctx.db.other:get('fickle') then error('no') end
  end }
]=]

describe('a row with a ttl', function()
  local m, start
  before_each(function()
    m = machine.new { m = module }
    start = m.now
  end)
  local function op(...) return m:call('m.all', { { ... } })[1][1] end
  local function look(...) return m:query('m.look', { { ... } })[1][1] end
  local function at(ms) m.now = start + ms end

  it('is there until its deadline, and no moment longer (bug 95)', function()
    op('put', 'a', 1, 100)
    at(99)
    assert.equal(1, op('get', 'a'))
    at(100)
    for _, method in ipairs { 'get', 'take' } do assert.is_nil(op(method, 'a')) end
    for _, method in ipairs { 'has', 'del' } do assert.is_false(op(method, 'a')) end
    for _, method in ipairs { 'len', 'clear' } do assert.equal(0, op(method)) end
    for _, method in ipairs { 'first', 'last', 'pairs', 'range' } do assert.same({}, op(method)) end
  end)

  it('is left out of prefixes, ranges and pages', function()
    for i, key in ipairs { { 'a', 1 }, { 'a', 2 }, { 'a', 3 }, { 'b', 1 }, { 'ab', 1 }, 'a' } do
      op('put', key, i, i % 2 == 0 and 100 or nil)
    end
    at(100)
    assert.equal(2, op('len', { 'a' }))
    assert.equal(0, op('len', { 'b' }))
    assert.equal(3, op('len', 'a'))
    assert.same({ { 'a', 1 }, 1 }, op('first', { 'a' }))
    assert.same({ { 'a', 3 }, 3 }, op('last', { 'a' }))
    assert.same({}, op('last', { 'b' }))
    assert.same({ { { 'a', 3 }, 3 } }, op('range', { 'a', 2 }, { 'ab' }))
    assert.same({ { { 'a', 3 }, 3 }, { { 'ab', 1 }, 5 } }, op('pairs', { limit = 2, after = { 'a', 1 } }))
    assert.equal(2, op('clear', { 'a' }))
    m:due()
    assert.same({ { { 'a', 2 }, 2 }, { { 'b', 1 }, 4 }, { 'a', 6 } }, m:query('m.gone'))
    assert.same({ { { 'ab', 1 }, 5 } }, look('pairs'))
  end)

  it('is seen by a query at the time of the query', function()
    op('put', 'a', 1, 100)
    m.query_now = start + 99
    assert.equal(1, look('get', 'a'))
    m.query_now = start + 100
    assert.is_nil(look('get', 'a'))
    assert.equal(0, look('len'))
    assert.equal(1, op('get', 'a'))
  end)

  it('is told of when a DUE takes it', function()
    op('put', { 'a', 1 }, { b = 2 }, 100)
    op('put', true, 'x', 50)
    assert.equal(start + 50, tonumber(m:status().next_due_ms))
    at(200)
    assert.same({}, m:query('m.gone'))
    m:due()
    assert.same({ { true, 'x' }, { { 'a', 1 }, { b = 2 } } }, m:query('m.gone'))
    m:due()
    assert.equal(2, #m:query('m.gone'))
    assert.equal(tostring(0xffffffffffffffffULL), tostring(m:status().next_due_ms))
  end)

  it('is told of though another has taken its place, with its own value', function()
    for _, over in ipairs { { 'put', 'a', 2 }, { 'del', 'a' }, { 'take', 'a' }, { 'add', 'a', 5 }, { 'update', 'a', 5 }, { 'clear' },
      { 'put', 'a', 3, 1000 } } do
      m = machine.new { m = module }
      start = m.now
      op('put', 'a', 1, 100)
      at(100)
      op(unpack(over))
      m:due()
      assert.same({ { 'a', 1 } }, m:query('m.gone'))
    end
  end)

  it('is told of no more when it was replaced or removed in time', function()
    for _, over in ipairs { { 'put', 'a', 2 }, { 'del', 'a' }, { 'take', 'a' }, { 'update', 'a', 0 }, { 'clear' } } do
      m = machine.new { m = module }
      start = m.now
      op('put', 'a', 1, 100)
      at(99)
      op(unpack(over))
      at(1000)
      m:due()
      assert.same({}, m:query('m.gone'))
      assert.equal(over[1] == 'put' and 2 or nil, look('get', 'a'))
    end
  end)

  it('keeps its time when it is added to or updated', function()
    op('put', 'a', 1, 100)
    assert.equal(3, op('add', 'a', 2))
    assert.equal(7, op('update', 'a', 4))
    at(100)
    m:due()
    assert.same({ { 'a', 7 } }, m:query('m.gone'))
  end)

  it('is gone though on_expire fails, and what that did is undone', function()
    op('put', 'a', 1, 100)
    m:call('m.fickle')
    at(100)
    m:due()
    assert.same({}, m:query('m.gone'))
    assert.equal(1, tonumber(m:status().timers_failed))
    assert.equal(0, look('len'))
  end)

  it('leaves nothing behind: rows, bytes and digest are those of a state that never had it', function()
    local rows, bytes = tonumber(m:status().rows), tonumber(m:status().bytes)
    for i = 1, 50 do op('put', i, i, 10 + i % 3) end
    for i = 1, 50, 3 do op('del', i) end
    for i = 2, 50, 3 do op('put', i, 0) op('del', i) end
    at(12)
    m:due()
    local more = tonumber(m:status().rows) - rows -- the map of what on_expire was told, its ids, and the last id of what waits
    assert.equal(#m:query('m.gone') + 2, more)
    assert.is_true(tonumber(m:status().bytes) - bytes < 3000)
  end)

  it('costs the same whether it is there or not to count, while nothing has run out', function()
    m:limit('budget', 100000)
    for _ = 1, 5 do m:call('m.other', 100) end
    assert.equal(0, op('len'))
    at(1)
    assert.equal(0, op('len'))
    m:due()
    assert.equal(0, op('len'))
  end)

  for _, name in ipairs { 'rows', 'jsonl', 'sorted_text', 'csv_orders' } do
    it('is in snapshots of the format ' .. name .. ', also when its time has come', function()
      if name ~= 'rows' then assert.is_true((m:entry(3, assert(machine.format(formats[name]))))) end
      op('put', 'a', 1, 100)
      op('put', 'b', { 2 }, 200)
      op('put', 'c', 'forever')
      op('put', 'd', 5, 100)
      at(150)
      op('put', 'd', 6, 1000)
      snapshot.with_disk(function(disk)
        local status, why = snapshot.take(m, disk, 'a')
        assert.equal('OK', status, why)
        local built = assert(snapshot.build(disk, 'a'))
        assert.equal(m:digest(), built:digest())
        m = built
        at(250)
        m:due()
        assert.same({ { 'a', 1 }, { 'd', 5 }, { 'b', { 2 } } }, m:query('m.gone'))
        assert.same({ { 'c', 'forever' }, { 'd', 6 } }, look('pairs'))
      end)
    end)
  end

  it('is shown with its deadline by formats, and by none but formats', function()
    op('put', 'a', 1, 100)
    assert.same({ { 'a', 1 } }, op('pairs'))
    snapshot.with_disk(function(disk, path)
      assert.equal('OK', (snapshot.take(m, disk, 'a', { format = assert(machine.format(formats.jsonl)), lossy = true })))
      local f = io.open(path .. '/a', 'rb')
      assert.truthy(f:read('*a'):find(('["m","rows","a",1,%.0f]'):format(start + 100), 1, true))
      f:close()
    end)
  end)
end)

-- The model: rows of integer keys, each { v, at, id }; what waits for on_expire in `waiting`.
local Model = {}
Model.__index = Model

local function copy(t)
  if type(t) ~= 'table' then return t end
  local c = {}
  for k, v in pairs(t) do c[k] = copy(v) end
  return c
end

function Model:get(k)
  local row = self.rows[k]
  if row and (not row.at or row.at > self.now) then return row end
end

function Model:drop(k)
  local row, seen = self.rows[k], self:get(k)
  self.rows[k] = nil
  if row and row.at and not seen then table.insert(self.waiting, { k, row.v, at = row.at, id = row.id }) end
  return seen
end

function Model:put(k, v, ttl)
  self:drop(k)
  local row = { v = v }
  if ttl then
    self.id = self.id + 1
    row.at, row.id = self.now + ttl, self.id
  end
  self.rows[k] = row
end

function Model:list()
  local list = {}
  for k = 1, 12 do if self:get(k) then list[#list + 1] = { k, self.rows[k].v } end end
  return list
end

local run = {}
function run.get(s, k) local row = s:get(k) return row and row.v end
function run.has(s, k) return s:get(k) ~= nil end
function run.len(s) return #s:list() end
function run.first(s) return s:list()[1] or {} end
function run.last(s) local list = s:list() return list[#list] or {} end
function run.pairs(s, opts)
  local list = s:list()
  if opts and opts.reverse then
    local back = {}
    for i = #list, 1, -1 do back[#back + 1] = list[i] end
    list = back
  end
  for i = #list, (opts and opts.limit or #list) + 1, -1 do list[i] = nil end
  return list
end
function run.range(s, lo, hi)
  local list = {}
  for _, row in ipairs(s:list()) do if row[1] >= lo and row[1] < hi then list[#list + 1] = row end end
  return list
end
function run.put(s, k, v, ttl) s:put(k, v, ttl) end
function run.del(s, k) return s:drop(k) ~= nil end
function run.take(s, k) local row = s:drop(k) return row and row.v end
function run.add(s, k, n)
  local row = s:get(k)
  if row then row.v = row.v + n return row.v end
  s:put(k, n)
  return n
end
function run.update(s, k, n)
  if n == 0 then s:drop(k) return nil end
  return run.add(s, k, n)
end
function run.clear(s)
  local count = #s:list()
  for k = 1, 12 do s:drop(k) end
  return count
end

function Model:all(list)
  local out = {}
  for i, op in ipairs(list) do
    if op[1] == 'pcall' then
      local rows, waiting, id = copy(self.rows), copy(self.waiting), self.id
      self:all(op[2])
      self.rows, self.waiting, self.id = rows, waiting, id
      out[i] = {}
    else
      out[i] = { run[op[1]](self, unpack(op, 2)) }
    end
  end
  return out
end

function Model:due()
  local list = {}
  for k, row in pairs(self.rows) do
    if row.at and row.at <= self.now then
      list[#list + 1] = { k, row.v, at = row.at, id = row.id }
      self.rows[k] = nil
    end
  end
  for _, one in ipairs(self.waiting) do list[#list + 1] = one end
  self.waiting = {}
  table.sort(list, function(a, b) return a.at ~= b.at and a.at < b.at or a.at == b.at and a.id < b.id end)
  for _, one in ipairs(list) do self.gone[#self.gone + 1] = { one[1], one[2] } end
end

local function random_ops(random, deep)
  local list = {}
  for i = 1, random(5) do
    local roll, k = random(deep and 24 or 20), random(12)
    if roll <= 6 then list[i] = { 'put', k, random(100), random(40) }
    elseif roll <= 8 then list[i] = { 'put', k, random(100) }
    elseif roll <= 10 then list[i] = { ({ 'del', 'take' })[random(2)], k }
    elseif roll == 11 then list[i] = { 'add', k, random(9) }
    elseif roll == 12 then list[i] = { 'update', k, random(3) - 1 }
    elseif roll == 13 and random(4) == 1 then list[i] = { 'clear' }
    elseif roll == 14 then list[i] = { 'pairs', { reverse = random(2) == 1, limit = random(8) } }
    elseif roll == 15 then list[i] = { 'range', random(6), 6 + random(6) }
    elseif roll <= 20 then list[i] = { ({ 'get', 'has', 'len', 'first', 'last' })[random(5)], k }
    else list[i] = { 'pcall', random_ops(random, false) } end
    local op = list[i]
    if op[1] == 'len' or op[1] == 'first' or op[1] == 'last' then list[i] = { op[1] } end
  end
  return list
end

describe('rows with a ttl over random histories', function()
  it('are those of the model, through a snapshot at every fifteenth step', function()
    snapshot.with_disk(function(disk)
      for seed = 1, 20 do
        local random = core.random(seed)
        local m = machine.new { m = module }
        local model = setmetatable({ now = m.now, rows = {}, waiting = {}, gone = {}, id = 0 }, Model)
        for at = 1, 150 do
          m.now = m.now + (random(2) == 1 and random(20) or 0)
          model.now = m.now
          local roll = random(100)
          if roll <= 70 then
            local ops = random_ops(random, true)
            assert.same(model:all(ops), m:call('m.all', ops))
          elseif roll <= 80 then m:call('m.refused', random_ops(random, true))
          else
            m:due()
            model:due()
          end
          assert.same({ { model:list() }, { #model:list() } }, m:query('m.look', { { 'pairs' }, { 'len' } }))
          assert.same(model.gone, m:query('m.gone'))
          if at % 15 == 0 then
            assert.equal('OK', (snapshot.take(m, disk, 'a')))
            local built = assert(snapshot.build(disk, 'a'))
            assert.equal(m:digest(), built:digest())
            local ops = random_ops(random, true)
            local wanted = model:all(ops)
            for _, one in ipairs { m, built } do
              assert.same(wanted, one:call('m.all', ops))
              one:due()
            end
            model:due()
            assert.equal(m:digest(), built:digest())
            m = built
          end
        end
      end
    end)
  end)
end)

describe('a query', function()
  it('depends on the clock if it meets a row with a ttl', function()
    local m = machine.new { m = [[
      local function none() end
      local q = { get = function(ctx, k) return ctx.db.rows:get(k) end, has = function(ctx, k) return ctx.db.rows:has(k) end,
        len = function(ctx) return ctx.db.rows:len() end, none = none,
        first = function(ctx) return (ctx.db.rows:first()) end, last = function(ctx) return (ctx.db.rows:last()) end,
        pairs = function(ctx) for k in ctx.db.rows:pairs() do if k == 'z' then return k end end end }
      return { name = 'm', version = 1, state = { rows = 'map' }, queries = q,
        commands = { put = function(ctx, k, ttl) ctx.db.rows:put(k, 1, ttl and { ttl = ttl }) end } }]] }
    local function timed()
      local out = {}
      for _, name in ipairs { 'get', 'has', 'len', 'first', 'last', 'pairs', 'none' } do
        m:query('m.' .. name, 'a')
        if m.C.machine_query_timed(m.m) then out[#out + 1] = name end
      end
      return out
    end
    m:call('m.put', 'a')
    assert.same({}, timed())
    m:call('m.put', 'a', 1000)
    m:call('m.put', 'z')
    assert.same({ 'get', 'has', 'len', 'first', 'pairs' }, timed())
  end)
end)
