-- A cache that the collector empties. (Refused when it is loaded.)
local cache = setmetatable({}, { __mode = 'k' })
return { name = 'm', version = 1, commands = { size = function()
  rawset(cache, {}, true)
  local n = 0
  for _ in pairs(cache) do n = n + 1 end
  return n
end } }
