-- A counter that a function changes through its argument.
local counter = { n = 0 }
local function bump(t) t.n = t.n + 1 return t.n end
return { name = 'm', version = 1,
  commands = { next = { run = function() return bump(counter) end } } }
