-- tidelock/books.lua: the service under the simulator's own clients. Every command writes down that it ran, so that the
-- books can be held against what clients were told: nothing acknowledged is missing, nothing refused is there, nothing
-- ran twice. The commands are those of a client history (get put append cas incr del) and some that must leave nothing. Some arm a
-- timer or leave a row with a ttl, each of which must come to its end once. The swarm deploys further versions: the same text with another
-- line VERSION (src/sim/books_deploys.c). Each keeps what ran in a map of its own, to which its migrate takes the rows, STEP an entry.
local VERSION, STEP, FAILS_AFTER, TIMER = 1, 1, false, 'fire'
local HERE, BEFORE = 'odd', 'even'
if VERSION % 2 == 0 then HERE, BEFORE = BEFORE, HERE end
local FIRE_MS_MAX, TTL_MS_MAX = 3000, 2000

local function wait_for_something(ctx, id)
  if id % 4 == 0 then
    ctx.db.armed:put(id, ctx.now)
    ctx.after(ctx.random(FIRE_MS_MAX), TIMER, id)
  elseif id % 8 == 1 then
    ctx.db.awaited:put(id, ctx.now)
    ctx.db.brief:put(id, 1, { ttl = ctx.random(TTL_MS_MAX) })
  end
end

-- What was waited for has come: for the first time?
local function come(ctx, waiting, what, id)
  local since = waiting:take(id)
  if not since or ctx.now <= since then ctx.db.seen:put('wrong', ('%s of command %d'):format(what, id)) end
  ctx.emit('come', tostring(id), what)
end

local function once(ctx, id)
  ctx.db[HERE]:add(id, 1)
  wait_for_something(ctx, id)
  local last = ctx.db.seen:get('now') or 0
  if ctx.now < last then ctx.db.seen:put('back', { ctx.now, last }) end
  ctx.db.seen:put('now', ctx.now)
  ctx.db.seen:put('dice', ctx.random(1000000))
end

return {
  name = 'books', version = VERSION, state = { rows = 'map', [HERE] = 'map', seen = 'map', armed = 'map', awaited = 'map', brief = 'map' },
  timers = { [TIMER] = function(ctx, id) come(ctx, ctx.db.armed, 'a timer', id) end },
  on_expire = function(ctx, _, id) come(ctx, ctx.db.awaited, 'a ttl', id) end,
  migrate = function(ctx)
    local moved = 0
    for id, times in ctx.db[BEFORE]:pairs(nil, { limit = STEP }) do
      ctx.db[HERE]:put(id, times)
      ctx.db[BEFORE]:del(id)
      moved = moved + 1
    end
    if FAILS_AFTER and ctx.db[HERE]:len() >= FAILS_AFTER then error('as asked') end
    return moved == STEP and 'more' or nil
  end,
  commands = {
    put = { args = 'id:int key value', run = function(ctx, id, key, value)
      once(ctx, id)
      ctx.db.rows:put(key, value)
      return true
    end },
    append = { args = 'id:int key value', run = function(ctx, id, key, value)
      once(ctx, id)
      ctx.db.rows:update(key, function(old) return (old or '') .. value end)
      return true
    end },
    cas = { args = 'id:int key old new', run = function(ctx, id, key, old, new)
      once(ctx, id)
      if ctx.db.rows:get(key) ~= old then return 0 end
      ctx.db.rows:put(key, new)
      return 1
    end },
    incr = { args = 'id:int key n:int', run = function(ctx, id, key, n)
      once(ctx, id)
      return ctx.db.rows:add(key, n)
    end },
    del = { args = 'id:int key', run = function(ctx, id, key)
      once(ctx, id)
      return ctx.db.rows:del(key) and 1 or 0
    end },
    rest = { args = 'id:int key', run = function() return true end },
    refuse = { args = 'id:int key', run = function(ctx, id, key)
      once(ctx, id)
      ctx.db.rows:put(key, 'never')
      return nil, 'as asked'
    end },
    fail = { args = 'id:int key', run = function(ctx, id, key)
      once(ctx, id)
      ctx.db.rows:del(key)
      error('as asked')
    end },
    -- What failed inside is undone; what came before stays.
    save = { args = 'id:int key', run = function(ctx, id, key)
      once(ctx, id)
      pcall(function()
        ctx.db.rows:put(key, 'never')
        ctx.db[HERE]:add(id, 1)
        error('as asked')
      end)
      return true
    end },
  },
  queries = {
    get = { args = 'key', run = function(ctx, key) return ctx.db.rows:get(key) end },
    done = function(ctx)
      local ids = {}
      local back, wrong = ctx.db.seen:get('back'), ctx.db.seen:get('wrong')
      if wrong then return nil, wrong .. ' came early, or twice' end
      if back then return nil, ('time went back from %d to %d'):format(back[2], back[1]) end
      for id, times in ctx.db[HERE]:pairs() do
        if times ~= 1 then return nil, ('command %d ran %d times'):format(id, times) end
        ids[#ids + 1] = id
      end
      return ids
    end,
    version = function() return VERSION end,
    armed = function(ctx) return ctx.db.armed:len() end,
  },
}
