-- policy_autopilot_three.lua: as policy_autopilot.lua, for three voters.
return require 'tidelock.policy'.autopilot { target = 3, steady = 2000, dead = 3000, forget = 60000 }
