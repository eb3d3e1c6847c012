-- policy_autopilot.lua: the policy that ships, in a hurry: a node votes after two seconds, a voter that is silent for three is
-- replaced. Give real clusters more time (lua/tidelock/policy.lua has the settings); `target` is how many shall vote.
--
--   tidelock start --id 1 ... --cluster ... --machine examples/kv.lua --policy examples/policy_autopilot.lua
return require 'tidelock.policy'.autopilot { target = 5, steady = 2000, dead = 3000, forget = 60000 }
