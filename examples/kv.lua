-- kv.lua: a key-value store, with compare-and-set, and rows that run out.
--
--   tidelock dev examples/kv.lua
--   tidelock call kv.set colour teal
--   tidelock query kv.get colour
--   tidelock call kv.set colour teal --ttl 5s
--   tidelock call kv.cas colour teal blue
local kv = { name = 'kv', version = 1, state = { rows = 'map' }, commands = {}, queries = {} }

-- Stores a value, for `ttl` if it is given. With nx only if the key is free: else EXISTS.
kv.commands.set = {
  args = 'key value:any [nx:flag] [ttl:ms]', help = 'store a value',
  run = function(ctx, key, value, nx, ttl)
    local rows = ctx.db.rows
    if nx and rows:has(key) then return ctx.fail('EXISTS', 'the key is taken') end
    if ttl and ttl < 1 then return ctx.fail('BAD_ARGS', 'ttl: a row lives for 1 ms at least') end
    rows:put(key, value, ttl and { ttl = ttl })
  end,
}

-- Replaces `old` by `new`, for the time that is left; CONFLICT, with the value that is there, if it is another.
kv.commands.cas = {
  args = 'key old:any new:any', help = 'replace a value that is as expected',
  run = function(ctx, key, old, new)
    local now = ctx.db.rows:get(key)
    if now == nil then return ctx.fail('NOT_FOUND', 'there is no such key') end
    if now ~= old then return ctx.fail('CONFLICT', 'the value is another', now) end
    ctx.db.rows:update(key, function() return new end)
  end,
}

kv.commands.del = {
  args = 'key', help = 'remove a key; false if there was none',
  run = function(ctx, key) return ctx.db.rows:del(key) end,
}

kv.queries.get = {
  args = 'key', help = 'the value of a key',
  run = function(ctx, key)
    local value = ctx.db.rows:get(key)
    if value == nil then return ctx.fail('NOT_FOUND', 'there is no such key') end
    return value
  end,
}

-- Keys and values in order: [[key, value], ...], at most `limit`, beginning after the key `after`.
kv.queries.list = {
  args = '[prefix] [limit:int=100] [after]', help = 'keys and values in order',
  run = function(ctx, prefix, limit, after)
    local out = {}
    for key, value in ctx.db.rows:pairs(prefix, { limit = limit, after = after }) do
      out[#out + 1] = { key, value }
    end
    return out
  end,
}

kv.queries.count = { help = 'how many keys', run = function(ctx) return ctx.db.rows:len() end }

function kv.on_expire(ctx, _, key, value) ctx.emit('expired', key, value) end

return kv
