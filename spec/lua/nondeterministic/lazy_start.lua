-- A start that happens once in a process, not once in the life of the state.
local Service = {}
Service.__index = Service
function Service:start(db)
  if self.started then return end
  self.started = true
  db.rows:add('starts', 1)
end
local service = setmetatable({}, Service)
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = { touch = { args = 'key', run = function(ctx, key)
    service:start(ctx.db)
    ctx.db.rows:put(key, ctx.now)
  end } } }
