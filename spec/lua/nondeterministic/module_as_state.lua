-- The module's own table as a place to keep things.
local m = { name = 'm', version = 1, state = { rows = 'map' } }
local settings = { step = 1 }
local function here() return settings end
m.commands = {
  by = { args = 'n:int', run = function(_, n) here().step = n end },
  add = { args = 'key', run = function(ctx, key) return ctx.db.rows:add(key, here().step) end },
}
return m
