-- A query, which one node alone answers, leaves something that a command uses.
local Views = {}
Views.__index = Views
function Views:one() self.n = self.n + 1 end
local views = setmetatable({ n = 0 }, Views)
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = { save = { run = function(ctx) ctx.db.rows:put('views', views.n) end } },
  queries = { view = { run = function(ctx)
    views:one()
    return ctx.db.rows:get('views')
  end } } }
