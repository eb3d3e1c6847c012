-- A circuit breaker that counts failures; a refused command takes nothing of it back.
local Breaker = {}
Breaker.__index = Breaker
function Breaker:fail() self.failures = self.failures + 1 end
function Breaker:open() return self.failures >= 3 end
local breaker = setmetatable({ failures = 0 }, Breaker)
return { name = 'm', version = 1,
  commands = { try = { args = 'ok:bool', run = function(ctx, ok)
    if breaker:open() then return 'open' end
    if not ok then
      breaker:fail()
      return ctx.fail('FAILED', 'it did not work')
    end
    return 'done'
  end } } }
