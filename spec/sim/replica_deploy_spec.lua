-- New code through whole nodes: requests to the host, and a migration that outlives its leader.
local machine = require 'spec.support.machine'
local W = require 'spec.support.replicas'

-- The counter's next version: its rows move to another map, `step` at a time.
local function second(step, more)
  return ([[
return { name = 'counter', version = 2, state = { sum = 'map' },
  migrate = function(ctx)
    local n = 0
    for name, value in ctx.db.count:pairs(nil, { limit = %d }) do
      ctx.db.sum:put(name, value * 10)
      ctx.db.count:del(name)
      n = n + 1
    end
    %s
    return n == %d and 'more' or nil
  end,
  commands = { add = { args = 'name n:int=1', run = function(ctx, name, n) return ctx.db.sum:add(name, n) end } },
  queries = { value = { args = 'name', run = function(ctx, name) return ctx.db.sum:get(name) or 0 end } } }]]):format(step, more or '', step)
end

local function bundle_of(text)
  local bundle, why = machine.bundle('counter', text)
  assert.is_string(bundle, why)
  return bundle
end

local function other(w, node) return (node + 1) % w.nodes end

local function in_force(w, node)
  for _, one in ipairs(w:query(node, 'tidelock.code').value) do
    if one.mount == 'counter' then return one end
  end
end

local function facts(w, node) return { kind = 'machine', mount = 'counter', expect = in_force(w, node).hash } end

local function filled(count)
  local w = W.formed()
  for i = 1, count do assert(w:call(0, 'counter.add', 'n' .. i, i).ok) end
  return w
end

describe('a deploy', function()
  it('is taken by any node, and takes effect on all', function()
    local w = filled(3)
    local follower = other(w, w:leader())
    local reply = w:call(follower, 'tidelock.deploy', facts(w, follower), bundle_of(second(100)))
    assert.is_true(reply.ok, reply.message)
    assert.equal(2, reply.value.version)
    for node = 0, 2 do assert.equal(20, w:query(node, 'counter.value', 'n2').value) end
    assert.equal(2, in_force(w, follower).version)
    w:equal()
  end)

  it('of nonsense is refused, definitely', function()
    local w = filled(1)
    local bundle = bundle_of(second(100))
    for _, args in ipairs { {}, { 1, 2 }, { facts(w, 0) }, { { kind = 'machine', mount = 'counter' }, bundle },
      { { kind = 'machine', mount = 'counter', expect = '', undeploy = true }, bundle } } do
      local reply = w:call(w:leader(), 'tidelock.deploy', unpack(args))
      assert.same({ 'BAD_ARGS', true }, { reply.code, reply.definite })
    end
    assert.equal('CONFLICT', w:call(0, 'tidelock.deploy', { kind = 'machine', mount = 'counter', expect = '' }, bundle).code)
    assert.equal('NOT_FOUND', w:call(0, 'tidelock.undeploy', { kind = 'machine', mount = 'none', expect = '' }).code)
    assert.equal('BAD_REQUEST', w:wait(w:ask(0, { query = true }, 'tidelock.deploy', facts(w, 0), bundle)).code)
  end)

  it('may be as large as a bundle', function()
    local w = filled(1)
    local text = '--' .. ('x'):rep(900000) .. '\n'
    local files = { { 'module', second(100) } }
    for i = 1, 6 do files[#files + 1] = { 'part' .. i, text .. 'return {}' } end
    local bundle = machine.pack { 1, 'machine', 'counter', 'module', files }
    local reply = w:wait(w:ask(other(w, w:leader()), { timeout = 10000 }, 'tidelock.deploy', facts(w, 0), bundle))
    assert.is_true(reply.ok, reply.message)
    assert.equal(#bundle, #w:query(0, 'tidelock.code', 'counter').value)
    local reply_to_arguments = w:call(0, 'counter.add', ('x'):rep(1100000))
    assert.equal('TOO_LARGE', reply_to_arguments.code)
  end)
end)

describe('a migration in many entries', function()
  it('is driven to its end by the leader', function()
    local w = filled(20)
    local reply = w:call(0, 'tidelock.deploy', facts(w, 0), bundle_of(second(3)))
    assert.is_true(reply.value.migrating)
    w:until_true('it is done', function() return w:query(0, 'counter.value', 'n7').value == 70 end)
    w:equal()
  end)

  it('is driven on by the next leader when its own has died', function()
    for seed = 1, 5 do
      local w = W.formed { seed = seed }
      for i = 1, 40 do w:call(0, 'counter.add', 'n' .. i, i) end
      local leader = w:leader()
      local reply = w:call(leader, 'tidelock.deploy', facts(w, leader), bundle_of(second(1)))
      assert.is_true(reply.value.migrating)
      w:run(10 * seed)
      w:crash(leader)
      local alive = other(w, leader)
      w:until_true('it is done', function() return w:query(alive, 'counter.value', 'n40').value == 400 end)
      w:start(leader)
      w:equal()
      assert.equal(70, w:query(leader, 'counter.value', 'n7').value)
    end
  end)

  it('that fails late leaves the old code and its rows on every node', function()
    local w = filled(20)
    local bundle = bundle_of(second(3, 'if ctx.db.sum:len() > 10 then error("late") end'))
    assert.is_true(w:call(0, 'tidelock.deploy', facts(w, 0), bundle).value.migrating)
    w:until_true('it was taken back', function() return in_force(w, 0).version == 1 end)
    for i = 1, 20 do assert.equal(i, w:query(i % 3, 'counter.value', 'n' .. i).value) end
    assert.equal(21, w:call(1, 'counter.add', 'n20').value)
    w:equal()
  end)

  it('lets nobody wait in vain: requests are told that it goes on', function()
    local w = filled(9)
    local endless = second(1, 'ctx.db.sum:add("round", 1) ctx.db.count:add("n1", 0)')
    assert.is_true(w:call(0, 'tidelock.deploy', facts(w, 0), bundle_of(endless)).value.migrating)
    for node = 0, 2 do
      local reply = w:call(node, 'counter.add', 'n1')
      assert.same({ 'BUSY', true }, { reply.code, reply.definite })
    end
    local aborted = facts(w, 0)
    aborted.abort = true
    assert.is_true(w:call(0, 'tidelock.undeploy', aborted).value)
    assert.equal(2, w:call(1, 'counter.add', 'n1').value)
    w:equal()
  end)
end)
