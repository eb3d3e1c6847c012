-- cli/sim.lua: plays a scenario: a text, step by step on a few cores; or a script, on a cluster in virtual time.
local play = require 'cli.play'

local sim = {
  summary = 'play a scenario: a text step by step, or a script on virtual time',
  usage = [[
tidelock sim FILE.txt
tidelock sim FILE.lua [--seed N | --seeds A..B] [--nodes N] [--trace]

A text: prints the transcript. Exit 1 if what is expected is not so, a check breaks, or the transcript is not the one below the
line of dashes; 78 if the file makes no sense.

A script that drives a cluster (tidelock.cluster): runs it as `tidelock run --mode sim` does. Its exit code is the script's; 1 if it
fails, or if the simulator finds a promise broken.

  --seed N       fixes everything that happens (else the script's own seed, or 1)
  --seeds A..B   one after the other, without output, until one fails
  --nodes N      how many nodes cluster{...} opens
  --trace        everything that happens, one JSON object a line, to stdout; the script writes to stderr then

  tidelock sim spec/scenario/026_figure_8.txt
  tidelock sim examples/demos/partition.lua --seeds 1..100]],
  options = { seed = 'value', seeds = 'value', nodes = 'value', trace = 'flag' },
}

local function run_text(path, cli)
  local ok, output, why, kind = require('tidelock.scenario').run(path)
  io.stdout:write(output)
  if not ok then cli.stop(kind == 'input' and 78 or 1, why) end
end

local function run_script(path, options, cli)
  local source, why = play.read(path)
  if not source then cli.stop(78, why) end
  local script = { source = source, name = path, args = {}, seed = cli.number(options, 'seed', 0, 2^53),
    nodes = cli.number(options, 'nodes', 1, 7), trace = options.trace }
  local from, to
  if options.seeds then
    if options.seed then cli.stop(2, 'give --seed or --seeds, not both') end
    from, to = play.range(options.seeds)
    if not from then cli.stop(2, '--seeds ', options.seeds, ': wants A..B, like 1..100') end
  end
  local code
  if from then code, why = play.seeds(script, from, to) else code, why = play.once(script) end
  if code == 'service' then cli.stop(78, path, ': returns a table and opens no cluster, so it is no scenario') end
  if why then cli.stop(code, why) end
  return code
end

function sim.run(options, files, cli)
  if #files ~= 1 then cli.stop(2, 'sim plays one file: tidelock sim FILE.txt, or FILE.lua') end
  if files[1]:find('%.lua$') then return run_script(files[1], options, cli) end
  if not files[1]:find('%.txt$') then cli.stop(2, files[1], ': a scenario is a file that ends in .txt or .lua') end
  if next(options) then cli.stop(2, '--', (next(options)), ' is of scripts') end
  return run_text(files[1], cli)
end

return sim
