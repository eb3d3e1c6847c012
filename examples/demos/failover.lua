-- failover.lua: three nodes, a Lua service, a killed leader, and nothing lost.
--
--   make demo        (or: tidelock run examples/demos/failover.lua)        real processes
--   tidelock run --mode sim examples/demos/failover.lua                    the same on virtual time: a seed fixes everything
--
-- Thousands of commands go in; in the middle the leader is killed with kill -9. Every write that was acknowledged must be
-- there at the end, on every node, and all nodes must have the same digest. The exit status is the verdict.
local cluster = require 'tidelock.cluster'

local WRITES = tonumber(arg and arg[1]) or 3000

local c = cluster { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'live' }

local function demo()
  local acknowledged, unknown = {}, 0
  local function write(from, to)
    for i = from, to do
      local key = ('key-%06d'):format(i)
      local _, err = c:call('kv.set', key, i)
      if not err then acknowledged[#acknowledged + 1] = key
      elseif err.definite then c:note('refused: %s %s', err.code, err.message)
      else unknown = unknown + 1 end
    end
  end

  local leader = c:wait_leader()
  c:note('three nodes run, node %d leads', leader.id)
  write(1, WRITES / 2)
  c:note('%d writes acknowledged', #acknowledged)

  local old = c:leader()
  c:step(('kill -9 of the leader, node %d'):format(old.id), function() old:kill() end)
  write(WRITES / 2 + 1, WRITES)
  local new = c:wait_leader { not_node = old }
  c:note('node %d leads; %d writes acknowledged so far, %d with an unknown outcome', new.id, #acknowledged, unknown)

  c:step(('node %d starts again'):format(old.id), function() old:start() end)
  local applied, digest = c:wait_equal()
  c:note('all nodes have applied entry %d', applied)

  local found = 0
  for _, node in ipairs(c:nodes()) do
    local client = node:client()
    client.read = 'stale' -- what this node itself has
    local here = 0
    for _, key in ipairs(acknowledged) do
      if client:query('kv.get', key) == tonumber(key:match('%d+')) then here = here + 1 end
    end
    client:close()
    c:note('node %d has %d of %d', node.id, here, #acknowledged)
    found = found == 0 and here or math.min(found, here)
  end
  io.stdout:write(('%d acknowledged writes, %d found on every node%s; digests of all nodes are equal: %s\n'):format(
    #acknowledged, found, found == #acknowledged and ' (all)' or '', digest))
  return found == #acknowledged and found > WRITES * 0.9
end

local ok, result = pcall(demo)
if not ok then
  io.stdout:write('failed: ', tostring(result), '\n')
  for _, node in ipairs(c:nodes()) do
    io.stdout:write('--- node ', node.id, '\n', node:said(), '\n')
  end
end
c:close()
return ok and result and 0 or 1
