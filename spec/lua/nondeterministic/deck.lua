-- A deck that is shuffled once and dealt from.
local Deck = {}
Deck.__index = Deck
function Deck:deal(ctx)
  if #self.cards == 0 then for i = 1, 10 do self.cards[i] = i end end
  return table.remove(self.cards, ctx.random(#self.cards))
end
local deck = setmetatable({ cards = setmetatable({}, {}) }, Deck)
return { name = 'm', version = 1,
  commands = { deal = { run = function(ctx) return deck:deal(ctx) end } } }
