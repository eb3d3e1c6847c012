-- cli/sim.lua: the simulator: seeds of a service, a script on virtual time, or a scenario of a few cores.
local node, sys, wire = require 'tidelock.node', require 'tidelock.sys', require 'tidelock.wire'
local sim, shrink, swarm = require 'tidelock.sim', require 'tidelock.shrink', require 'tidelock.swarm'
local play = require 'cli.play'

local SEEDS = { 1, 100 }
local EACH_S, EACH_LINE_S = 1, 5 -- between two words of how far it is: on a terminal, elsewhere

local function thousands(n)
  local text = ('%.0f'):format(n):reverse():gsub('(%d%d%d)', '%1,'):reverse()
  return (text:gsub('^,', ''))
end

-- --- scenarios ---------------------------------------------------------------------------------------------------------------------

local function play_text(file, cli)
  local ok, output, why, kind = require('tidelock.scenario').run(file)
  io.stdout:write(output)
  if not ok then cli.stop(kind == 'input' and 78 or 1, why) end
  return 0
end

-- --- options -----------------------------------------------------------------------------------------------------------------------

local function seeds_of(options, cli)
  if options.seed and options.seeds then cli.stop(2, '--seed is one, --seeds are many: say one of them') end
  if options.seed then
    local seed = cli.number(options, 'seed', 0, 2^53 - 1)
    return { seed, seed }
  end
  if not options.seeds then return SEEDS end
  local first, last = play.range(options.seeds)
  if not first then cli.stop(2, '--seeds ', options.seeds, ': wants A..B, like 1..1000') end
  return { first, last }
end

-- why: what the file is, or why it is no service.
local function not_for_this(options, names, cli, exit, why)
  for _, name in ipairs(names) do
    if options[name] then cli.stop(exit, why, '\n(--', name, ' is for a ', name == 'html' and 'script' or 'service', ')') end
  end
end

