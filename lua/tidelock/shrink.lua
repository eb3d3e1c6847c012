-- tidelock/shrink.lua: makes a failing seed small: a script of few strikes and few commands that fails in the same way.
--
-- What the seed drew becomes a script: strikes, and every request with its time. Then whatever can be left out is, by delta debugging:
-- halves, quarters, ... single ones, as long as it still fails so. In between fewer nodes and a shorter run are tried.
local swarm, wire = require 'tidelock.swarm', require 'tidelock.wire'

local shrink = {}

local SECONDS = 60 -- of all tries together
local BEGAN_MS = 1000 -- virtual time, when a world begins

-- What two failures of one kind have in common: numbers, texts and lists do not count.
local function kind_of(failed)
  return (failed:match('^[^\n]*'):gsub('^client %d+: [%w_.]+ ', 'client: '):gsub('%b[]', '[]'):gsub('%b""', '""'):gsub('%d+', '#'))
end

local function is_same(report, kind)
  return report and report.failed and kind_of(report.failed) == kind
end

-- The list without elements from..to.
local function without(list, from, to)
  local out = {}
  for i, one in ipairs(list) do if i < from or i > to then out[#out + 1] = one end end
  return out
end

-- Leaves out what `fails` does not need; it is asked with a shorter list.
local function reduce(list, fails)
  local size = #list
  while size >= 1 do
    local at, shorter = 1, false
    while at <= #list do
      local fewer = without(list, at, at + size - 1)
      if fails(fewer) then list, shorter = fewer, true else at = at + size end
    end
    if size == 1 and not shorter then break end
    size = size > 1 and math.ceil(size / 2) or 1
  end
  return list
end

local function copy(from, more)
  local to = {}
  for k, v in pairs(from) do to[k] = v end
  for k, v in pairs(more) do to[k] = v end
  return to
end

-- What a list is when there are fewer nodes.
local function on_nodes(list, nodes)
  local out = {}
  for i, one in ipairs(list) do
    out[i] = copy(one, { node = (one.node - 1) % nodes + 1, peer = one.peer and (one.peer - 1) % nodes + 1 })
  end
  return out
end

local function shorter_strikes(try, script)
  for i = 1, #script.strikes do
    for _, part in ipairs { 0, 0.25, 0.5 } do
      local strikes = copy(script.strikes, { [i] = copy(script.strikes[i], { lasts = math.floor(script.strikes[i].lasts * part) }) })
      local found = try { strikes = strikes }
      if found then
        script = found
        break
      end
    end
  end
  return script
end

-- Shrinks the seed of a failing report of sim.run; `bundle` is its service, `say(text)` hears how it goes. Gives { seed, nodes,
-- strikes, requests (nil: the workload itself), form_ms, fault_ms, failed, tries }.
function shrink.run(bundle, report, say)
  local kind, tries, deadline = kind_of(report.failed), 0, os.clock() + SECONDS
  local script = { bundle = bundle, seed = report.seed, nodes = report.nodes, clients = report.clients, commands = report.commands,
    fault_ms = report.fault_ms, strikes = report.strikes, form_ms = report.form_ms, failed = report.failed }

  -- The script with these fields changed, if it still fails in the same way.
  local function try(change)
    if os.clock() > deadline then return nil end
    local changed = copy(script, change)
    tries = tries + 1
    local r = swarm.run(changed)
    if not is_same(r, kind) then return nil end
    changed.failed = r.failed
    script = changed
    say(('%d tries: %d strikes, %d commands, %d nodes'):format(tries, #script.strikes, #(script.requests or {}), script.nodes))
    return script
  end

  local function pass()
    script.strikes = reduce(script.strikes, function(strikes) return try { strikes = strikes } ~= nil end)
    if script.requests then
      script.requests = reduce(script.requests, function(requests) return try { requests = requests } ~= nil end)
    end
  end

  local scripted = try { requests = report.requests }
  if not scripted then try {} end
  -- Nothing after the failure matters.
  try { fault_ms = math.max(0, math.min(script.fault_ms, report.at - BEGAN_MS - report.form_ms + 1)) }
  pass()
  for nodes = 1, script.nodes - 1 do
    if try { nodes = nodes, strikes = on_nodes(script.strikes, nodes),
        requests = script.requests and on_nodes(script.requests, nodes) } then break end
  end
  for _, part in ipairs { 0.1, 0.25, 0.5, 0.75 } do
    if try { fault_ms = math.floor(script.fault_ms * part) } then break end
  end
  shorter_strikes(try, script)
  pass()
  script.tries = tries
  return script
end

-- --- words -------------------------------------------------------------------------------------------------------------------------

-- "crash node 2 at 812 ms, for 300 ms"
function shrink.describe(strike)
  return ('%s %s at %d ms%s'):format(strike.fault, strike.leader and 'the leader' or 'node ' .. strike.node, strike.at,
    strike.lasts > 0 and (', for %d ms'):format(strike.lasts) or '')
end

local function strike_line(s)
  return ('    { at = %d, fault = %q, node = %s, peer = %d, amount = %d, lasts = %d },'):format(s.at, s.fault,
    s.leader and "'leader'" or s.node, s.peer, s.amount, s.lasts)
end

-- JSON as a Lua text.
local function quoted(text)
  if not text:find("['\\%c]") then return "'" .. text .. "'" end
  return ('%q'):format(text):gsub('\\\n', '\\n')
end

local function command_line(r)
  local flags = (r.query and 'query = true, ' or '') .. (r.again and 'again = true, ' or '')
    .. (r.forward and '' or 'forward = false, ')
  return ('    { at = %d, client = %d, node = %d, timeout = %d, %sname = %q, args = %s },'):format(r.at, r.client, r.node, r.timeout,
    flags, r.name, quoted(wire.pack_json(r.args)))
end

-- The text of a scenario file that runs the script again; `service` is the name of the file beside it.
function shrink.scenario(script, service)
  local lines = {}
  local function add(format, ...) lines[#lines + 1] = select('#', ...) > 0 and format:format(...) or format end
  add('-- %s, seed %d: %s', service, script.seed, (script.failed:gsub('[\r\n].*', '')))
  add('assert(require \'tidelock.sim\'.replay {')
  add('  service = %q, seed = %.0f, nodes = %d, forms = %d, lasts = %d,', service, script.seed, script.nodes, script.form_ms, script.fault_ms)
  if script.clients then add('  clients = %d,', script.clients) end
  add('  strikes = {')
  for _, strike in ipairs(script.strikes) do add('%s', strike_line(strike)) end
  add('  },')
  if script.requests then
    add('  commands = {')
    for _, request in ipairs(script.requests) do add('%s', command_line(request)) end
    add('  },')
  end
  add('})')
  return table.concat(lines, '\n') .. '\n'
end

return shrink
