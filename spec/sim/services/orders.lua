-- A service with a mistake: it takes a retry for a new order. Seen only when a client does not learn how its command ended.
local orders = { name = 'orders', version = 1, state = { orders = 'map' }, commands = {}, queries = {} }

orders.commands.place = { args = 'id what', run = function(ctx, id, what)
  local number = ctx.id()
  ctx.db.orders:put({ id, number }, what)
  return number
end }

orders.queries.count = { run = function(ctx) return ctx.db.orders:len() end }

function orders.workload(ctx)
  if ctx.random(4) == 1 then return { 'count' } end
  return { 'place', ('%d-%.0f'):format(ctx.client, ctx.random(1000000000000)), 'tea' }
end

function orders.invariant(ctx)
  local before
  for key in ctx.db.orders:pairs() do
    assert(key[1] ~= before, 'an order is placed twice')
    before = key[1]
  end
end

return orders
