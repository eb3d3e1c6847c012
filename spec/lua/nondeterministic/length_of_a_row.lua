-- The length of a list of a row, in which a hole was made.
return { name = 'm', version = 1, state = { rows = 'map' },
  commands = {
    fill = { args = 'key', run = function(ctx, key) ctx.db.rows:put(key, { list = { 1, 2, 3, 4 } }) end },
    drop = { args = 'key', run = function(ctx, key)
      local row = ctx.db.rows:get(key)
      if not row then return ctx.fail('NOT_FOUND', 'no such row') end
      row.list[3], row.list[2] = nil, nil
      ctx.db.rows:put(key, { left = #row.list })
      ctx.db.rows:del(key)
      return #row.list
    end },
  } }
