-- counter.lua: the whole of a replicated, linearizable service.
--
--   tidelock dev examples/counter.lua
--   tidelock call counter.add apples 3
--   tidelock query counter.value apples
return {
  name = 'counter', version = 1,
  state = { count = 'map' },
  commands = { add   = { args = 'name n:int=1', run = function(ctx, name, n) return ctx.db.count:add(name, n) end } },
  queries  = { value = { args = 'name', run = function(ctx, name) return ctx.db.count:get(name) or 0 end } },
}
