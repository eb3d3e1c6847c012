-- tally.lua: kv.set that counts, for failover.sh: a write that is done twice shows.
return {
  name = 'tally', version = 1, state = { rows = 'map', times = 'map' },
  commands = { set = {
    args = 'key value:any',
    run = function(ctx, key, value)
      ctx.db.rows:put(key, value)
      ctx.db.times:add(key, 1)
    end,
  } },
  queries = { list = {
    args = 'from to', help = 'from..to, without to: a text of lines, key and times, at most 1,000',
    run = function(ctx, from, to)
      local out = {}
      for key, times in ctx.db.times:range(from, to, { limit = 1000 }) do out[#out + 1] = key .. ' ' .. times end
      return table.concat(out, '\n')
    end,
  } },
}
