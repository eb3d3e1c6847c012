-- What of the Lua contract only a cluster shows: sessions, timers, events, dry runs, limits and skip through whole replicas.
local W = require 'spec.support.replicas'

local module = [[
local m = { name = 'm', version = 1, state = { rows = 'map', fired = 'map' }, commands = {}, queries = {}, timers = {} }
function m.commands.add(ctx, key, n)
  local now = ctx.db.rows:add(key, n)
  ctx.emit('added', key, now)
  return now
end
function m.commands.refuse(ctx, key) ctx.db.rows:add(key, 1) return nil, { code = 'NO', message = 'never ' .. key } end
function m.commands.later(ctx, ms, key) return ctx.after(ms, 'fire', key) end
function m.commands.brief(ctx, key, ms) ctx.db.rows:put(key, 1, { ttl = ms }) return true end
function m.commands.eat() local s = 'x' while true do s = s .. s end end
function m.commands.many(ctx, n) for i = 1, n do ctx.emit('many', 'k' .. i, ('x'):rep(100)) end return n end
function m.timers.fire(ctx, key) ctx.db.fired:add(key, 1) ctx.emit('fired', key, ctx.now) end
function m.on_expire(ctx, map, key) ctx.emit('expired', key, map) end
function m.on_session_end(ctx, session) ctx.db.rows:add('ended', 1) ctx.emit('ended', session) end
function m.queries.get(ctx, key) return ctx.db.rows:get(key) or 0 end
function m.queries.fired(ctx, key) return ctx.db.fired:get(key) or 0 end
function m.queries.now(ctx) return ctx.now end
return m]]

local bundles = W.bundles { counter = W.counter, m = module }

local function formed(options)
  local how = { bundles = bundles }
  for key, value in pairs(options or {}) do how[key] = value end
  return W.formed(how)
end

local function told(reply) return { reply.code, reply.definite } end
local function other(w, node) return node == 0 and 1 or node == w.nodes - 1 and 0 or node + 1 end

local function open(w, ttl)
  local reply = w:call(0, 'tidelock.session_open', ttl or 20000)
  assert.is_true(reply.ok)
  return reply.value
end

local function kill_leader(w)
  local old = w:leader()
  w:crash(old)
  w:until_true('another leads', function() return w:leader() ~= W.NOBODY and w:leader() ~= old end)
  return old
end