local function faults_of(options, cli)
  if not options.faults then return nil end
  if options.faults == 'none' then return {} end
  local known, list = {}, {}
  for _, name in ipairs(sim.faults()) do known[name] = true end
  for name in (options.faults .. ','):gmatch('([^,]*),') do
    if not known[name] then
      cli.stop(2, "--faults: there is no fault '", name, "'; there are ", table.concat(sim.faults(), ' '), '; or none, alone')
    end
    list[#list + 1] = name
  end
  return list
end

-- A file that is no service: a script, on virtual time; `why` says why it is none.
local function run_script(file, why, options, cli)
  local script = { source = assert(play.read(file)), name = file, args = {}, seed = cli.number(options, 'seed', 0, 2^53 - 1),
    nodes = cli.number(options, 'nodes', 1, 7), trace = options.trace, html = options.html }
  local code, failed
  if options.seeds then code, failed = play.seeds(script, unpack(seeds_of(options, cli)))
  else code, failed = play.once(script) end
  if code == 'service' then cli.stop(78, why) end
  if failed then cli.stop(code, failed) end
  return code
end

-- --- what came of it ----------------------------------------------------------------------------------------------------------------

local function struck_text(struck)
  local parts, all = {}, 0
  for _, name in ipairs(sim.faults()) do
    if struck[name] then
      parts[#parts + 1] = name .. ' ' .. struck[name]
      all = all + struck[name]
    end
  end
  return all == 0 and 'no fault struck' or ('%s faults struck: %s'):format(thousands(all), table.concat(parts, ', '))
end

local function summary(sums, seconds)
  return ('%s seed%s, %s simulated seconds (%.0f a second), %s events; commands and queries: %s ok, %s refused, %s unknown; %s'):format(
    thousands(sums.seeds), sums.seeds == 1 and '' or 's', thousands(sums.ms / 1000), sums.ms / 1000 / math.max(seconds, 0.001),
    thousands(sums.events), thousands(sums.ok), thousands(sums.refused), thousands(sums.unknown), struck_text(sums.struck))
    .. (sums.ok == 0 and sums.refusal and '\nnothing was ever taken; the first refusal: ' .. sums.refusal or '')
end

-- The line that repeats the seed.
local function again(file, seed, options)
  return ('tidelock sim %s --seed %.0f%s%s'):format(play.quoted(file), seed, options.nodes and ' --nodes ' .. options.nodes or '',
    options.faults and ' --faults ' .. options.faults or '')
end

local function shrink_seed(file, report, progress)
  local small = shrink.run(assert(node.bundle('', file)), report, progress)
  local path = ('%s.seed%.0f.lua'):format(file:gsub('%.lua$', ''), report.seed)
  local out, why = io.open(path, 'w')
  if not out then return nil, why end
  out:write(shrink.scenario(small, file:match('[^/]*$')))
  out:close()
  return small, path
end

local function print_shrunk(small, path)
  local words = {}
  for i, strike in ipairs(small.strikes) do words[i] = shrink.describe(strike) end
  io.stdout:write(('shrunk to %d strike%s%s on %d node%s: %s\n'):format(#words, #words == 1 and '' or 's',
    small.requests and (' and %d command%s'):format(#small.requests, #small.requests == 1 and '' or 's') or '',
    small.nodes, small.nodes == 1 and '' or 's', #words == 0 and 'no fault is needed' or table.concat(words, '; ')))
  io.stdout:write('tidelock sim ', play.quoted(path), '\n')
end

local function print_json(sums, seconds, report, line, small, path)
  local out = { seeds = sums.seeds, ms = sums.ms, events = sums.events, ok = sums.ok, refused = sums.refused, unknown = sums.unknown,
    struck = next(sums.struck) and sums.struck or nil, seconds = seconds }
  if report then
    out.seed, out.failed, out.phase, out.at, out.again = report.seed, report.failed, report.phase, report.at, line
    if small then
      out.scenario, out.strikes = path, {}
      for i, strike in ipairs(small.strikes) do out.strikes[i] = shrink.describe(strike) end
    end
  end
  io.stdout:write(wire.pack_json(wire.pack(out)), '\n')
end

-- --- seeds of a service ---------------------------------------------------------------------------------------------------------------

local function run_service(file, options, cli)
  local tty, began, said = sys.isatty(2), os.clock(), os.clock()
  -- One line that is written over on a terminal.
  local function progress(text)
    if os.clock() - said < (tty and EACH_S or EACH_LINE_S) then return end
    said = os.clock()
    io.stderr:write(tty and '\r\27[K' or '', text, tty and '' or '\n')
  end
  if options.trace and not options.seed then cli.stop(2, '--trace shows one seed: say --seed N') end
  local how = { seeds = seeds_of(options, cli), faults = faults_of(options, cli), nodes = cli.number(options, 'nodes', 1, 7),
    trace = options.trace }
  function how.each(report, sums)
    progress(('seed %.0f, to %.0f: %s simulated seconds'):format(report.seed, how.seeds[2], thousands(sums.ms / 1000)))
  end
  local ok, sums, failed, report = pcall(sim.run, file, how)
  if not ok then cli.stop(78, sums) end
  local seconds, line, small, path = os.clock() - began, nil, nil, nil
  sums = sums or report.sums
  if failed then
    line = again(file, report.seed, options)
    if options.shrink then
      small, path = shrink_seed(file, report, progress)
      if not small then cli.stop(1, path) end
    end
  end
  if tty then io.stderr:write('\r\27[K') end
  if options.json then print_json(sums, seconds, report, line, small, path)
  elseif options.trace then
    if failed then cli.say(('seed %.0f, %s, at %d ms: %s'):format(report.seed, report.phase, report.at, failed)) end
    if small then cli.say('tidelock sim ', play.quoted(path)) end
  else
    if failed then
      io.stdout:write(('seed %.0f, %s, at %d ms: %s\n'):format(report.seed, report.phase, report.at, failed), line, '\n')
      if small then print_shrunk(small, path) end
    end
    io.stdout:write(summary(sums, seconds), '\n')
  end
  return failed and 1 or 0
end

local function faults_help()
  local lines = {}
  for _, fault in ipairs(swarm.faults()) do lines[#lines + 1] = ('    %-18s %s'):format(fault.name, fault.help) end
  return table.concat(lines, '\n')
end

return {
  summary = 'try a service under faults on virtual time; play a script, a scenario',
  usage = [[
tidelock sim SERVICE.lua [--seed N | --seeds A..B] [--faults LIST] [--nodes N] [--trace] [--shrink] [--json]
tidelock sim SCRIPT.lua [--seed N | --seeds A..B] [--nodes N] [--trace] [--html OUT]
tidelock sim SCENARIO.txt

  tidelock sim examples/bank.lua                  100 seeds of a service
  tidelock sim my.lua --seeds 1..1000 --shrink    more; what fails is made a short script
  tidelock sim my.lua --seed 17 --trace           what happened, one JSON object a line
  tidelock sim my.seed17.lua                      the short script
  tidelock sim examples/demos/partition.lua       a script
  tidelock sim spec/scenario/026_figure_8.txt     a scenario of a few cores, step by step

A service is a file that returns a module: clients call it on a cluster of real nodes with modelled time, network and disks, while faults
strike; each seed is another run, and the same seed is the same run everywhere. They call what workload(ctx) says, or commands and
queries made up from their args; invariant(ctx) must hold on every node after every entry (README, "Your service in the
simulator"). What answers clients got must be those that the log gives. Ends at the first seed that fails: what was found, and the
line that repeats it.

A script drives a cluster (tidelock.cluster) on virtual time, as `tidelock run --mode sim` does: its exit code is the script's; 1 if it
fails, or if the simulator finds a promise broken. A scenario prints its transcript, and 1 if that is not the expected one.

  --seed N, --seeds A..B   which (a service: 1..100; a script: its own seed, or 1); of many the first that fails is shown
  --nodes N                of the cluster, 1 to 7; else each seed, or the script, says it
  --trace                  everything that happens in one run, on stdout; a script writes to stderr then
  --shrink                 reduce the seed that fails to few strikes and commands: FILE.seedN.lua, beside the service
  --html OUT               of a script: a page that shows its cluster: who led when, faults, calls; also if it fails
  --json                   one object: what was run, and what failed
  --faults LIST            those that may strike, separated by commas; or none; else all, of which a seed draws some:
]] .. faults_help() .. [[


exit codes: 0 all well, 1 a seed, a script or a scenario failed, 2 usage, 78 the file makes no sense]],
  options = { seed = 'value', seeds = 'value', faults = 'value', nodes = 'value', html = 'value',
    trace = 'flag', shrink = 'flag', json = 'flag' },
  run = function(options, files, cli)
    if #files ~= 1 then cli.stop(2, 'sim takes one file: tidelock sim FILE') end
    local file = files[1]
    if file:find('%.txt$') then
      not_for_this(options, { 'seed', 'seeds', 'faults', 'nodes', 'trace', 'shrink', 'json', 'html' }, cli, 2, file .. ' is a scenario')
      return play_text(file, cli)
    end
    if not file:find('%.lua$') then cli.stop(2, file, ': a service or a script ends in .lua, a scenario in .txt') end
    local there, missing = io.open(file)
    if not there then cli.stop(2, missing) end
    there:close()
    local bytes, why = node.bundle('', file)
    if bytes then
      not_for_this(options, { 'html' }, cli, 2, file .. ' is a service')
      return run_service(file, options, cli)
    end
    not_for_this(options, { 'faults', 'shrink', 'json' }, cli, 78, why)
    return run_script(file, why, options, cli)
  end,
}
