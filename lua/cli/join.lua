-- cli/join.lua: what `start --join` does before the node runs: its identity is made, durable, and a member is asked to let it in.
local node, client = require 'tidelock.node', require 'tidelock.client'
local call = require 'cli.call'

local join = {}

local RETRY_MS, KNOWN_MS = 500, 2000

-- What a node says of itself. What is not given stays as the cluster has it.
local function describe(options, id, incarnation, known)
  return { id = id, incarnation = incarnation, address = options.advertise or options.listen,
    zone = options.zone or known and known.zone, priority = options.priority or known and known.priority,
    tags = options.tags or known and next(known.tags) and known.tags or nil }
end

local function member_of(c, id)
  local answer = c:query('tidelock.members')
  for _, member in ipairs(answer and answer.members or {}) do
    if member.id == id then return member end
  end
end

-- Asks until it is let in, or refused. What is in the way and can pass is waited for.
local function ask(c, options, id, incarnation, cli)
  local deadline, said = c.now() + c.timeout, nil
  while true do
    local answer, err = c:call('tidelock.join', describe(options, id, incarnation, member_of(c, id)))
    if answer then return true end
    local passes = err.code == 'CONFIG_PENDING' or err.code == 'NO_LEADER' or err.code == 'TIMEOUT' or err.code == 'LOST' or err.code == 'BUSY'
    if not passes or c.now() >= deadline then return nil, err end
    if said ~= err.code then cli.say('tidelock: ', err.message, '; asking again') end
    said = err.code
    c.sleep(RETRY_MS)
  end
end

-- options: id (a number), data, listen, advertise, zone, tags, priority, insecure; addresses of members, as --join has them
function join.enter(options, addresses, cli)
  local incarnation, let_in, why = node.join_begin(options)
  if not incarnation then
    cli.say('tidelock: ', why)
    return let_in
  end
  local c, bad = client.new(addresses, { timeout = let_in and KNOWN_MS or options.timeout })
  if not c then cli.stop(2, '--join: ', bad) end
  local ok, err = ask(c, options, options.id, incarnation, cli)
  local status = ok and c:status()
  c:close()
  if let_in then
    if not ok then cli.say('tidelock: nobody was told that node ', options.id, ' starts (', err.message, '); it is a member already') end
    return 0
  end
  if not ok then
    cli.say('tidelock: ', addresses, ' does not let node ', tostring(options.id), ' in: ', err.message)
    return call.exit_code(err, true)
  end
  if not status then
    cli.say('tidelock: ', addresses, ' does not say of which cluster it is; run the same line again')
    return 3
  end
  local done, code, sentence = node.join_end(options, status.cluster)
  if done then return 0 end
  cli.say('tidelock: ', sentence)
  return code
end

return join
