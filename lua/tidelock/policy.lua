-- tidelock/policy.lua: the membership policies that ship. A policy's whole file may be one of these lines:
--
--   return require 'tidelock.policy'.manual                        nobody joins uninvited, nothing happens by itself (what holds without any)
--   return require 'tidelock.policy'.autopilot { target = 3 }      so many voters, of whoever joined
--   return require 'tidelock.policy'.zones { target = 3, leader = 'a' }     the same, spread over zones
--
-- Settings, times in ms: target (3) voters, odd; steady (10000) heard and caught up for so long before it votes; dead (30000) silent for so
-- long before a spare takes a voter's place; forget (3600000) silent for so long before a learner is removed; zones alone: leader, the zone
-- that is to lead, and patience (60000) between two tries of that.
--
-- Functions of what they are shown, in Lua as services have it: deployed, this source is part of the bundle.
local policy = {}

local defaults = { target = 3, steady = 10000, dead = 30000, forget = 3600000 }

-- The settings, whole; throws with a sentence.
local function settle(name, given, more)
  local settings = {}
  for key, value in pairs(defaults) do settings[key] = value end
  for key, value in pairs(more) do settings[key] = value end
  for key, value in pairs(given or {}) do
    local known = settings[key]
    if known == nil then error(name .. " has no setting '" .. tostring(key) .. "'", 0) end
    if type(value) ~= type(known) then error(name .. ': ' .. key .. ' must be a ' .. type(known), 0) end
    if type(value) == 'number' and (value < 1 or value ~= math.floor(value)) then
      error(name .. ': ' .. key .. ' must be a whole number from 1', 0)
    end
    settings[key] = value
  end
  if settings.target % 2 == 0 or settings.target > 31 then
    error(name .. ': target must be odd, and at most 31: an even number of voters bears no more failures than one less', 0)
  end
  return settings
end

local function seconds(ms) return ('%d s'):format(math.floor(ms / 1000)) end

