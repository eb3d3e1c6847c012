-- The verdict on anybody's service (sim/service.h): answers are made false one by one, and it must say so.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local replicas = require 'spec.support.replicas'
local ffi, C = core.ffi, core.load('sim/service.h', 'base/checksum.h')

local MODULE = [[
return { name = 'till', version = 1, state = { coins = 'map' },
  commands = {
    add = { args = 'name n:int=1', run = function(ctx, name, n) return ctx.db.coins:add(name, n) end },
    take = { args = 'name', run = function(ctx, name) return ctx.db.coins:take(name) or ctx.fail('EMPTY', 'nothing there') end } },
  queries = {
    value = { args = 'name', run = function(ctx, name) return ctx.db.coins:get(name) or 0 end },
    now = function(ctx) return ctx.now end } }]]

local bundle = machine.bundle('till', MODULE)

-- A world of one node, and a service that is told what its clients were told.
local function new_trial()
  local w = replicas.new { nodes = 1, keep_log = true, bundles = machine.pack { bundle } }
  w:start(0)
  w:until_true('the service answers', function() return w:wait(w:ask(0, { timeout = 400, query = true }, 'till.now')).ok end)
  local why = core.buffer()
  local service = ffi.gc(C.service_new(core.slice(bundle), why), C.service_free)
  local t = { w = w, workload = C.service_workload(service), service = service }

  function t.begin(client, query, name, ...)
    local args = machine.pack { n = select('#', ...), ... }
    t.workload.begun(t.workload.context, client, core.slice(name), core.slice(args), core.slice(''), query)
    return w:ask(0, { query = query }, name, ...)
  end

  -- The request ended; `lie` changes what the client is told: a reply and its outcome.
  function t.finish(client, number, lie)
    w:wait(number)
    local reply = C.replica_world_reply(w.world, number)
    local told = { reply = reply, outcome = reply.ok and C.SWARM_OK or C.SWARM_REFUSED }
    if lie then lie(told) end
    t.workload.ended(t.workload.context, client, 0, told.outcome, told.reply)
  end

  function t.call(lie, name, ...) t.finish(1, t.begin(1, false, name, ...), lie) end
  function t.query(lie, name, ...) t.finish(1, t.begin(1, true, name, ...), lie) end

  function t.verdict()
    w:equal()
    local wrong = t.workload.verdict(t.workload.context, w.world, 0)
    return wrong ~= nil and ffi.string(wrong) or nil
  end
  return t
end

