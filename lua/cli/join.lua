-- cli/join.lua: what `start --join` does before the node runs: its identity is made, durable, and a member is asked to let it in.
local node, client = require 'tidelock.node', require 'tidelock.client'
local call = require 'cli.call'

local join = {}

local RETRY_MS, ATTEMPT_MS, PATIENCE_MS, KNOWN_MS = 500, 2000, 15000, 3000

-- What a node says of itself. What is not given stays as the cluster has it.
local function describe(options, incarnation, known)
  return { id = options.id, incarnation = incarnation, address = options.advertise or options.listen,
    zone = options.zone or known and known.zone, priority = options.priority or known and known.priority,
    tags = options.tags or known and next(known.tags) and known.tags or nil }
end

local function member_of(c, id)
  local answer = c:query('tidelock.members')
  for _, member in ipairs(answer and answer.members or {}) do
    if member.id == id then return member end
  end
end

-- Asks until it is let in, or refused; what is in the way and can pass is waited for. patience: for how long, in ms, where nobody
-- answers. -> true; nil, error, whether it is that nobody answered
local function ask(c, options, incarnation, patience, cli)
  local from, said = c.now(), nil
  while true do
    local answer, err = c:call('tidelock.join', describe(options, incarnation, member_of(c, options.id)))
    if answer then return true end
    local passes, busy = client.may_pass(err)
    if not passes or c.now() >= from + (busy and PATIENCE_MS or patience) then return nil, err, passes and not busy end
    if said ~= err.code then cli.say('tidelock: ', err.message, '; asking again') end
    said = err.code
    c.sleep(RETRY_MS)
  end
end

-- The cluster that the members are of, as text; nil: none of them says.
local function cluster_of(c)
  for _ = 1, #c.list do
    local status = c:status()
    if status and status.cluster:find('[^0]') then return status.cluster end
    c:close()
    c.at = c.at % #c.list + 1
  end
end

-- options: id (a number), data, listen, advertise, zone, tags, priority, insecure; addresses of members, as --join has them.
-- -> exit code; 0: the node may run, and whether the cluster was told where it is
function join.enter(options, addresses, cli)
  local incarnation, own, why = node.join_begin(options)
  if not incarnation then
    cli.say('tidelock: ', why)
    return own
  end
  local c, bad = client.new(addresses, { timeout = ATTEMPT_MS })
  if not c then cli.stop(2, '--join: ', bad) end
  local cluster = cluster_of(c)
  if own and cluster and own ~= cluster then
    c:close()
    cli.say('tidelock: this directory is of cluster ', own, ', and ', addresses, ' is of cluster ', cluster,
      ': a node that joins that one begins with an empty directory')
    return 78
  end
  local ok, err, unheard = ask(c, options, incarnation, own and KNOWN_MS or PATIENCE_MS, cli)
  cluster = cluster or ok and cluster_of(c)
  c:close()
  if own and not ok and unheard then
    cli.say('tidelock: ', addresses, ' could not be told that node ', options.id, ' starts (', err.message, '); it is a member already')
    return 0, false
  end
  if not ok then
    cli.say('tidelock: ', addresses, unheard and ' could not be asked' or (' does not let node %.0f in'):format(options.id), ': ',
      err.message)
    return call.exit_code(err, true)
  end
  if own then return 0, true end
  if not cluster then
    cli.say('tidelock: ', addresses, ' does not say of which cluster it is; run the same line again')
    return 3
  end
  local done, code, sentence = node.join_end(options, cluster)
  if done then return 0, true end
  cli.say('tidelock: ', sentence)
  return code
end

return join
