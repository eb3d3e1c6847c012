-- partition.lua: a cluster falls apart and comes together, while clients go on; nobody is told a lie.
--
--   tidelock sim examples/demos/partition.lua                 three nodes on virtual time; --seed N, --seeds 1..100, --nodes 5
--   tidelock run --mode live examples/demos/partition.lua     the same on real processes
--
-- Clients write and read the same few keys all the time. The leader is cut off: it cannot commit, and the others elect one of
-- their own. When the links are whole again the old leader follows, and all nodes are equal. What every client was told is
-- then held against one copy of the data: linearizability. A page shows who led when, if a file is named for it.
local cluster = require 'tidelock.cluster'

local CLIENTS, KEYS = 4, 3

local c = cluster { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'sim' }
local is_over = false

-- One client: writes, swaps and reads, each within 400 ms, until all is over. -> how many of its requests were answered
local function client(name)
  local answered, number = 0, 0
  local quick = c:with { timeout = 400 }
  while not is_over do
    local key, kind = 'k' .. math.random(KEYS), math.random(4)
    number = number + 1
    local value, err
    if kind <= 2 then value, err = quick:query('kv.get', key)
    elseif kind == 3 then value, err = quick:call('kv.set', key, name .. number)
    else
      local now = quick:query('kv.get', key)
      value, err = quick:call('kv.cas', key, now or 'nothing', name .. number)
    end
    if value ~= nil or not err or err.definite and err.code ~= 'NO_LEADER' then answered = answered + 1 end
    c:sleep(math.random(20))
  end
  return answered
end

local old = c:wait_leader()
c:note('node %d leads %d nodes', old.id, #c:nodes())
local clients = {}
for i = 1, CLIENTS do clients[i] = c:go(client, string.char(96 + i)) end
c:sleep(2000)

c:step(('the leader, node %d, is cut off'):format(old.id), function()
  c:partition({ old }, 'rest')
  local new = c:wait_leader { not_node = old, within = 10000 }
  c:note('node %d leads in term %d', new.id, new:status().term)
  local _, err = c:with { node = old, timeout = 1000 }:call('kv.set', 'alone', 1)
  assert(err, 'a write was acknowledged by a minority')
  c:note('node %d alone refuses a write: %s', old.id, err.code)
  c:sleep(3000)
end)

c:step('the links are whole again', function()
  c:heal()
  c:sleep(2000)
  is_over = true
  local answered = 0
  for _, one in ipairs(clients) do answered = answered + one:wait() end
  local applied = c:wait_equal { within = 20000 }
  c:note('%d requests were answered, and all nodes have applied entry %d', answered, applied)
end)

local verdict, judged = c:check_history()
if arg[1] then c:report { html = arg[1], title = 'A partition' } end
c:close()
print(('%d operations on %d keys are %s'):format(judged.operations, judged.keys, verdict))
return verdict == 'linearizable' and 0 or 1
