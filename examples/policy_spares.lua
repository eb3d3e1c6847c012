-- policy_spares.lua: the voters stay who they are; nodes that are tagged spare=yes stand by, as learners, and one of them takes the place
-- of a voter that has been silent for 20 seconds. Not twice in ten minutes: if several are gone at once, the network is, and they come back.
--
--   tidelock start --id 1 ... --cluster ... --machine examples/kv.lua --policy examples/policy_spares.lua
--   tidelock start --id 4 ... --join 127.0.0.1:7301 --tag spare=yes
local SILENT, PAUSE = 20000, 600000 -- ms

local function is_ready(one)
  return one.role == 'learner' and one.tags.spare == 'yes' and one.caught_up and one.silent_ms == 0 and not one.parked
end

return {
  name = 'spares', version = 1, state = { memory = 'map' },

  admit = function(_, _, change)
    if change.by == 'join' and change.op == 'add' and change.tags.spare ~= 'yes' then
      return nil, 'only spares join uninvited: start it with --tag spare=yes'
    end
    return true
  end,

  review = function(ctx, view)
    local gone, spare
    for _, one in ipairs(view.members) do
      if one.role == 'voter' and one.silent_ms > (gone and gone.silent_ms or 0) then gone = one end
      if is_ready(one) then spare = spare or one end
    end
    if not gone or not spare or view.voters_up < view.quorum then return nil end
    if gone.silent_ms < SILENT then
      return { wait = SILENT - gone.silent_ms, why = ('node %d is silent, and node %d stands by'):format(gone.id, spare.id) }
    end
    local last = ctx.db.memory:get('replaced')
    if last and view.now - last < PAUSE then
      return { wait = PAUSE - (view.now - last), why = 'another one was replaced not long ago' }
    end
    ctx.db.memory:put('replaced', view.now)
    return { op = 'replace', id = gone.id, with = spare.id, why = ('node %d is gone; node %d stood by'):format(gone.id, spare.id) }
  end,
}
