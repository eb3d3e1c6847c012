-- sorted_text.lua: snapshots as text that is made to be read and compared: `diff` of two shows what changed between them.
--
--   kv.rows
--     "colour"	"teal"
--     "size"	[3,4]
--
-- Maps and keys stand in their order; between a key and its value is one tab, which JSON never holds. A row that expires has
-- another behind its value, and the time in milliseconds.
local json = require 'tidelock.json'

return {
  name = 'sorted_text', version = 1,

  write = function(out, view)
    for mount, name, map in view:maps() do
      if map:len() > 0 then out:write(mount, '.', name, '\n') end
      for key, value, expires in map:pairs() do
        out:write('  ', json.encode(key), '\t', json.encode(value), expires and '\t' .. json.encode(expires) or '', '\n')
      end
    end
  end,

  read = function(inp, ctx)
    local map
    for line in inp:lines() do
      local mount, name = line:match('^([%w_]+)%.([%w_]+)$')
      local key, value, expires = line:match('^  ([^\t]+)\t([^\t]+)\t?(%d*)$')
      if mount then
        map = ctx.db[mount][name]
      elseif key and map then
        map:put(json.decode(key), json.decode(value), expires ~= '' and { expires = tonumber(expires) } or nil)
      else
        return nil, 'a line that is neither a map nor a row: ' .. line
      end
    end
    return true
  end,
}
