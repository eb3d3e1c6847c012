-- orders.lua: orders of a shop, with an index of each customer's. Its snapshots can be CSV: examples/formats/csv_orders.lua.
--
--   tidelock dev examples/orders.lua
--   tidelock call orders.place ada lamp 2 19.5
--   tidelock call orders.pay 1
--   tidelock query orders.of ada
local orders = { name = 'orders', version = 1, state = { orders = 'map', by_customer = 'map' }, commands = {}, queries = {} }

local function find(ctx, id)
  local order = ctx.db.orders:get(id)
  if not order then ctx.fail('NOT_FOUND', 'there is no order ' .. id) end
  return order
end

-- Places an order; its number.
orders.commands.place = {
  args = 'customer item count:int price:number [note]', help = 'place an order; its number',
  run = function(ctx, customer, item, count, price, note)
    if count < 1 then return ctx.fail('BAD_ARGS', 'an order has at least one piece') end
    local id = ctx.id()
    ctx.db.orders:put(id, { customer = customer, item = item, count = count, price = price, paid = false, note = note })
    ctx.db.by_customer:put({ customer, id }, true)
    return id
  end,
}

-- Marks an order as paid; CONFLICT if it is.
orders.commands.pay = {
  args = 'id:int', help = 'an order is paid',
  run = function(ctx, id)
    local order = find(ctx, id)
    if order.paid then return ctx.fail('CONFLICT', 'it is paid already') end
    order.paid = true
    ctx.db.orders:put(id, order)
  end,
}

orders.queries.get = { args = 'id:int', help = 'one order', run = function(ctx, id) return find(ctx, id) end }

-- The numbers of a customer's orders, oldest first.
orders.queries.of = {
  args = 'customer', help = "the numbers of a customer's orders",
  run = function(ctx, customer)
    local out = {}
    for key in ctx.db.by_customer:pairs { customer } do out[#out + 1] = key[2] end
    return out
  end,
}

return orders
