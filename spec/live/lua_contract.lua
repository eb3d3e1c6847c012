-- What of the Lua contract failures of real processes must not break: a session's first answer, events in order, once each, over
-- killed leaders; timers; and the way past an entry that parks every node. A script of live_spec.lua.
local wire = require 'tidelock.wire'

local dir = arg[1]
local path = dir .. '/m.lua'
local file = assert(io.open(path, 'w'))
file:write [[
local m = { name = 'm', version = 1, state = { rows = 'map', fired = 'map' }, commands = {}, queries = {}, timers = {} }
function m.commands.add(ctx, key, n)
  local now = ctx.db.rows:add(key, n)
  ctx.emit('added', key, now)
  return now
end
function m.commands.later(ctx, ms, key) return ctx.after(ms, 'fire', key) end
function m.commands.eat() local s = 'x' while true do s = s .. s end end
function m.timers.fire(ctx, key) ctx.db.fired:add(key, 1) end
function m.queries.get(ctx, key) return ctx.db.rows:get(key) or 0 end
function m.queries.fired(ctx, key) return ctx.db.fired:get(key) or 0 end
return m]]
file:close()

local c = require 'tidelock.cluster' { nodes = 3, machines = { m = path } }
c:wait_leader()

local session = assert(c:session { ttl = 20000 })
local watch = assert(c:watch('m.added'))
local first = assert(c:with { session = session }:call('m.add', 'once', 1))
for i = 1, 12 do assert(c:call('m.later', i * 400, 'k' .. i)) end

-- Leaders die while sessions write: nothing is written twice, whatever the clients had to send again.
local written = 1
for _ = 1, 2 do
  local old = c:leader()
  local writer = c:go(function()
    for _ = 1, 40 do
      assert(c:with { session = session, timeout = 20000 }:call('m.add', 'once', 1))
      written = written + 1
    end
  end)
  c:sleep(30)
  old:kill()
  writer:wait()
  old:start()
end
assert(c:query('m.get', 'once') == written, 'a command of a session ran twice, or never')

-- A retry of the first one: its first answer.
local client = require 'tidelock.client'.new(c.to)
local value = assert(client:raw('m.add', wire.pack { 'once', 1 }, { session = session.id, seq = session.seq, done_below = session.seq }))
assert(select(2, wire.unpack(value)) == written, 'a retry got another answer')
assert(first == 1)

for i = 1, written do
  local event, err = watch:next(10000)
  assert(event, err and err.message)
  assert(event.data == i, ('event %d tells of %s'):format(i, tostring(event.data)))
end
assert(not watch:next(300), 'an event came twice')

c:wait('all timers', 15000, function() return c:query('m.fired', 'k12') == 1 end)
for i = 1, 12 do assert(c:query('m.fired', 'k' .. i) == 1, 'a timer fired more than once, or never') end

-- An entry that no node can apply.
local _, err = c:with { timeout = 3000 }:call('m.eat')
assert(err and not err.definite, 'what parks nodes is unknown')
local at
c:wait('all are parked', 15000, function()
  for _, s in ipairs(c:status()) do
    if s.down or s.parked_at == 0 then return false end
    at = s.parked_at
  end
  return true
end)
c:node(2):kill()
c:wait('it is skipped', 30000, function() return (c:with { timeout = 2000 }:call('tidelock.skip', at)) end)
c:node(2):start()
c:wait_equal()
assert(c:call('m.add', 'after', 1) == 1)
for _, n in ipairs(c:nodes()) do n:kill() end
for _, n in ipairs(c:nodes()) do n:start() end
c:wait_leader()
c:wait_equal()
assert(c:query('m.get', 'after') == 1)
c:close()
