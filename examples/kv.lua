-- kv.lua: a key-value store, with compare-and-set.
--
--   tidelock dev examples/kv.lua
--   tidelock call kv.set colour teal
--   tidelock query kv.get colour
--   tidelock call kv.cas colour teal blue
local kv = { name = 'kv', version = 1, state = { rows = 'map' }, commands = {}, queries = {} }

-- Stores a value. With nx only if the key is free: else EXISTS.
kv.commands.set = {
  args = 'key value:any [nx:flag]', help = 'store a value',
  run = function(ctx, key, value, nx)
    local rows = ctx.db.rows
    if nx and rows:has(key) then return ctx.fail('EXISTS', 'the key is taken') end
    rows:put(key, value)
  end,
}

-- Replaces `old` by `new`; CONFLICT, with the value that is there, if it is another.
kv.commands.cas = {
  args = 'key old:any new:any', help = 'replace a value that is as expected',
  run = function(ctx, key, old, new)
    local now = ctx.db.rows:get(key)
    if now == nil then return ctx.fail('NOT_FOUND', 'there is no such key') end
    if now ~= old then return ctx.fail('CONFLICT', 'the value is another', now) end
    ctx.db.rows:put(key, new)
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

return kv
