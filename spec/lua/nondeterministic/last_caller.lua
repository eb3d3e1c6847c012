-- A limit on the rate that remembers when it was called last.
local last = { at = 0 }
local function box() return last end
return { name = 'm', version = 1, state = { hits = 'map' },
  commands = { hit = { args = 'key', run = function(ctx, key)
    local b = box()
    if ctx.now - b.at < 50 then return ctx.fail('TOO_OFTEN', 'too often') end
    b.at = ctx.now
    return ctx.db.hits:add(key, 1)
  end } } }
