-- A list that is used again and again: what a longer call left is still in it.
local scratch = { 0, 0, 0 }
local function fill(list, values)
  for i, v in ipairs(values) do if list[i] then list[i] = v end end
  return list
end
return { name = 'm', version = 1,
  commands = { pack = { args = 'first:int [second:int]', run = function(_, first, second)
    local list = fill(scratch, { first, second })
    return { list[1], list[2], list[3] }
  end } } }
