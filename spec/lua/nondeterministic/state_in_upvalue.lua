-- A counter in a local of a function that has ended. (Refused when it is loaded.)
local function counter()
  local n = 0
  return function() n = n + 1 return n end
end
local next_id = counter()
return { name = 'm', version = 1, commands = { next = function() return next_id() end } }
