-- A generator made while a command runs, and kept.
local Source = {}
Source.__index = Source
function Source:take()
  if not self.next then
    local n = 0
    self.next = function() n = n + 1 return n end
  end
  return self.next()
end
local source = setmetatable({}, Source)
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = { add = { args = 'key', run = function(ctx, key) ctx.db.rows:put(source:take(), key) end } } }
