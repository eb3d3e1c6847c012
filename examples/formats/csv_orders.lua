-- csv_orders.lua: snapshots as CSV for a spreadsheet: the orders of examples/orders.lua with a column for each of their fields,
-- other maps with their values whole. A table begins with an empty line, the name of its map, and a line of headings.
--
--   orders.orders
--   key,customer,item,count,price,paid,note,value,expires
--   1,ada,lamp,2,19.5,true,,,
local csv = require 'tidelock.csv'

local columns = { ['orders.orders'] = { 'customer', 'item', 'count', 'price', 'paid', 'note' } }

-- The fields of a value in the order of `names`; nil if it has others, or none.
local function spread(value, names)
  if type(value) ~= 'table' or next(value) == nil then return nil end
  local fields, left = {}, 0
  for _ in pairs(value) do left = left + 1 end
  for at, name in ipairs(names) do
    fields[at + 1] = value[name]
    if value[name] ~= nil then left = left - 1 end
  end
  return left == 0 and fields or nil
end

return {
  name = 'csv_orders', version = 1,

  write = function(out, view)
    for mount, name, map in view:maps() do
      local names = columns[mount .. '.' .. name] or {}
      local n = #names + 3
      if map:len() > 0 then
        out:write('\n', mount, '.', name, '\n', csv.encode({ 'key', unpack(names) }), ',value,expires\n')
      end
      for key, value, expires in map:pairs() do
        local row = spread(value, names) or { [n - 1] = value }
        row[1], row[n] = key, expires
        out:write(csv.encode(row, n), '\n')
      end
    end
  end,

  read = function(inp, ctx)
    local next_line, map, headings = inp:lines(), nil, nil
    for line in next_line do
      if line:match('^\r?$') then
        local mount, name = next_line():match('^([%w_]+)%.([%w_]+)')
        map, headings = ctx.db[mount][name], csv.decode(next_line())
      else
        local row, value = csv.decode(line), {}
        local n = #headings
        for at = 2, n - 2 do value[headings[at]] = row[at] end
        if row[n - 1] ~= nil then value = row[n - 1] end
        map:put(row[1], value, row[n] and { expires = row[n] })
      end
    end
    return true
  end,
}
