-- bank.lua: accounts, and transfers whose total never changes.
--
--   tidelock call bank.open alice 100
--   tidelock call bank.transfer alice bob 30
--   tidelock query bank.total
--   tidelock sim bank.lua
local bank = { name = 'bank', version = 1, state = { accounts = 'map' }, commands = {}, queries = {} }

bank.commands.open = {
  args = 'name amount:int=0', help = 'open an account',
  run = function(ctx, name, amount)
    if amount < 0 then return ctx.fail('BAD_ARGS', 'an amount must not be negative') end
    if ctx.db.accounts:has(name) then return ctx.fail('EXISTS', 'the account is open already') end
    ctx.db.accounts:put(name, amount)
    return amount
  end,
}

-- Takes from one account first, on purpose: when the other side fails, nothing of it may be left.
bank.commands.transfer = {
  args = 'from to amount:int', help = 'move money',
  run = function(ctx, from, to, amount)
    local accounts = ctx.db.accounts
    if amount <= 0 then return ctx.fail('BAD_ARGS', 'an amount must be positive') end
    if not accounts:has(from) then return ctx.fail('NOT_FOUND', 'no account ' .. from) end
    if accounts:add(from, -amount) < 0 then return ctx.fail('NO_FUNDS', from .. ' has too little') end
    if not accounts:has(to) then return ctx.fail('NOT_FOUND', 'no account ' .. to) end
    return accounts:add(to, amount)
  end,
}

bank.queries.balance = {
  args = 'name', help = 'what an account holds',
  run = function(ctx, name)
    return ctx.db.accounts:get(name) or ctx.fail('NOT_FOUND', 'no account ' .. name)
  end,
}

bank.queries.total = {
  help = 'the sum over all accounts',
  run = function(ctx)
    local sum = 0
    for _, amount in ctx.db.accounts:pairs() do sum = sum + amount end
    return sum
  end,
}

-- For `tidelock sim examples/bank.lua`: what clients do there, and what must hold after every entry.
function bank.workload(ctx)
  local from, to = 'account ' .. ctx.random(5), 'account ' .. ctx.random(5)
  local draw = ctx.random(10)
  if draw == 1 then return { 'open', from, 100 } end
  if draw <= 3 then return { 'total' } end
  return { 'transfer', from, to, ctx.random(80) }
end

function bank.invariant(ctx)
  local accounts, sum = ctx.db.accounts, 0
  for name, amount in accounts:pairs() do
    if amount < 0 then return false, name .. ' is overdrawn' end
    sum = sum + amount
  end
  return sum == 100 * accounts:len(), 'transfers have made or lost money'
end

return bank
