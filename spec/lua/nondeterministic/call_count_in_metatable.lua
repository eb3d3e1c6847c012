-- A count hidden in a metatable's field.
local thing = setmetatable({}, { calls = 0, __index = function() return nil end })
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = { mark = { args = 'key', run = function(ctx, key)
    local meta = getmetatable(thing)
    meta.calls = meta.calls + 1
    ctx.db.rows:put(key, meta.calls)
  end } } }
