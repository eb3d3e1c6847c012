-- A running average in a table of the module, reached through a function.
local stats = { sum = 0, count = 0 }
local function of() return stats end
return { name = 'm', version = 1, state = { last = 'map' },
  commands = { add = { args = 'n:number', run = function(ctx, n)
    local s = of()
    s.sum, s.count = s.sum + n, s.count + 1
    ctx.db.last:put('average', s.sum / s.count)
  end } },
  queries = { average = { run = function(ctx) return ctx.db.last:get('average') end } } }