local kept = {}
local function says(value)
  return function(told)
    local bytes = machine.pack(value)
    kept[#kept + 1] = bytes
    told.reply.value = core.slice(bytes)
  end
end

describe('the verdict on a service', function()
  local t
  before_each(function() t = new_trial() end)

  local function finds(text) assert.truthy((t.verdict() or 'nothing'):find(text, 1, true), t.verdict()) end

  it('is good when clients were told what the log gives', function()
    t.call(nil, 'till.add', 'a', 3)
    t.call(nil, 'till.take', 'b')
    t.call(nil, 'till.take', 'a')
    t.query(nil, 'till.value', 'a')
    t.query(nil, 'till.now')
    assert.is_nil(t.verdict())
  end)

  it('is not when an answer is another', function()
    t.call(says(4), 'till.add', 'a', 3)
    finds('client 1: till.add ["a",3]: was told ok 4 at index')
    finds('its entry gives ok 3')
  end)

  it('is not when a refusal was called ok', function()
    t.call(function(told) told.outcome = C.SWARM_OK end, 'till.take', 'b')
    finds('its entry gives refused {"code":"EMPTY"')
  end)

  it('is not when the answer is that of another entry', function()
    local one, two = t.begin(1, false, 'till.add', 'a', 3), t.begin(2, false, 'till.add', 'b', 3)
    t.w:wait(one)
    t.finish(2, two, function(told) told.reply.index = C.replica_world_reply(t.w.world, one).index end)
    finds('the log has another entry there')
  end)

  it('is not when an acknowledged command is not in the log', function()
    t.call(function(told) told.reply.index = told.reply.index + 1 end, 'till.add', 'a', 3)
    finds('the log has another entry there')
  end)

  it('is not when one entry answers two commands', function()
    local one, two = t.begin(1, false, 'till.add', 'a', 0), t.begin(2, false, 'till.add', 'a', 0)
    t.finish(1, one)
    local index = C.replica_world_reply(t.w.world, one).index
    t.finish(2, two, function(told) told.reply.index = index end)
    finds('that is the answer to another command')
  end)

  it('is not when what certainly had no effect is in the log', function()
    t.call(function(told)
      told.outcome, told.reply.index = C.SWARM_REFUSED, 0
    end, 'till.add', 'a', 3)
    finds('client 1: till.add ["a",3]: is in the log 1 times: 0 were told so, 0 do not know')
  end)

  it('is good when nobody knows', function()
    t.call(function(told) told.outcome = C.SWARM_UNKNOWN end, 'till.add', 'a', 3)
    assert.is_nil(t.verdict())
  end)

  it('is not when the log has what nobody asked for', function()
    t.w:call(0, 'till.add', 'a', 3)
    finds('the log has a command that nobody asked for')
  end)

  it('is not when a query gave what the state did not hold', function()
    t.call(nil, 'till.add', 'a', 3)
    t.query(says(2), 'till.value', 'a')
    finds('the state there gives ok 3')
  end)

  it('is not when a query saw a state from before its begin', function()
    t.call(nil, 'till.add', 'a', 3)
    t.query(function(told)
      told.reply.index = told.reply.index - 1
      says(0)(told)
    end, 'till.value', 'a')
    finds('was known when it began')
  end)

  it('is not when a command came before what was known at its begin', function()
    local early = t.begin(2, false, 'till.add', 'a', 1)
    t.w:wait(early)
    t.call(nil, 'till.add', 'a', 1)
    t.workload.begun(t.workload.context, 3, core.slice('till.add'), core.slice(machine.pack { 'a', 1 }), core.slice(''), false)
    t.finish(3, early)
    finds('was known when it began')
  end)
end)

describe('a service', function()
  local function refusal(text)
    local why = core.buffer()
    local bytes = machine.bundle('m', text)
    assert.is_true(C.service_new(core.slice(bytes), why) == nil)
    return core.buffer_text(why)
  end

  it('without commands to make up wants a workload', function()
    assert.truthy(refusal("return { name = 'm', version = 1, apply = function() end }"):find('give it a function workload', 1, true))
  end)

  it('whose init fails is refused', function()
    assert.equal('init: module.lua:1: no luck',
      refusal("return { name = 'm', version = 1, commands = { c = function() end }, init = function() error('no luck') end }"))
  end)
end)

describe('a seed of a service', function()
  local function run(seed, traced, text)
    text = text or assert(io.open('examples/bank.lua')):read('*a')
    local bytes, why = assert(machine.bundle(text:match("name = '(%w+)'"), text)), core.buffer()
    local service = ffi.gc(C.service_new(core.slice(bytes), why), C.service_free)
    local bundles, transcript = machine.pack { bytes }, core.buffer()
    local how = ffi.new('struct swarm_options', { seed = seed, clients = 8, commands_per_second = 100, fault_ms = 5000, faults = -1ULL,
      bundles = core.slice(bundles), invariants = true, workload = C.service_workload(service) })
    local swarm = ffi.gc(C.swarm_new(how), C.swarm_free)
    if traced then
      C.replica_world_trace(C.swarm_world(swarm), ffi.new('struct trace_sink', { C.transcript_gather, transcript }))
    end
    local r = ffi.new('struct swarm_report')
    C.swarm_run(swarm, r)
    assert.is_true(r.broken == nil, r.broken ~= nil and ffi.string(r.broken) or nil)
    return tostring(r.hash), core.buffer_text(transcript)
  end

  it('has sessions where commands demand them: opened, asked in again, run out', function()
    local tills = [[
return { name = 'tills', version = 1, state = { coins = 'map' },
  commands = {
    add = { args = 'name n:int', session = true, run = function(ctx, name, n) return ctx.db.coins:add(name, n) end },
    take = { args = 'name', run = function(ctx, name) return ctx.db.coins:take(name) or ctx.fail('EMPTY', 'nothing there') end } },
  queries = { value = { args = 'name', run = function(ctx, name) return ctx.db.coins:get(name) or 0 end } } }]]
    local began, asked, opened, expired = 0, 0, 0, 0
    for seed = 1, 8 do
      local _, transcript = run(seed, true, tills)
      assert.is_nil(transcript:find('NO_SESSION', 1, true))
      for line in transcript:gmatch('[^\n]+') do
        local asks = line:find('"kind":"request"', 1, true)
        if line:find('"kind":"begin"', 1, true) then began = began + 1 end
        if asks and line:find('"name":"tills.', 1, true) then asked = asked + 1 end
        if asks and line:find('"name":"tidelock.session_open"', 1, true) then opened = opened + 1 end
        if line:find('"kind":"reply"', 1, true) and line:find('SESSION_EXPIRED', 1, true) then expired = expired + 1 end
      end
    end
    assert.is_true(began > 100 and asked > began + 5, began .. ' ' .. asked)
    assert.is_true(opened > 20 and expired > 0, opened .. ' ' .. expired)
  end)

  it('is the same with and without its transcript, and in every build', function()
    local hashes = {}
    for seed = 1, 4 do
      local hash, transcript = run(seed, true)
      assert.equal(hash, (run(seed, false)))
      assert.truthy(transcript:find('"name":"bank.transfer"', 1, true))
      hashes[seed] = ('%d %s'):format(seed, tostring(core.C.hash64(transcript, #transcript)))
    end
    -- The suite compares what the builds wrote here.
    local file = assert(io.open(core.build .. '/service.transcripts', 'w'))
    file:write(table.concat(hashes, '\n'), '\n')
    file:close()
  end)
end)
