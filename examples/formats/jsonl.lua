-- jsonl.lua: snapshots as lines of JSON, one row a line, for jq and its like.
--
--   tidelock start ... --machine examples/kv.lua --format examples/formats/jsonl.lua
--   ["kv","rows","colour","teal"]
--   ["kv","rows","gone_soon","grey",1700000005000]        when it expires, in milliseconds of cluster time
local json = require 'tidelock.json'

return {
  name = 'jsonl', version = 1,

  write = function(out, view)
    for mount, name, map in view:maps() do
      for key, value, expires in map:pairs() do
        out:write(json.encode { mount, name, key, value, expires }, '\n')
      end
    end
  end,

  read = function(inp, ctx)
    if inp.format ~= 'jsonl' then return nil, 'these bytes are of the format ' .. inp.format end
    for line in inp:lines() do
      local mount, name, key, value, expires = unpack(json.decode(line))
      ctx.db[mount][name]:put(key, value, expires and { expires = expires })
    end
    return true
  end,
}
