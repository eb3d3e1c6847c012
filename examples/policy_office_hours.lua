-- policy_office_hours.lua: what the autopilot does, but while people are there to look at it: Monday to Friday, 9 to 17 o'clock. A voter that
-- is dead is replaced at any hour; operators who want more at night say --force, and that is on record.
--
--   tidelock deploy --policy examples/policy_office_hours.lua
local HOUR, DAY = 3600000, 86400000 -- ms
local OPENS, CLOSES = 9, 17
local EAST = 0 -- hours east of Greenwich

local pilot = require 'tidelock.policy'.autopilot { target = 3 }

-- Cluster time is milliseconds since a Thursday.
local function is_open(now)
  local here = now + EAST * HOUR
  local day, hour = (math.floor(here / DAY) + 3) % 7, math.floor(here / HOUR) % 24 -- 0: Monday
  return day < 5 and hour >= OPENS and hour < CLOSES
end

-- Until the office opens; within a day at the latest it is asked again anyway.
local function until_open(now)
  local next_hour = HOUR - now % HOUR
  for hours = 0, 22 do
    if is_open(now + next_hour + hours * HOUR) then return next_hour + hours * HOUR end
  end
  return next_hour + 22 * HOUR
end

return {
  name = 'office_hours', version = 1,

  admit = function(_, view, change)
    if change.by ~= 'operator' or is_open(view.now) then return true end
    return nil, ('the office is closed until %d o\'clock; --force does it all the same'):format(OPENS)
  end,

  review = function(ctx, view)
    local wanted = pilot.review(ctx, view)
    if not wanted or wanted.wait or wanted.op == 'replace' or is_open(view.now) then return wanted end
    return { wait = until_open(view.now), why = 'until the office opens: ' .. wanted.why }
  end,
}
