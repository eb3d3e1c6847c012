-- leaderboard.lua: the best score of each player, in order.
--
--   tidelock call leaderboard.submit chess ada 1800       {"best":1800,"rank":1}
--   tidelock query leaderboard.top chess 3                [["ada",1800]]
local board = { name = 'leaderboard', version = 1, state = { scores = 'map', order = 'map' }, commands = {}, queries = {} }

-- Rows of `order` are { board, -score, player }: the first is the best, and of equals the one whose name comes first.
local function rank(ctx, name, player, score)
  local ahead = 0
  for _ in ctx.db.order:range({ name }, { name, -score, player }) do ahead = ahead + 1 end
  return ahead + 1
end

board.commands.submit = {
  args = 'board player score:number', help = 'a score; the best one so far and its rank',
  run = function(ctx, name, player, score)
    local best = ctx.db.scores:get { name, player }
    if not best or score > best then
      if best then ctx.db.order:del { name, -best, player } end
      ctx.db.scores:put({ name, player }, score)
      ctx.db.order:put({ name, -score, player }, true)
      best = score
    end
    local at = rank(ctx, name, player, best)
    if at == 1 and best == score then ctx.emit('leader', name, { player = player, score = score }) end
    return { best = best, rank = at }
  end,
}

board.commands.remove = {
  args = 'board player', help = 'forget a player; false if there was none',
  run = function(ctx, name, player)
    local best = ctx.db.scores:take { name, player }
    return best ~= nil and ctx.db.order:del { name, -best, player }
  end,
}

board.queries.top = {
  args = 'board n:int=10', help = 'the best players and their scores',
  run = function(ctx, name, n)
    local out = {}
    for key in ctx.db.order:pairs({ name }, { limit = math.max(0, n) }) do out[#out + 1] = { key[3], -key[2] } end
    return out
  end,
}

board.queries.rank = {
  args = 'board player', help = 'a player\'s rank, from 1',
  run = function(ctx, name, player)
    local best = ctx.db.scores:get { name, player } or ctx.fail('NOT_FOUND', 'there is no such player')
    return rank(ctx, name, player, best)
  end,
}

function board.workload(ctx) return { 'submit', 'chess', 'player ' .. ctx.random(5), ctx.random(100) } end

function board.invariant(ctx)
  if ctx.db.scores:len() ~= ctx.db.order:len() then return false, 'a player is ranked twice, or not at all' end
end

return board
