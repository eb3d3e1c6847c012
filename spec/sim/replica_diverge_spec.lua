-- A state that is not the majority's: found, named, parked, rebuilt; the others serve on (replica/diverge.c, rebuild.c, scrub.c).
local core = require 'spec.support.core'
local W = require 'spec.support.replicas'

local service = [[
return { name = 'many', version = 1, state = { rows = 'map', other = 'map' },
  commands = {
    put = function(ctx, k, v) ctx.db.rows:put(k, v) end,
    add = function(ctx, k) return ctx.db.rows:add(k, 1) end,
    copy = function(ctx, k, to) ctx.db.other:put(to, ctx.db.rows:get(k)) end,
    see = function(ctx, k) return ctx.db.rows:get(k) end,
    fill = function(ctx, n) for i = 1, n do ctx.db.rows:put(i, 2 * i) end end },
  queries = { get = function(ctx, k) return ctx.db.rows:get(k) end },
}]]

local bundles = W.bundles { many = service }

local function formed(options, rows)
  options = options or {}
  options.bundles = bundles
  local w = W.new(options)
  w:start_all()
  w:until_true('the service answers', function()
    return w:leader() ~= W.NOBODY and w:wait(w:ask(w:leader(), { timeout = 900 }, 'many.fill', rows or 300)).ok
  end)
  w:equal()
  return w
end

-- A bit of one row flips; -> how it is called, its key
local function rot(w, node, rank)
  local what = core.buffer()
  assert.is_true(w.C.replica_world_rot(w.world, node, rank, what))
  local name = core.buffer_text(what)
  return name, tonumber(name:match('^many%.rows key (%d+)$'))
end

local function rebuild(w, node, timeout)
  return w:wait(w.C.replica_world_rebuild(w.world, node, timeout or 20000), (timeout or 20000) + 1000)
end

local function why(w, node) return core.ffi.string(w:status(node).parked_why) end

local function parks(w, node, within)
  w:until_true('the node parks', function() return w:status(node).parked_at > 0 end, within or 4000)
  return why(w, node)
end

local function a_follower(w) return (w:leader() + 1) % w.nodes end

describe('a row that rotted', function()
  it('is found by the next command that reads it within two heartbeats, and named (bug 112)', function()
    for _, command in ipairs { 'add', 'copy', 'see' } do
      local w = formed()
      local node = a_follower(w)
      local name, key = rot(w, node, 100)
      assert.equal(2 * key, w:call(w:leader(), 'many.see', key + 1).value - 2)
      assert.is_false(w:status(node).parked)
      assert.is_true(w:call(w:leader(), 'many.' .. command, key, 'x').ok)
      local began = tonumber(w.C.replica_world_now(w.world))
      w:until_true('it answers nothing', function() return w:status(node).parked end, 2 * 30 + 40)
      assert.equal('PARKED', w:wait(w:ask(node, { stale = true, query = true }, 'many.get', key)).code)
      local said = parks(w, node)
      local first = command == 'copy' and 'many.other key "x"' or name -- what came of it, in an earlier map
      assert.truthy(said:find(first .. ' is ', 1, true), command .. ': ' .. said)
      assert.is_true(tonumber(w.C.replica_world_now(w.world)) - began < 2000)
      for i = 1, 20 do assert.is_true(w:call(node, 'many.put', 'x', i).ok) end -- forwarded; it stores and acknowledges
    end
  end)

  it('of a leader hands leadership over', function()
    local w = formed()
    local node = w:leader()
    local name, key = rot(w, node, 17)
    w:call(node, 'many.see', key)
    assert.truthy(parks(w, node):find(name, 1, true))
    w:until_true('another leads', function() return w:leader() ~= node and w:leader() ~= W.NOBODY end)
    assert.equal(2 * key, w:wait(w:ask(w:leader(), { query = true }, 'many.get', key)).value)
  end)

  it('is found at rest by the scrub, whole or slice by slice, and by nobody without', function()
    for _, rows in ipairs { 50, 4000 } do
      local w = formed({ scrub_rate = 64 * 1024 }, rows)
      local node = a_follower(w)
      w:until_true('a pass', function() return w:status(node).scrubbed > 0 end)
      local name = rot(w, node, rows / 2)
      assert.truthy(parks(w, node, 25000):find(name, 1, true))
      for i = 0, 2 do assert.equal(i == node, w:status(i).parked) end
    end
    local w = formed()
    rot(w, 1, 3)
    w:run(20000)
    for i = 0, 2 do assert.is_false(w:status(i).parked) end
  end)

  it('is gone after a rebuild, while the others serve on', function()
    for round = 1, 3 do
      local w = formed({ seed = round, snapshots = round == 3 and { entries = 40, keep = 10 } or nil }, 1000)
      local node = round == 2 and w:leader() or a_follower(w)
      local _, key = rot(w, node, 500)
      w:call(w:leader(), 'many.see', key)
      parks(w, node)
      w:until_true('another leads', function() return w:leader() ~= node and w:leader() ~= W.NOBODY end)
      local number = w.C.replica_world_rebuild(w.world, node, 20000)
      for i = 1, 60 do assert.is_true(w:call(w:leader(), 'many.put', 'x' .. i, i).ok) end
      local reply = w:wait(number, 21000)
      assert.is_true(reply.ok, reply.message)
      assert.is_false(w:status(node).parked)
      w:equal()
      assert.equal(2 * key, w:wait(w:ask(node, { stale = true, query = true }, 'many.get', key)).value)
      -- it is a node like any other: it may lead, and its restart finds a whole log
      w:crash(node)
      w:start(node)
      w:equal()
    end
  end)

  it('is gone after a restart, too', function()
    local w = formed()
    local node = a_follower(w)
    local _, key = rot(w, node, 5)
    w:call(w:leader(), 'many.see', key)
    parks(w, node)
    w:crash(node)
    w:start(node)
    w:equal()
    assert.is_false(w:status(node).parked)
  end)
end)