-- Who is there: voters; spares, which could vote at once, the steadiest first.
local function look(view)
  local voters, learners, spares = {}, {}, {}
  for _, one in ipairs(view.members) do
    if one.role == 'voter' then voters[#voters + 1] = one else learners[#learners + 1] = one end
    if one.role == 'learner' and one.caught_up and one.silent_ms == 0 and not one.parked then spares[#spares + 1] = one end
  end
  table.sort(spares, function(a, b)
    if a.steady_ms ~= b.steady_ms then return a.steady_ms > b.steady_ms end
    return a.id < b.id
  end)
  return voters, learners, spares
end

-- How many voters of each zone there are.
local function count_zones(voters)
  local count = {}
  for _, one in ipairs(voters) do count[one.zone] = (count[one.zone] or 0) + 1 end
  return count
end

-- Of these the one for which `cost`, a number, is least; the earliest among equals.
local function best(list, cost)
  local found, least
  for _, one in ipairs(list) do
    local c = cost(one)
    if c and (least == nil or c < least) then found, least = one, c end
  end
  return found
end

-- A voter that has been silent for too long, the longest first, and who takes its place: by zones one of its own zone, or of the emptiest.
local function replace_dead(voters, spares, settings)
  local dead = best(voters, function(one) return one.silent_ms >= settings.dead and -one.silent_ms or nil end)
  if not dead or not spares[1] then return nil end
  local spare = spares[1]
  if settings.by_zone then
    local count = count_zones(voters)
    spare = best(spares, function(one) return one.zone == dead.zone and -1 or count[one.zone] or 0 end)
  end
  return { op = 'replace', id = dead.id, with = spare.id,
    why = ('node %d has been silent for %s; node %d takes its place'):format(dead.id, seconds(dead.silent_ms), spare.id) }
end

-- How many more voters there should be, of so many that could: as many as make an odd number.
local function missing(voters, could, settings)
  local n = math.min(settings.target - #voters, could)
  if (#voters + n) % 2 == 0 then n = n - 1 end
  return math.max(n, 0)
end

local function promote_steady(voters, spares, settings)
  local ready, list, names = {}, {}, {}
  for _, one in ipairs(spares) do if one.steady_ms >= settings.steady then ready[#ready + 1] = one end end
  local n = missing(voters, #ready, settings)
  if n == 0 then return nil end
  local count = count_zones(voters)
  while #list < n do
    local one = settings.by_zone and best(ready, function(spare) return count[spare.zone] or 0 end) or ready[1]
    count[one.zone] = (count[one.zone] or 0) + 1
    list[#list + 1] = { op = 'promote', id = one.id }
    names[#names + 1] = tostring(one.id)
    local rest = {}
    for _, other in ipairs(ready) do if other ~= one then rest[#rest + 1] = other end end
    ready = rest
  end
  list.why = ('node %s: steady for %s, so there are %d voters of %d'):format(table.concat(names, ', '), seconds(settings.steady),
    #voters + n, settings.target)
  return list
end

-- Which voter is missed least: one that is not heard, that is parked, that lags, that does not lead; of a full zone, and of a high id.
local function worth(one, count)
  return (one.silent_ms > 0 and 0 or 1000000) + (one.parked and 0 or 100000) + (one.caught_up and 10000 or 0) + (one.is_leader and 1000000 or 0)
    - (count[one.zone] or 0) * 100 - one.id % 100
end

-- Too many voters: some are learners from then on, of each zone one at a time, and a majority of the rest is heard.
local function demote_extra(view, voters, settings)
  local extra = #voters - settings.target
  if extra <= 0 then return nil end
  local list, names, taken, count = {}, {}, {}, settings.by_zone and count_zones(voters) or {}
  local up = view.voters_up
  while #list < extra do
    local one = best(voters, function(voter)
      if taken[voter.id] or settings.by_zone and taken[voter.zone] then return nil end
      return worth(voter, count)
    end)
    if not one then break end
    local left = one.silent_ms == 0 and up - 1 or up
    if left < math.floor((#voters - #list - 1) / 2) + 1 then break end
    up = left
    taken[one.id] = true
    if settings.by_zone then taken[one.zone] = true end
    list[#list + 1] = { op = 'demote', id = one.id }
    names[#names + 1] = tostring(one.id)
  end
  if not list[1] then return nil end
  list.why = ('node %s: %d voters are more than %d'):format(table.concat(names, ', '), #voters, settings.target)
  return list
end

local function forget_learner(learners, settings)
  local gone = best(learners, function(one) return one.silent_ms >= settings.forget and one.id or nil end)
  if not gone then return nil end
  return { op = 'remove', id = gone.id, why = ('node %d, a learner, has been silent for %s'):format(gone.id, seconds(gone.silent_ms)) }
end

-- A voter of a full zone gives its place to a spare of an emptier one that has been steady for so long. -> operation, spare
local function rebalance(voters, spares, steady)
  local count = count_zones(voters)
  local spare = best(spares, function(one) return one.steady_ms >= steady and (count[one.zone] or 0) or nil end)
  local full = best(voters, function(one) return -count[one.zone] end)
  if not spare or not full or count[full.zone] - (count[spare.zone] or 0) < 2 then return nil end
  local leaves = best(voters, function(one) return one.zone == full.zone and worth(one, count) or nil end)
  return { { op = 'promote', id = spare.id }, { op = 'demote', id = leaves.id },
    why = ("%d voters are in zone '%s' and %d in zone '%s': node %d votes in place of node %d"):format(count[full.zone], full.zone,
      count[spare.zone] or 0, spare.zone, spare.id, leaves.id) }, spare
end

-- Whether another zone leads than the one that is to.
local function leads_elsewhere(voters, settings)
  for _, one in ipairs(voters) do if one.is_leader then return settings.leader ~= '' and one.zone ~= settings.leader end end
  return false
end

-- What would be done if it only lasted: when to look again; nil: nothing waits for time alone.
local function wait(voters, learners, spares, settings)
  local least, why
  local function consider(ms, text)
    if ms > 0 and (least == nil or ms < least) then least, why = ms, text end
  end
  for _, one in ipairs(voters) do
    if one.silent_ms > 0 and one.silent_ms < settings.dead and spares[1] then
      consider(settings.dead - one.silent_ms, ('node %d is silent; a spare takes its place after %s'):format(one.id, seconds(settings.dead)))
    end
  end
  local n = missing(voters, #spares, settings)
  local last = n > 0 and spares[#voters % 2 == 0 and 1 or 2] -- the fewest that make an odd number
  if last and last.steady_ms < settings.steady then
    consider(settings.steady - last.steady_ms, ('node %d votes when it has been steady for %s'):format(last.id, seconds(settings.steady)))
  end
  for _, one in ipairs(learners) do
    if one.silent_ms > 0 and one.silent_ms < settings.forget then
      consider(settings.forget - one.silent_ms,
        ('node %d, a learner, is silent; it is removed after %s'):format(one.id, seconds(settings.forget)))
    end
  end
  if settings.by_zone then
    local balanced, spare = rebalance(voters, spares, 0)
    if balanced and spare.steady_ms < settings.steady then
      consider(settings.steady - spare.steady_ms, ("node %d votes for zone '%s' when it has been steady for %s"):format(spare.id, spare.zone,
        seconds(settings.steady)))
    end
    for _, one in ipairs(leads_elsewhere(voters, settings) and voters or {}) do
      if one.zone == settings.leader and one.steady_ms > 0 and one.steady_ms < settings.steady then
        consider(settings.steady - one.steady_ms, ("node %d may lead when it has been steady for %s"):format(one.id, seconds(settings.steady)))
      end
    end
  end
  return least and { wait = least, why = why }
end

-- Nothing can be done while a change goes on, nor without a majority.
local function may_change(view) return not view.pending and view.voters_up >= view.quorum end

-- The first thing to do, and who is there.
local function plan(view, settings)
  local voters, learners, spares = look(view)
  if not may_change(view) then return nil, voters, learners, spares end
  return replace_dead(voters, spares, settings) or promote_steady(voters, spares, settings) or demote_extra(view, voters, settings)
    or forget_learner(learners, settings), voters, learners, spares
end

-- --- manual ----------------------------------------------------------------------------------------------------------------

policy.manual = {
  name = 'manual',
  admit = function(_, _, change)
    if change.by ~= 'join' then return true end
    return nil, ('nobody invited node %d. To let it join: tidelock members add %d=%s'):format(change.id, change.id, change.address)
  end,
}

-- --- autopilot -------------------------------------------------------------------------------------------------------------

function policy.autopilot(given)
  local settings = settle('autopilot', given, {})
  return {
    name = 'autopilot',
    review = function(_, view)
      local operation, voters, learners, spares = plan(view, settings)
      return operation or wait(voters, learners, spares, settings)
    end,
    admit = function() return true end,
  }
end

-- --- zones -----------------------------------------------------------------------------------------------------------------

-- Leadership goes to the zone that is to have it; one try in `patience`, for it may not work. -> operation; or nil, what it waits for
local function lead_from(ctx, view, voters, settings)
  if not leads_elsewhere(voters, settings) then return nil end
  local to = best(voters, function(one)
    if one.zone ~= settings.leader or one.silent_ms > 0 or one.parked or one.steady_ms < settings.steady then return nil end
    return one.lag
  end)
  if not to then return nil end
  local last = ctx.db.tried:get('transfer')
  if last and view.now - last < settings.patience then
    return nil, { wait = settings.patience - (view.now - last),
      why = ("zone '%s' is to lead; the last try was not long ago"):format(settings.leader) }
  end
  ctx.db.tried:put('transfer', view.now)
  return { op = 'transfer', id = to.id, why = ("zone '%s' is to lead"):format(settings.leader) }
end

function policy.zones(given)
  local settings = settle('zones', given, { leader = '', patience = 60000 })
  settings.by_zone = true
  return {
    name = 'zones', state = { tried = 'map' },
    review = function(ctx, view)
      local operation, voters, learners, spares = plan(view, settings)
      if operation then return operation end
      local transfer, later
      if may_change(view) then
        operation = rebalance(voters, spares, settings.steady)
        if operation then return operation end
        transfer, later = lead_from(ctx, view, voters, settings)
        if transfer then return transfer end
      end
      local sooner = wait(voters, learners, spares, settings)
      if sooner and later then return later.wait < sooner.wait and later or sooner end
      return sooner or later
    end,
    admit = function(_, _, change)
      if change.by == 'join' and change.op == 'add' and change.zone == '' then return nil, 'say in which zone the node is: --zone NAME' end
      return true
    end,
  }
end

return policy
