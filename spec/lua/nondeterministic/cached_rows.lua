-- A cache in front of a map, which a refused command leaves wrong.
local Cache = {}
Cache.__index = Cache
function Cache:put(k, v) rawset(self.rows, k, v) end
local cache = setmetatable({ rows = setmetatable({}, {}) }, Cache)
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = { set = { args = 'key n:int', run = function(ctx, key, n)
    cache:put(key, n)
    ctx.db.rows:put(key, n)
    if n < 0 then return ctx.fail('BAD_ARGS', 'it must not be negative') end
  end } },
  queries = { get = { args = 'key', run = function(ctx, key) return cache.rows[key] or ctx.db.rows:get(key) end } } }