describe('comparing', function()
  it('meets at one entry while commands go on, and finds the row among many', function()
    for seed = 1, 4 do
      local w = formed({ seed = seed, apply_ms_max = 5 }, 3000)
      local node = a_follower(w)
      local name, key = rot(w, node, 700 * seed)
      local asked = {}
      for i = 1, 300 do
        asked[i] = w:ask(w:leader(), { timeout = 9000 }, i == 20 and 'many.see' or 'many.put', i == 20 and key or i % 50, i)
        w:run(3)
      end
      assert.truthy(parks(w, node):find(name, 1, true))
      for i = 1, 300 do assert.is_true(w:wait(asked[i]).ok) end
    end
  end)

  it('ends without a name when nobody can be asked', function()
    local w = formed()
    local node = a_follower(w)
    local _, key = rot(w, node, 9)
    w:call(w:leader(), 'many.see', key)
    w:until_true('it knows', function() return w:status(node).parked end)
    w:isolate(node)
    assert.truthy(parks(w, node, 80000):find('not the majority', 1, true))
  end)

  it('parks all when no majority has one state, and says so; starting anew puts it right', function()
    local w = formed()
    local _, key = rot(w, 0, 9)
    w:call(w:leader(), 'many.put', 'a', 1)
    -- the same row of another node rots in another way
    local what = core.buffer()
    w.C.replica_world_rot(w.world, 1, 9, what)
    w:call(w:leader(), 'many.put', 'b', 1)
    w.C.replica_world_rot(w.world, 1, 9, what) -- back
    local _, other = rot(w, 1, 30)
    w:call(w:leader(), 'many.copy', key, 'x')
    w:call(w:leader(), 'many.copy', other, 'y')
    local parked
    for _ = 1, 100 do
      w:run(100)
      parked = 0
      for i = 0, 2 do parked = parked + (w:status(i).parked and 1 or 0) end
      if parked == 3 then break end
    end
    if parked ~= 3 then -- one was found first: then two of three still agree, and it alone is parked
      assert.equal(1, parked)
      return
    end
    for i = 0, 2 do assert.truthy(why(w, i):find('no majority', 1, true)) end
    for i = 0, 2 do w:crash(i) end
    w:start_all()
    w:equal()
  end)
end)

describe('a rebuild', function()
  it('of a node that is well parks it first, and it comes back', function()
    local w = formed()
    local node = w:leader()
    assert.is_true(rebuild(w, node).ok)
    w:equal()
    for i = 0, 2 do assert.is_false(w:status(i).parked) end
  end)

  it('takes no snapshot of before what the node has applied', function()
    local w = formed { snapshots = { keep = 1000 } }
    local leader = w:leader()
    assert.is_true(w:snapshot(leader).ok)
    local early = w:status(leader).snapshot
    for i = 1, 20 do w:call(leader, 'many.put', 'x', i) end
    w:equal()
    assert.is_true(rebuild(w, a_follower(w)).ok)
    assert.is_true(w:status(w:leader()).snapshot > early)
    w:equal()
  end)

  it('of a lone node is refused, and of one without a leader ends in time', function()
    local w = formed { nodes = 1 }
    assert.equal('BAD_REQUEST', rebuild(w, 0).code)
    w = formed()
    w:crash(1)
    w:crash(2)
    assert.equal('TIMEOUT', rebuild(w, 0, 3000).code)
    w:start_all()
    w:until_true('it is rebuilt all the same', function() return not w:status(0).parked end)
    w:equal()
  end)

  it('goes on after links broke and the leader changed', function()
    for seed = 1, 5 do
      local w = formed({ seed = seed, snapshot_ms_max = 30, snapshots = { chunk_bytes = 4096 } }, 4000)
      local node = a_follower(w)
      local number = w.C.replica_world_rebuild(w.world, node, 60000)
      for _ = 1, 5 do
        w:run(200)
        for i = 0, 2 do if i ~= node then w.C.replica_world_break(w.world, i, node) end end
      end
      local leader = w:leader()
      if leader ~= node and leader ~= W.NOBODY then
        w:crash(leader)
        w:run(1000)
        w:start(leader)
      end
      assert.is_true(w:wait(number, 61000).ok)
      w:equal()
    end
  end)
end)
