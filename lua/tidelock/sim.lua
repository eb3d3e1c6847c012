-- tidelock/sim.lua: a service of one's own in the simulator (README, "Your service in the simulator").
local node, swarm, wire = require 'tidelock.node', require 'tidelock.swarm', require 'tidelock.wire'
local setting = require 'tidelock.setting'

local sim = {}

---@class tidelock.sim.strike
---@field at integer ms after the first phase began: when the service had answered first
---@field fault string
---@field node integer|'leader'
---@field peer? integer
---@field lasts? integer ms
---@field amount? integer

---@class tidelock.sim.report
---@field failed? string what was found
---@field phase string
---@field at integer virtual ms

local function bundle_of(file)
  local bytes, why = node.bundle('', file)
  if not bytes then error(why, 0) end
  return bytes
end

-- { name, ... } of all faults.
function sim.faults()
  local names = {}
  for i, fault in ipairs(swarm.faults()) do names[i] = fault.name end
  return names
end

-- Runs seeds of the service in `file`, until one fails. options: seed, or seeds = { first, last }; nodes; faults, a list of those
-- that may strike; clients (8); commands a second of all clients (100); fault_ms, the length of the phase in which faults strike
-- (15000); trace, the transcript to standard output; each(report, sums), called after each seed. Gives the sums over all seeds; or
-- nil, what was found, the report of the seed that failed. Raises if the file is no service.
---@return table|nil sums, string? failed, tidelock.sim.report? report
function sim.run(file, options)
  options = options or {}
  local seeds = options.seeds or { options.seed or 1, options.seed or 1 }
  local how = { bundle = bundle_of(file), nodes = options.nodes, faults = options.faults, clients = options.clients,
    commands = options.commands, fault_ms = options.fault_ms, trace = options.trace or setting.trace }
  local sums = { seeds = 0, ms = 0, events = 0, ok = 0, refused = 0, unknown = 0, struck = {} }
  for seed = seeds[1], seeds[2] do
    how.seed = seed
    local report, why = swarm.run(how)
    if not report then error(file .. ': ' .. why, 0) end
    report.seed, report.clients, report.commands, report.fault_ms = seed, how.clients, how.commands, how.fault_ms or 15000
    for k, v in pairs(sums) do if type(v) == 'number' and report[k] then sums[k] = v + report[k] end end
    sums.refusal = sums.refusal or report.refusal
    for name, count in pairs(report.struck) do sums.struck[name] = (sums.struck[name] or 0) + count end
    sums.seeds = sums.seeds + 1
    if options.each then options.each(report, sums) end
    if report.failed then
      report.sums = sums
      return nil, report.failed, report
    end
  end
  return sums
end

local function by_time(list)
  local sorted = {}
  for i, one in ipairs(list) do sorted[i] = { one, i } end
  table.sort(sorted, function(a, b)
    if a[1].at ~= b[1].at then return a[1].at < b[1].at end
    return a[2] < b[2]
  end)
  for i, pair in ipairs(sorted) do sorted[i] = pair[1] end
  return sorted
end

local function copy(from, more)
  local to = {}
  for k, v in pairs(from) do to[k] = v end
  for k, v in pairs(more) do to[k] = v end
  return to
end

local function strikes_of(list)
  local out = {}
  for i, strike in ipairs(list) do
    if type(strike.at) ~= 'number' then error(('strikes[%d]: at: wants ms'):format(i), 0) end
    out[i] = copy(strike, strike.node == 'leader' and { node = 1, leader = true } or {})
  end
  return by_time(out)
end

local function requests_of(list)
  local out = {}
  for i, command in ipairs(list) do
    if type(command.at) ~= 'number' then error(('commands[%d]: at: wants ms'):format(i), 0) end
    local args, why = wire.json_pack(command.args or '[]')
    if not args then error(('commands[%d]: args: %s'):format(i, why), 0) end
    out[i] = copy(command, { args = args })
  end
  return by_time(out)
end

-- The directory of the script that called the caller of this, with its slash.
local function directory_of_caller()
  local file = setting.mode == 'sim' and setting.file or debug.getinfo(3, 'S').source:match('^@(.*)') or ''
  return file:match('^.*/') or ''
end

-- Runs one seed by script. t: service, a file, looked for beside the calling one; seed, which still draws delays and the like; nodes
-- (3); strikes, a list (README names their fields; they replace those that the seed draws); commands, a list of { at, client, node,
-- name, args = JSON text, query, timeout, forward, again }, in place of a workload, the first phase then begins at `forms` ms; and as
-- sim.run: clients, lasts (ms of the first phase). Gives the report; or nil, what was found, the report.
---@return tidelock.sim.report|nil report, string? failed, tidelock.sim.report? report
function sim.replay(t)
  local path = t.service
  if type(path) ~= 'string' then error('replay: service: wants the name of a file', 0) end
  if path:sub(1, 1) ~= '/' then path = directory_of_caller() .. path end
  local report, why = swarm.run { bundle = bundle_of(path), seed = t.seed, nodes = t.nodes or 3, clients = t.clients,
    fault_ms = t.lasts, form_ms = t.forms, strikes = strikes_of(t.strikes or {}),
    requests = t.commands and requests_of(t.commands), trace = setting.trace }
  if not report then error(path .. ': ' .. why, 0) end
  report.seed = t.seed or 1
  if report.failed then return nil, report.failed, report end
  return report
end

return sim
