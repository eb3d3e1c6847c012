-- A service with a mistake: pay looks whether the seat is held, and not by whom. Seen only when clients interleave so.
local tickets = { name = 'tickets', version = 1, state = { held = 'map', paid = 'map' }, commands = {}, queries = {} }

tickets.commands.hold = { args = 'seat who', run = function(ctx, seat, who)
  if ctx.db.held:has(seat) then return ctx.fail('TAKEN', 'somebody holds it') end
  ctx.db.held:put(seat, who)
end }

tickets.commands.pay = { args = 'seat who', run = function(ctx, seat, who)
  if not ctx.db.held:has(seat) then return ctx.fail('NOT_HELD', 'hold it first') end
  ctx.db.paid:put(seat, who)
end }

tickets.commands.free = { args = 'seat', run = function(ctx, seat)
  ctx.db.paid:del(seat)
  return ctx.db.held:del(seat)
end }

tickets.queries.who = { args = 'seat', run = function(ctx, seat) return ctx.db.held:get(seat) end }

function tickets.workload(ctx)
  local seat, me = 'row ' .. ctx.random(20), 'client ' .. ctx.client
  local draw = ctx.random(100)
  if draw <= 40 then return { 'hold', seat, me } end
  if draw <= 42 then return { 'pay', seat, me } end
  if draw <= 60 then return { 'free', seat } end
  if draw <= 80 then return { 'who', seat } end
end

function tickets.invariant(ctx)
  for seat, who in ctx.db.paid:pairs() do
    if ctx.db.held:get(seat) ~= who then return false, seat .. ' is paid by another than holds it' end
  end
end

return tickets
