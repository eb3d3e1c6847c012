-- Requests that were seen before are known by heart.
local Seen = {}
Seen.__index = Seen
function Seen:twice(id)
  local before = self[id]
  self[id] = true
  return before
end
local seen = setmetatable({}, Seen)
return { name = 'm', version = 1, state = { paid = 'map' },
  commands = { pay = { args = 'id n:int', run = function(ctx, id, n)
    if seen:twice(id) then return 'already' end
    return ctx.db.paid:add('all', n)
  end } } }
