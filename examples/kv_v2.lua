-- kv_v2.lua: kv.lua's next version: each value has a revision, and its rows move to where that fits.
--
--   tidelock deploy kv=examples/kv_v2.lua
--   tidelock call kv.set colour teal              now answers with the revision: 1 for a new key
--   tidelock call kv.cas colour 1 blue            replaces by revision, not by value
--
-- kv.lua keeps { key -> value } in `rows`. This keeps { key -> { value, revision } } in `cells`: migrate moves them, 1,000 in an
-- entry, so that no entry takes long. Until it is done the service answers BUSY; if it fails, kv.lua stays in force.
local kv = { name = 'kv', version = 2, state = { cells = 'map' }, commands = {}, queries = {} }

function kv.migrate(ctx)
  local rows, cells, moved = ctx.db.rows, ctx.db.cells, 0
  for key, value in rows:pairs(nil, { limit = 1000 }) do
    cells:put(key, { value = value, revision = 1 })
    rows:del(key)
    moved = moved + 1
  end
  return moved == 1000 and 'more' or nil
end

local function write(ctx, key, cell, value)
  local revision = (cell and cell.revision or 0) + 1
  ctx.db.cells:put(key, { value = value, revision = revision })
  return revision
end

-- Stores a value, and gives its revision. With nx only if the key is free: else EXISTS.
kv.commands.set = {
  args = 'key value:any [nx:flag]', help = 'store a value; its revision',
  run = function(ctx, key, value, nx)
    local cell = ctx.db.cells:get(key)
    if nx and cell then return ctx.fail('EXISTS', 'the key is taken') end
    return write(ctx, key, cell, value)
  end,
}

-- Stores a value if the key is at `revision`; CONFLICT, with the cell that is there, if it is at another.
kv.commands.cas = {
  args = 'key revision:int value:any', help = 'replace a value of this revision',
  run = function(ctx, key, revision, value)
    local cell = ctx.db.cells:get(key)
    if not cell then return ctx.fail('NOT_FOUND', 'there is no such key') end
    if cell.revision ~= revision then return ctx.fail('CONFLICT', 'it is at another revision', cell) end
    return write(ctx, key, cell, value)
  end,
}

kv.commands.del = {
  args = 'key', help = 'remove a key; false if there was none',
  run = function(ctx, key) return ctx.db.cells:del(key) end,
}

local function cell_of(ctx, key)
  local cell = ctx.db.cells:get(key)
  if not cell then return ctx.fail('NOT_FOUND', 'there is no such key') end
  return cell
end

kv.queries.get = { args = 'key', help = 'the value of a key', run = function(ctx, key) return cell_of(ctx, key).value end }
kv.queries.cell = { args = 'key', help = 'its value and its revision', run = cell_of }
kv.queries.count = { help = 'how many keys', run = function(ctx) return ctx.db.cells:len() end }

-- Keys and cells in order: [[key, cell], ...], at most `limit`, beginning after the key `after`.
kv.queries.list = {
  args = '[prefix] [limit:int=100] [after]', help = 'keys, values and revisions in order',
  run = function(ctx, prefix, limit, after)
    local out = {}
    for key, cell in ctx.db.cells:pairs(prefix, { limit = limit, after = after }) do out[#out + 1] = { key, cell } end
    return out
  end,
}

return kv
