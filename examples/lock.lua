-- lock.lua: locks with a lease, a fencing token and a fair queue.
--
--   tidelock call lock.acquire door ada            {"owner":"ada","token":7,"ttl":30000}
--   tidelock call lock.acquire door bob --wait     {"place":1}; bob hears of it by the event lock.granted
--   tidelock call lock.release door 7
--
-- A token is greater than every earlier one: whatever the lock guards should refuse a smaller one than it has seen.
local lock = { name = 'lock', version = 1, state = { held = 'map', waiting = 'map' }, commands = {}, queries = {} }

local function grant(ctx, name, owner, ttl)
  local lease = { owner = owner, token = ctx.id(), ttl = ttl }
  ctx.db.held:put(name, lease, { ttl = ttl })
  ctx.emit('granted', name, lease)
  return lease
end

-- Who holds the lock; if nobody does, the first of those who wait from now on does.
local function holder(ctx, name)
  local lease = ctx.db.held:get(name)
  if lease then return lease end
  local key, next_one = ctx.db.waiting:first { name }
  if not key then return nil end
  ctx.db.waiting:del(key)
  return grant(ctx, name, next_one.owner, next_one.ttl)
end

local function check(ctx, name, token)
  local lease = ctx.db.held:get(name) or ctx.fail('NOT_FOUND', 'nobody holds this lock')
  if lease.token ~= token then ctx.fail('CONFLICT', 'the lock is held with another token') end
  return lease
end

lock.commands.acquire = {
  args = 'name owner ttl:ms=30s [wait:flag]', help = 'the lease, or a place in the queue',
  run = function(ctx, name, owner, ttl, wait)
    if ttl < 1 then return ctx.fail('BAD_ARGS', 'ttl: a lease is 1 ms at least') end
    local lease = holder(ctx, name)
    if not lease then return grant(ctx, name, owner, ttl) end
    if lease.owner == owner then return lease end
    if not wait then return ctx.fail('HELD', 'the lock is held by ' .. lease.owner) end
    local place = 0
    for _, one in ctx.db.waiting:pairs { name } do
      place = place + 1
      if one.owner == owner then return { place = place } end
    end
    ctx.db.waiting:put({ name, ctx.id() }, { owner = owner, ttl = ttl })
    return { place = place + 1 }
  end,
}

lock.commands.renew = {
  args = 'name token:int', help = 'the lease begins anew',
  run = function(ctx, name, token)
    local lease = check(ctx, name, token)
    ctx.db.held:put(name, lease, { ttl = lease.ttl })
  end,
}

lock.commands.release = {
  args = 'name token:int', help = 'give the lock up: the next one gets it',
  run = function(ctx, name, token)
    check(ctx, name, token)
    ctx.db.held:del(name)
    holder(ctx, name)
  end,
}

lock.queries.holder = { args = 'name', help = 'the lease, or null', run = function(ctx, name) return ctx.db.held:get(name) end }
lock.queries.waiting = { args = 'name', help = 'how many wait', run = function(ctx, name) return ctx.db.waiting:len { name } end }

function lock.on_expire(ctx, _, name) holder(ctx, name) end

return lock
