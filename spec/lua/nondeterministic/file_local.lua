-- A counter in a local of the file. (Refused when it is loaded.)
local n = 0
return { name = 'm', version = 1, commands = { next = function() n = n + 1 return n end } }
