-- What a module brings for the simulator: invariants on a machine, workloads and calls that are made up (script/trial.h).
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local ffi, C = core.ffi, core.load('script/trial.h', 'script/budget.h', 'state/tree.h', 'wire/json.h')

local function module(fields)
  return ("return { name = 'm', version = 1, state = { rows = 'map' }, %s }"):format(fields)
end

describe('an invariant', function()
  local COMMANDS = "commands = { add = function(ctx, n) return ctx.db.rows:add('n', n) end }"

  -- What does not hold after these were added: text, index.
  local function broken(invariant, ...)
    local m = machine.new { m = module(COMMANDS .. ', invariant = function(ctx) local rows = ctx.db.rows ' .. invariant .. ' end'),
      invariants = true }
    for i = 1, select('#', ...) do m:call('m.add', (select(i, ...))) end
    local index = ffi.new('raft_index[1]')
    local why = C.machine_broken(m.m, index)
    return why ~= nil and ffi.string(why) or nil, tonumber(index[0])
  end

  it('is run after every entry, the bundle too', function()
    assert.same({ nil, 0 }, { broken("assert((rows:get('n') or 0) < 9)", 1, 2, 3) })
    assert.same({ 'the invariant of m does not hold: too much', 4 }, { broken("return (rows:get('n') or 0) < 6, 'too much'", 1, 5, 1) })
    assert.same({ 'the invariant of m does not hold: it returned false', 2 }, { broken('return false') })
    assert.same({ 'the invariant of m does not hold: as commands say it', 2 }, { broken("return nil, 'as commands say it'") })
    assert.same({ nil, 0 }, { broken('return nil') })
  end)

  it('breaks by what it throws, and names the place', function()
    assert.equal('the invariant of m does not hold: module.lua:1: odd', (broken("error('odd')")))
    assert.equal('the invariant of m does not hold: ODD: it is', (broken("error { code = 'ODD', message = 'it is' }")))
    assert.equal('the invariant of m does not hold: ODD: it is', (broken("ctx.fail('ODD', 'it is')")))
  end)

  it('does not write', function()
    assert.truthy(broken("rows:put('n', 1)"):find('a query does not write', 1, true))
  end)

  it('has a budget', function()
    assert.truthy(broken('while true do end'):find('does not hold: BUDGET', 1, true))
  end)

  it('changes nothing that a node without it would see', function()
    local function digest(on)
      local m = machine.new { m = module(COMMANDS .. ', invariant = function(ctx) return ctx.random() < 2 end'), invariants = on }
      m:call('m.add', 2)
      return m:digest()
    end
    assert.equal(digest(false), digest(true))
  end)

  it('is a function', function()
    local _, why = machine.bundle('m', module(COMMANDS .. ', invariant = 1'))
    assert.equal('module.lua: invariant must be a function', why)
    _, why = machine.bundle('m', module(COMMANDS .. ', workload = {}'))
    assert.equal('module.lua: workload must be a function', why)
  end)
end)

-- A host with the module mounted.
local function new_host(text)
  local tree = ffi.gc(C.tree_new(), C.tree_free)
  local vm = ffi.gc(C.vm_new(tree, 64 * 1024 * 1024), function(vm)
    C.vm_free(vm)
    tree = nil -- the host ends first
  end)
  local why = core.buffer()
  local status = C.vm_mount_apart(vm, core.slice(assert(machine.bundle('m', text))), why)
  assert(tonumber(status) == 0, core.buffer_text(why))
  return vm
end

describe('a workload', function()
  local function ask(body, client, seed)
    local vm, result = new_host(module('commands = { c = function() end }, workload = function(ctx) ' .. body .. ' end')), core.buffer()
    local facts = ffi.new('struct vm_entry', { client = client or 3, now_ms = 1700000000007, seed = seed or 1 })
    local limits = ffi.new('struct vm_limits', { C.BUDGET_INSTRUCTIONS, C.BUDGET_DEPTH, 1024, 1048576, 1048576, 1048576 })
    C.vm_begin(vm, facts, limits)
    local outcome = C.vm_workload(vm, core.slice('m'), result)
    C.vm_end(vm)
    local value = machine.unpack(core.buffer_text(result))
    if outcome == C.VM_OK then return value end
    return nil, value.message
  end

  it('sees its client, the time, and random numbers of its seed', function()
    assert.same({ 'c', 3, 1700000000007 }, ask("return { 'c', ctx.client, ctx.now }"))
    assert.equal(ask('return ctx.random()', 1, 5), ask('return ctx.random()', 1, 5))
    assert.are_not.equal(ask('return ctx.random()', 1, 5), ask('return ctx.random()', 1, 6))
  end)

  it('pauses with nil', function() assert.is_nil(ask('return nil')) end)

  it('sees nothing else', function()
    for body, text in pairs {
      ["return { ctx.db.rows:get('a') }"] = 'a workload sees no state',
      ['return { ctx.index }'] = "the ctx of a workload has no field 'index'; there are random now client",
      ["ctx.db.rows:put('a', 1)"] = 'a workload sees no state',
    } do
      local _, why = ask(body)
      assert.truthy((why or 'nothing'):find(text, 1, true), why)
    end
  end)
end)

describe('a call that is made up', function()
  -- JSON of `count` lists of arguments.
  local function made(args, count)
    local vm = new_host(module(("commands = { c = { args = '%s', run = function() end } }"):format(args)))
    local prng, out = ffi.new('struct prng'), {}
    C.prng_seed(prng, 1)
    for i = 1, count do
      local packed, text = core.buffer(), core.buffer()
      C.vm_make_up(vm, core.slice('m.c'), prng, packed)
      assert.equal(0, tonumber(C.json_write(text, core.slice(core.buffer_text(packed)))))
      out[i] = core.buffer_text(text)
    end
    return out
  end

  it('is what the declaration takes', function()
    local args = 'a b:int c:number d:bool e:ms f:json g:any h:flag i:int=3 [j] k...'
    local text = module(("commands = { c = { args = '%s', run = function() end } }"):format(args))
    local m, vm = machine.new { m = text }, new_host(text)
    local prng = ffi.new('struct prng')
    C.prng_seed(prng, 7)
    for _ = 1, 500 do
      local packed = core.buffer()
      C.vm_make_up(vm, core.slice('m.c'), prng, packed)
      local ok, value = m:entry(4, machine.pack('m.c') .. core.buffer_text(packed))
      assert.is_true(ok, type(value) == 'table' and value.message or nil)
    end
  end)

  it('meets others at few keys, leaves out what may be left out, and finds edges', function()
    local seen, nils = {}, 0
    for _, list in ipairs(made('key [n:int]', 400)) do
      local key, n = list:match('^%[(".-"),(.*)%]$')
      seen[key] = (seen[key] or 0) + 1
      nils = nils + (n == 'null' and 1 or 0)
    end
    assert.is_true(seen['"a"'] > 50 and seen['"d"'] > 50 and seen['""'] > 0)
    assert.is_true(nils > 100 and nils < 300)
  end)

  it('is the same by the same seed', function() assert.same(made('a b:any', 50), made('a b:any', 50)) end)
end)
