-- session_store.lua: who is logged in, for web servers: sessions that end when they are not used.
--
--   tidelock call session_store.open ada --ttl 20m        "5b0c2f9e..."
--   tidelock call session_store.use 5b0c2f9e...           {"data":{},"user":"ada"}; it goes on for another 20 minutes
--   tidelock call session_store.close_all ada             how many there were
local store = { name = 'session_store', version = 1, state = { sessions = 'map', by_user = 'map' }, commands = {}, queries = {} }

local function find(ctx, id)
  return ctx.db.sessions:get(id) or ctx.fail('NOT_FOUND', 'there is no such session, or it has ended')
end

local function new_id(ctx)
  local parts = {}
  for i = 1, 4 do parts[i] = ('%08x'):format(ctx.random(0, 4294967295)) end
  return table.concat(parts)
end

store.commands.open = {
  args = 'user ttl:ms=20m', help = 'a new session; its id',
  run = function(ctx, user, ttl)
    if ttl < 1 then return ctx.fail('BAD_ARGS', 'ttl: a session is 1 ms at least') end
    local id = new_id(ctx)
    ctx.db.sessions:put(id, { user = user, ttl = ttl, data = ctx.map() }, { ttl = ttl })
    ctx.db.by_user:put({ user, id }, true)
    return id
  end,
}

store.commands.use = {
  args = 'id', help = 'who it is; its time begins anew',
  run = function(ctx, id)
    local session = find(ctx, id)
    ctx.db.sessions:put(id, session, { ttl = session.ttl })
    return { user = session.user, data = session.data }
  end,
}

store.commands.set = {
  args = 'id field value:any', help = 'keep something with a session',
  run = function(ctx, id, field, value)
    local session = find(ctx, id)
    session.data[field] = value
    ctx.db.sessions:put(id, session, { ttl = session.ttl })
  end,
}

store.commands.close = {
  args = 'id', help = 'log out',
  run = function(ctx, id)
    ctx.db.by_user:del { find(ctx, id).user, id }
    ctx.db.sessions:del(id)
  end,
}

store.commands.close_all = {
  args = 'user', help = 'log a user out everywhere; how many sessions there were',
  run = function(ctx, user)
    for key in ctx.db.by_user:pairs { user } do ctx.db.sessions:del(key[2]) end
    return ctx.db.by_user:clear { user }
  end,
}

store.queries.count = { args = 'user', help = 'how many sessions a user has', run = function(ctx, user) return ctx.db.by_user:len { user } end }

function store.on_expire(ctx, _, id, session)
  ctx.db.by_user:del { session.user, id }
  ctx.emit('ended', session.user, id)
end

return store
