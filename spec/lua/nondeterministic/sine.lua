-- The sine differs between processors. (Refused when it is loaded.)
return { name = 'm', version = 1, commands = { at = { args = 'x:number', run = function(_, x) return math.sin(x) end } } }
