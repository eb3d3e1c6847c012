return { name = 'mistakes', version = 1, state = { rows = 'map' },
  init = function(ctx) ctx.db.rows:put('a', { n = 1 }) end,
  commands = {
    forgets = function(ctx)
      local row = ctx.db.rows:get('a')
      row.n = row.n + 1
      return row.n
    end,
    arm = function(ctx) ctx.after(5, 'fails') end,
    again = function(ctx) ctx.after(0, 'again') end,
  },
  timers = { fails = function() error('no') end, again = function(ctx) ctx.after(0, 'again') end } }
