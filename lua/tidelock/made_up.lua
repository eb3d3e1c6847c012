-- tidelock/made_up.lua: what a service could be told: commands and queries drawn by a seed, from its workload or its declared args.
--
-- Keys and texts are few, so that calls meet; what was answered before is used again, as ids and tokens are; and now and then a value is
-- at an edge: what a number or a text can be and hardly ever is.
local test, wire = require 'tidelock.test', require 'tidelock.wire'

local made_up = {}

-- --- chance --------------------------------------------------------------------------------------------------------------------

-- A draw of 1..n, by a seed (Park and Miller's generator).
local function chance(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

local function pick(draw, list) return list[draw(#list)] end

-- --- what a module declares ----------------------------------------------------------------------------------------------------

-- "key [n:int=1] more..." -> { { type, optional, rest }, ... }
local function declared(text)
  local out = {}
  for word in text:gmatch('%S+') do
    local inner = word:match('^%[(.*)%]$')
    local body = inner or word
    out[#out + 1] = { type = body:match(':(%a+)') or 'text', optional = inner ~= nil or body:find('=', 1, true) ~= nil,
      rest = body:find('...', 1, true) ~= nil }
  end
  return out
end

-- Runs the module in plain Lua, to read what it says of itself.
local function load_module(bundle)
  local _, value = wire.unpack(bundle)
  local main, sources, loaded = value[4], {}, {}
  for _, pair in ipairs(value[5]) do sources[pair[1]] = pair[2] end
  local env = setmetatable({ math = setmetatable({ ipow = function(x, n)
    local y = 1
    for _ = 1, n do y = y * x end
    return y
  end }, { __index = math }) }, { __index = _G })
  function env.require(name)
    if loaded[name] == nil then
      local chunk, why = loadstring(sources[name] or error('there is no ' .. name, 0), '=' .. name .. '.lua')
      if not chunk then error(why, 0) end
      loaded[name] = setfenv(chunk, env)() or true
    end
    return loaded[name]
  end
  return env.require(main)
end

-- What can be asked of the mounts: { { name, query, args (nil: not declared) }, ... } sorted by name, and { mount = workload }.
function made_up.look(bundles)
  local calls, workloads = {}, {}
  for mount, bundle in pairs(bundles) do
    local module = load_module(bundle)
    for kind, list in pairs { command = module.commands or {}, query = module.queries or {} } do
      for name, f in pairs(list) do
        calls[#calls + 1] = { name = mount .. '.' .. name, query = kind == 'query',
          args = type(f) == 'table' and f.args and declared(f.args), none = type(f) == 'table' and not f.args }
      end
    end
    if module.workload then workloads[#workloads + 1] = { mount = mount, run = module.workload } end
    if module.apply and not module.workload then
      error(mount .. ': it dispatches itself: without a workload nobody knows what to call', 0)
    end
  end
  table.sort(calls, function(a, b) return a.name < b.name end)
  table.sort(workloads, function(a, b) return a.mount < b.mount end)
  return calls, workloads
end

-- --- values --------------------------------------------------------------------------------------------------------------------

local texts = { 'a', 'b', 'c', 'd' }
local edge_texts = { '', 'a\0b', ('x'):rep(2000), '\255\254', '\195\169', '0', 'a b', '-1', 'true', '\127', 'a/b', ('key'):rep(400) }
local edge_numbers = { -0.0, 0, -1, 2 ^ 31, -2 ^ 31, 2 ^ 53, -2 ^ 53, 2 ^ 53 - 1, 1e300, 5e-324, 0.1, 0 / 0, 1 / 0, -1 / 0, 0.5, 1e15 }
local small = { 0, 1, 2, 3, 5, 10, 100 }

local makers = {}

function makers.text(draw, pool, edge)
  if edge then return pick(draw, edge_texts) end
  if #pool.text > 0 and draw(3) == 1 then return pick(draw, pool.text) end
  return pick(draw, texts)
end

function makers.int(draw, pool, edge)
  if edge then return pick(draw, edge_numbers) end
  if #pool.number > 0 and draw(2) == 1 then return pick(draw, pool.number) end
  return pick(draw, small)
end

function makers.number(draw, pool, edge)
  if draw(2) == 1 and not edge then return (draw(40) - 10) / 4 end
  return makers.int(draw, pool, edge)
end

function makers.bool(draw) return draw(2) == 1 end
makers.flag = makers.bool

function makers.ms(draw, _, edge)
  if edge then return pick(draw, { 0, -1, 1, 0.5, 2 ^ 53, '5s', '1d', 'x', 0 / 0 }) end
  return pick(draw, { 1, 50, 500, 1000, 5000, 60000 })
end

function makers.json(draw, pool, edge)
  local kind = draw(7)
  if kind == 1 then return { makers.int(draw, pool), makers.text(draw, pool) } end
  if kind == 2 then return { n = makers.int(draw, pool), name = makers.text(draw, pool) } end
  if kind == 3 then return { 3, 1, 2, 5, 4 } end
  if kind == 4 then return edge and {} or draw(2) == 1 end
  return makers.int(draw, pool, edge)
end

function makers.any(draw, pool, edge)
  if draw(2) == 1 then return makers.text(draw, pool, edge) end
  return makers.json(draw, pool, edge)
end

local function arguments(draw, call, pool)
  local out, n = {}, 0
  local list = call.args
  if not list then
    list = {}
    for i = 1, call.none and 0 or draw(4) - 1 do list[i] = { type = 'any' } end
  end
  for _, arg in ipairs(list) do
    for _ = 1, arg.rest and draw(4) - 1 or 1 do
      n = n + 1
      if not arg.optional or draw(2) == 1 then out[n] = makers[arg.type](draw, pool, draw(10) == 1) end
    end
  end
  return n, out
end

-- Keeps an answer's texts and numbers: ids and tokens go back to where they came from.
local function remember(pool, value)
  if type(value) == 'table' then
    for _, v in pairs(value) do if type(v) ~= 'table' then remember(pool, v) end end
    return
  end
  local list = pool[type(value)]
  if not list then return end
  table.insert(list, 1, value)
  list[9] = nil
end

-- --- sequences -----------------------------------------------------------------------------------------------------------------

local function from_workload(draw, workload, h)
  local ctx = { now = h.clock, client = draw(4), map = function() return {} end }
  function ctx.random(m, n)
    if not m then return (draw(2147483646) - 1) / 2147483646 end
    if not n then m, n = 1, m end
    return m + draw(n - m + 1) - 1
  end
  local ok, call = pcall(workload.run, ctx)
  if not ok or type(call) ~= 'table' or type(call[1]) ~= 'string' then return nil end
  local name = call[1]:find('.', 1, true) and call[1] or workload.mount .. '.' .. call[1]
  local n = table.maxn(call)
  return name, n - 1, { unpack(call, 2, n) }
end

local function pass_time(draw, h)
  h.clock = h.clock + pick(draw, { 1, 10, 100, 1000, 10000, 60000 })
  for _ = 1, 20 do
    local due = h.machine:status().next_due
    if not due or due > h.clock then return end
    h:step { op = 'due' }
  end
end

-- The answer of a step, kept in the pool.
local function do_step(h, step, pool)
  local ok, bytes = h:step(step)
  if not ok then return nil end
  local _, value = wire.unpack(bytes)
  remember(pool, value)
  return value
end

-- Plays `count` steps made up by a seed on a host of its own; their list, for other hosts.
function made_up.steps(bundles, seed, count)
  local calls, workloads = made_up.look(bundles)
  if #calls + #workloads == 0 then error('there is nothing to call', 0) end
  local draw, pool = chance(seed), { text = {}, number = {} }
  for _ = 1, 3 do draw(2) end -- the first ones of seeds that are neighbours are much the same
  local h = test.host_of(bundles, { seed = seed, recording = true })
  local session, seq = nil, 0
  for _ = 1, count do
    if draw(4) == 1 then pass_time(draw, h) end
    local name, n, list, query
    if #workloads > 0 and draw(3) > 1 then name, n, list = from_workload(draw, pick(draw, workloads), h) end
    if not name and #calls > 0 then
      local call = pick(draw, calls)
      name, query = call.name, call.query
      n, list = arguments(draw, call, pool)
    end
    if list then list.n = n end
    for _, call in ipairs(calls) do if call.name == name then query = call.query end end
    local step = name and { op = query and 'query' or 'call', name = name, args = test.pack_list(n, list), list = list }
    if step and not query and draw(6) == 1 then
      if not session or draw(8) == 1 then
        session, seq = do_step(h, { op = 'session', what = { 'open', pick(draw, { 1000, 60000, 600000 }) } }, pool), 0
      end
      if session then
        if seq == 0 or draw(3) > 1 then seq = seq + 1 end
        step.ticket = { session, seq, math.max(1, seq - 3) }
      end
    end
    if step then do_step(h, step, pool) end
  end
  h:close()
  return h.steps
end

return made_up