describe('a session', function()
  it('runs a command once and gives its first answer again, at another node, after a failover (bug 91)', function()
    local w = formed()
    local s = open(w)
    assert.equal(2, w:wait(w:ask(1, { session = s, seq = 1 }, 'm.add', 'a', 2)).value)
    local old = kill_leader(w)
    local again = w:wait(w:ask(other(w, old), { session = s, seq = 1 }, 'm.add', 'a', 2))
    assert.equal(2, again.value)
    assert.equal(2, w:query(other(w, old), 'm.get', 'a').value)
    w:start_all()
    w:equal()
  end)

  it('gives a refusal again, too', function()
    local w = formed()
    local s = open(w)
    for node = 0, 2 do
      local reply = w:wait(w:ask(node, { session = s, seq = 7, done_below = 7 }, 'm.refuse', 'a'))
      assert.same({ 'NO', true, 'never a' }, { reply.code, reply.definite, reply.message })
    end
    assert.equal(0, w:query(0, 'm.get', 'a').value)
  end)

  it('is in snapshots: after a restart from one the answer is the first one', function()
    local w = formed { snapshots = { entries = 10, keep = 1 }, snapshot_ms_max = 20 }
    local s = open(w)
    w:wait(w:ask(0, { session = s, seq = 1 }, 'm.add', 'a', 5))
    for i = 1, 40 do w:call(i % 3, 'm.add', 'b', 1) end
    w:until_true('snapshots', function()
      for i = 0, 2 do if w:status(i).base < 20 then return false end end
      return true
    end)
    for i = 0, 2 do w:crash(i) end
    w:start_all()
    w:ready()
    assert.equal(5, w:wait(w:ask(1, { session = s, seq = 1 }, 'm.add', 'a', 5)).value)
    assert.equal(5, w:query(2, 'm.get', 'a').value)
  end)

  it('has its command sent again when the link to the leader breaks, and only then', function()
    for _, s in ipairs { true, false } do
      local w = formed { write_ms_max = 0, delay_ms_max = 2 }
      local session = open(w)
      local leader = w:leader()
      local node = other(w, leader)
      w:run(500)
      for i = 0, 2 do w.C.replica_world_hang(w.world, i, 200) end
      local number = w:ask(node, s and { session = session, seq = 1 } or {}, 'm.add', 'a', 1)
      w:run(8)
      w.C.replica_world_break(w.world, node, leader)
      local reply = w:wait(number)
      assert.same(s and { true } or { false, 'LOST', false }, s and { reply.ok } or { reply.ok, reply.code, reply.definite })
      w:run(1500)
      assert.equal(1, w:query(node, 'm.get', 'a').value)
    end
  end)

  it('does not take a refusal for the whole truth once an attempt was lost', function()
    local w = formed { write_ms_max = 0, delay_ms_max = 2 }
    local session = open(w)
    local leader = w:leader()
    local node = other(w, leader)
    w:run(500)
    for i = 0, 2 do w.C.replica_world_hang(w.world, i, 200) end
    local number = w:ask(node, { session = session, seq = 1, timeout = 900 }, 'm.add', 'a', 1)
    w:run(8)
    w.C.replica_world_break(w.world, node, leader)
    w:isolate(node)
    local reply = w:wait(number)
    assert.same({ 'LOST', false }, told(reply))
  end)

  it('runs out at one index on all nodes, and what comes late does nothing (bug 92)', function()
    local w = formed()
    local s = open(w, 1000)
    local watches = {}
    for i = 0, 2 do watches[i] = w:watch(i, 'm', 'ended', nil, '0') end
    w:run(1500)
    assert.same({ 'SESSION_EXPIRED', true }, told(w:wait(w:ask(1, { session = s, seq = 1 }, 'm.add', 'a', 1))))
    assert.equal(0, w:query(2, 'm.get', 'a').value)
    w:equal()
    local first = w:events(watches[0])
    assert.equal(1, #first)
    assert.equal(s, first[1][3])
    for i = 1, 2 do assert.same(first, w:events(watches[i])) end
  end)

  it('does not run out while there is no leader, and has its ttl again under a new one', function()
    local w = formed()
    local s = open(w, 1000)
    w:run(500)
    for i = 0, 2 do w:crash(i) end
    w:run(3600000)
    w:start_all()
    w:ready()
    assert.equal(1, w:wait(w:ask(1, { session = s, seq = 1 }, 'm.add', 'a', 1)).value)
  end)

  it('lives on by session_keep, and ends by session_end', function()
    local w = formed()
    local s = open(w, 1000)
    for i = 1, 5 do
      w:run(600)
      assert.is_true(w:call(i % 3, 'tidelock.session_keep', s).ok)
    end
    assert.is_true(w:call(1, 'tidelock.session_end', s).ok)
    assert.equal(1, w:query(0, 'm.get', 'ended').value)
    assert.same({ 'SESSION_EXPIRED', true }, told(w:call(1, 'tidelock.session_keep', s)))
  end)

  it('is refused with a sentence when it makes no sense', function()
    local w = formed()
    for _, args in ipairs { {}, { 'x' }, { 5 }, { 20, 30 } } do
      assert.same({ 'BAD_ARGS', true }, told(w:call(0, 'tidelock.session_open', unpack(args))))
    end
    assert.same({ 'BAD_ARGS', true }, told(w:call(1, 'tidelock.session_keep', 7)))
    assert.is_true(w:call(1, 'tidelock.session_open', { ttl_ms = 5000 }).ok)
    local how = { session = open(w), seq = 1 }
    assert.same({ 'BAD_REQUEST', true }, told(w:wait(w:ask(1, how, 'tidelock.limits', 'quota', 5))))
  end)

  it('goes first that runs out first when there are too many, the same everywhere (bug 93)', function()
    local w = formed()
    assert.equal(10000, w:call(1, 'tidelock.limits', 'sessions', 3).value)
    local list = {}
    for i = 1, 6 do list[i] = open(w, 20000 + i * 1000) end
    w:equal()
    for i = 1, 6 do
      local reply = w:wait(w:ask(i % 3, { session = list[i], seq = 1 }, 'm.add', 'a', 1))
      assert.equal(i > 3, reply.ok)
    end
  end)
end)

describe('a timer', function()
  it('fires once, in time, over leaders that die and nodes that restart (bug 95)', function()
    local w = formed { snapshots = { entries = 20, keep = 2 }, snapshot_ms_max = 20 }
    for i = 1, 12 do w:call(i % 3, 'm.later', i * 500, 'k' .. i) end
    for _ = 1, 4 do
      kill_leader(w)
      w:run(700)
      w:start_all()
    end
    w:run(8000)
    w:equal()
    for i = 1, 12 do assert.equal(1, w:query(i % 3, 'm.fired', 'k' .. i).value) end
  end)

  it('fires within 20 ms of its time on a quiet cluster', function()
    local w = formed()
    w:run(1000)
    local watch = w:watch(1, 'm', 'fired')
    local before = w:query(1, 'm.now').value
    w:call(1, 'm.later', 3000, 'k')
    w:run(3500)
    local events = w:events(watch)
    assert.equal(1, #events)
    assert.is_true(events[1][4] - before >= 3000 and events[1][4] - before < 3050)
  end)

  it('that waits leaves an idle cluster idle', function()
    local w = formed()
    w:call(1, 'm.later', 600000, 'k')
    w:run(1000)
    local last = tonumber(w:status(0).last)
    w:run(60000)
    assert.equal(last, tonumber(w:status(0).last))
  end)

  it('does not fire early by a leader with a wild clock', function()
    local w = formed()
    w:call(1, 'm.later', 20000, 'k')
    w.C.replica_world_skew(w.world, w:leader(), 86400000)
    w:run(15000)
    assert.equal(0, w:query(1, 'm.fired', 'k').value)
  end)

  it('is a ttl, too: rows vanish at once, on_expire follows', function()
    local w = formed()
    local watch = w:watch(2, 'm', 'expired')
    w:call(1, 'm.brief', 'a', 500)
    assert.equal(1, w:query(1, 'm.get', 'a').value)
    w:run(600)
    assert.equal(0, w:query(1, 'm.get', 'a').value)
    w:run(200)
    local events = w:events(watch)
    assert.same({ 'expired', 'a', 'rows' }, { events[1][2], events[1][3], events[1][4] })
    assert.is_nil(events[2])
  end)
end)

describe('events', function()
  it('are the same on every node, and go on after an id at another (bug 96)', function()
    local w = formed()
    for i = 1, 30 do w:call(i % 3, 'm.add', 'k', 1) end
    w:run(200)
    local all = w:events(w:watch(0, 'm', nil, nil, '0'))
    assert.equal(30, #all)
    for node = 1, 2 do
      for _, at in ipairs { 1, 17, 30 } do
        local rest = w:events(w:watch(node, 'm', 'added', 'k', all[at][1]))
        assert.equal(30 - at, #rest)
        assert.same(all[at + 1], rest[1])
      end
    end
  end)

  it('are watched by topic and by prefix', function()
    local w = formed()
    w:call(0, 'm.add', 'a/1', 1)
    w:call(0, 'm.add', 'b/1', 1)
    w:call(0, 'm.many', 3)
    w:run(100)
    local function count(...) return #w:events(w:watch(1, ...)) end
    assert.same({ 5, 2, 3, 1, 0, 0, 0 }, { count('m', nil, nil, '0'), count('m', 'added', nil, '0'), count('m', 'many', nil, '0'),
      count('m', nil, 'a/', '0'), count('m', 'man', nil, '0'), count('n', nil, nil, '0'), count('m') })
  end)

  it('come later where the node lags: an id that is ahead waits', function()
    local w = formed()
    local leader = w:leader()
    local slow = other(w, leader)
    w:isolate(slow)
    for _ = 1, 5 do w:call(leader, 'm.add', 'k', 1) end
    local all = w:events(w:watch(leader, 'm', nil, nil, '0'))
    local watch = w:watch(slow, 'm', nil, nil, all[3][1])
    w:run(100)
    assert.same({}, w:events(watch))
    w:isolate(slow, false)
    w:equal()
    assert.same({ all[4], all[5] }, w:events(watch))
  end)

  -- A watch that began behind the last event heard nothing until a block of 32 KiB was full, and then not what was in it.
  it('come at once to a watch that began after earlier ones', function()
    local w = formed()
    w:call(1, 'm.add', 'k', 1)
    w:run(100)
    local watch = w:watch(1, 'm')
    assert.same({}, w:events(watch))
    w:call(1, 'm.add', 'k', 2)
    w:run(100)
    local list = w:events(watch)
    assert.equal(1, #list)
    assert.equal(3, list[1][4])
  end)

  it('that are gone are COMPACTED, with an id to go on from; so are ids of another cluster', function()
    local w = formed { events_bytes = 4000 }
    for _ = 1, 20 do w:call(0, 'm.many', 5) end
    w:equal()
    local watch, err = w:watch(1, 'm', nil, nil, '0')
    assert.is_nil(watch)
    assert.equal('COMPACTED', err.code)
    local events = w:events(w:watch(1, 'm', nil, nil, err.data.first))
    assert.is_true(#events > 5 and #events < 100)
    local strange = select(2, w:watch(1, 'm', nil, nil, (events[1][1]:gsub('%-.*', '-00000000'))))
    assert.equal('COMPACTED', strange.code)
    assert.equal(#events - 1, #w:events(w:watch(1, 'm', nil, nil, (events[1][1]:gsub('%-.*', '')))))
  end)

  it('end for a watcher that is slower than the ring', function()
    local w = formed { events_bytes = 4000 }
    local watch = w:watch(1, 'm')
    for _ = 1, 20 do w:call(0, 'm.many', 5) end
    w:equal()
    local list, how = w:events(watch)
    assert.same({ 0, 'COMPACTED' }, { #list, how.code })
  end)

  it('end for a watcher whose node takes another state from a snapshot', function()
    local w = formed { snapshots = { entries = 10, keep = 1 }, snapshot_ms_max = 10 }
    local leader = w:leader()
    local slow = other(w, leader)
    local watch = w:watch(slow, 'm')
    w:isolate(slow)
    for _ = 1, 40 do w:call(leader, 'm.add', 'k', 1) end
    w:run(500)
    w:isolate(slow, false)
    w:until_true('installed', function() return w:status(slow).received > 0 end)
    w:equal()
    local list, how = w:events(watch)
    assert.same({ 0, 'COMPACTED' }, { #list, how.code })
  end)

  it('are refused with a sentence when asked for without sense', function()
    local w = formed()
    for _, args in ipairs { {}, { 7 }, { 'm', 7 }, { 'm', 'a', 'b', 'x' }, { 'm', 'a', 'b', '1.' }, { 'm', 'a', 'b', '1.2-xyz' },
      { 'm', 'a', 'b', '1', 'more' } } do
      local watch, err = w:watch(0, unpack(args))
      assert.is_nil(watch)
      assert.equal('BAD_ARGS', err.code)
    end
  end)
end)

describe('an entry DUE', function()
  it('is proposed one at a time, though applying is slow', function()
    local w = formed { apply_ms_max = 40 }
    w:call(1, 'm.later', 200, 'k')
    w:equal()
    local last = tonumber(w:status(0).last)
    w:run(2000)
    w:equal()
    assert.equal(1, w:query(1, 'm.fired', 'k').value)
    assert.equal(last + 1, tonumber(w:status(0).last))
  end)

  it('that was lost with its term is no reason to wait, for whoever leads again', function()
    local w = formed()
    w:call(1, 'm.later', 80, 'a')
    w:equal()
    local old = w:leader()
    w:isolate(old)
    for _ = 1, 200 do w:ask(old, { timeout = 5000 }, 'm.add', 'lost', 1) end
    w:until_true('another leads', function() return w:leader() ~= old and w:leader() ~= W.NOBODY end)
    w:isolate(old, false)
    w:run(500)
    w:equal()
    w:until_true('it leads again', function()
      local leader = w:leader()
      if leader == old then return true end
      if leader ~= W.NOBODY then
        w:crash(leader)
        w:run(1000)
        w:start_all()
        w:run(500)
      end
      return false
    end)
    w:call(1, 'm.later', 300, 'b')
    w:run(1000)
    for _, key in ipairs { 'a', 'b' } do assert.equal(1, w:query(1, 'm.fired', key).value) end
    assert.is_true(tonumber(w:status(0).last) < 150)
  end)
end)

describe('a dry run', function()
  it('tells the answer and the events, from any node, and changes nothing', function()
    local w = formed()
    w:call(0, 'm.add', 'a', 2)
    w:equal()
    local last, digest = tonumber(w:status(0).last), w:status(0).digest_lo
    for node = 0, 2 do
      local reply = w:wait(w:ask(node, { dry_run = true }, 'm.add', 'a', 3))
      assert.same({ answer = 5, events = { { 'm.added', 'a', 5 } } }, reply.value)
    end
    assert.same({ 'NO', true }, told(w:wait(w:ask(1, { dry_run = true }, 'm.refuse', 'a'))))
    assert.equal(2, w:query(1, 'm.get', 'a').value)
    w:equal()
    assert.equal(last, tonumber(w:status(0).last))
    assert.is_true(digest == w:status(0).digest_lo)
  end)
end)

describe('limits', function()
  it('are told, and changed by an entry, through any node', function()
    local w = formed()
    assert.equal(0, w:query(1, 'tidelock.limits').value.quota)
    assert.equal(0, w:call(1, 'tidelock.limits', 'quota', 1000000).value)
    assert.equal(1000000, w:query(2, 'tidelock.limits').value.quota)
    assert.same({ 'BAD_ARGS', true }, told(w:call(1, 'tidelock.limits', 'quota')))
    assert.same({ 'BAD_ARGS', true }, told(w:call(1, 'tidelock.limits', 'nothing', 1)))
    assert.same({ 'BAD_ARGS', true }, told(w:call(2, 'tidelock.limits', 'events', 1e9)))
  end)
end)

describe('skip', function()
  local function parked(options)
    local w = formed(options)
    w:call(0, 'm.add', 'a', 7)
    w:wait(w:ask(w:leader(), { timeout = 3000 }, 'm.eat'))
    w:until_true('all are parked, and one leads', function()
      for i = 0, 2 do if w:status(i).up and w:status(i).parked_at == 0 then return false end end
      return w:leader() ~= W.NOBODY
    end)
    return w, tonumber(w:status(0).parked_at)
  end

  it('takes every parked node past the entry', function()
    local w, at = parked()
    local reply
    w:until_true('it is taken', function()
      reply = w:wait(w:ask(1, { timeout = 3000 }, 'tidelock.skip', at))
      return reply.ok
    end)
    w:equal()
    for i = 0, 2 do assert.equal(0, tonumber(w:status(i).parked_at)) end
    assert.equal(8, w:call(2, 'm.add', 'a', 1).value)
  end)

  it('is known to nodes that were down meanwhile, and after restarts', function()
    local w, at = parked()
    local down = other(w, w:leader())
    w:crash(down)
    w:until_true('it is taken', function()
      return w:wait(w:ask(w:leader(), { timeout = 3000 }, 'tidelock.skip', at)).ok
    end)
    w:start_all()
    w:equal()
    for i = 0, 2 do w:crash(i) end
    w:start_all()
    w:ready()
    w:equal()
    for i = 0, 2 do assert.equal(0, tonumber(w:status(i).parked_at)) end
  end)

  it('takes nothing but the entry at which the leader is parked', function()
    local w, at = parked()
    w:until_true('answered', function()
      local reply = w:wait(w:ask(w:leader(), {}, 'tidelock.skip', at - 1))
      return reply.code == 'PARKED'
    end)
    local healthy = formed()
    healthy:call(0, 'm.add', 'a', 7)
    assert.same({ 'CONFLICT', true }, told(healthy:call(1, 'tidelock.skip', 3)))
    assert.same({ 'BAD_ARGS', true }, told(healthy:call(1, 'tidelock.skip', 'x')))
    healthy:equal()
    assert.equal(7, healthy:query(1, 'm.get', 'a').value)
  end)
end)
