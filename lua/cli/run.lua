-- cli/run.lua: plain LuaJIT with tidelock.* at hand; or the same script on virtual time.
local sys, setting, play = require 'tidelock.sys', require 'tidelock.setting', require 'cli.play'

local run = {
  summary = 'run a Lua script with tidelock.* at hand',
  usage = [[
tidelock run [--mode live|sim] [--seed N] [--nodes N] FILE ARG...
tidelock run [--mode ...] -e CODE

  tidelock run examples/demos/failover.lua                three real processes
  tidelock run --mode sim examples/demos/failover.lua     the same script on virtual time: one seed fixes everything

  --mode live|sim    what cluster{...} opens, whatever the script says
  --seed N           of mode sim; live: of math.random
  --nodes N          how many nodes cluster{...} opens

In mode sim the script sees the libraries of a service, print, io.write, and require of files beside it and of tidelock.cluster
and tidelock.history: what else there is would not be fixed by a seed. cluster{ mode = 'sim' } in a script that was started plainly
starts it over on virtual time.]],
  raw = true,
}

local options = { ['--mode'] = 'mode', ['--seed'] = 'seed', ['--nodes'] = 'nodes' }

-- Takes our options from the front of the words.
local function read_options(words, cli)
  local read = {}
  while words[1] and words[1]:sub(1, 2) == '--' and words[1] ~= '--help' do
    local name, value = words[1]:match('^(%-%-[%w-]+)=(.*)$')
    name = name or words[1]
    if not options[name] then cli.stop(2, 'unknown option ', name, '\nsee: tidelock help run') end
    table.remove(words, 1)
    value = value or table.remove(words, 1)
    if not value then cli.stop(2, name, ' wants a value') end
    read[options[name]] = value
  end
  if read.mode and read.mode ~= 'live' and read.mode ~= 'sim' then cli.stop(2, '--mode ', read.mode, ': there are live and sim') end
  return read.mode, cli.number(read, 'seed', 0, 2^53 - 1), cli.number(read, 'nodes', 1, 9)
end

-- The script to run, and the words that are its own.
local function read_script(words, cli)
  if words[1] == '-e' then
    if not words[2] then cli.stop(2, '-e wants code') end
    return { source = words[2], name = '-e', args = { unpack(words, 3) } }
  end
  if not words[1] or words[1]:sub(1, 1) == '-' then cli.stop(2, 'run which file?') end
  local source, why = play.read(words[1])
  if not source then cli.stop(1, why) end
  return { source = source, name = words[1], args = { unpack(words, 2) } }
end

-- Notices what a script could not take back: then it cannot be started over.
local function watch()
  local acted = false
  local function mark(library, names)
    for name in names:gmatch('%S+') do
      local f = library[name]
      rawset(library, name, function(...)
        acted = true
        return f(...)
      end)
    end
  end
  mark(_G, 'print')
  mark(io, 'write open popen output')
  mark(os, 'execute remove rename tmpname')
  mark(sys, 'spawn connect sleep tmpdir mkdir kill')
  mark(getmetatable(io.stdout).__index, 'write')
  return function() return acted end
end

local function close_clusters()
  local cluster = package.loaded['tidelock.cluster']
  if cluster then cluster.close_all() end
end

local function start_over(script, cli)
  return function(how)
    script.seed = script.seed or how.seed
    local code, why = play.once(script)
    if why then cli.say('tidelock: ', why) end
    os.exit(code)
  end
end

local function run_live(script, seed, cli)
  -- luacheck: ignore (a shebang line is no Lua)
  local chunk, why = loadstring(script.source:gsub('^#[^\n]*', ''), (script.name == '-e' and '=' or '@') .. script.name)
  if not chunk then cli.stop(1, why) end
  if seed then math.randomseed(seed) end
  local beside = script.name:match('^(.*/)')
  if beside then package.path = beside .. '?.lua;' .. package.path end
  script.args[0] = script.name
  rawset(_G, 'arg', script.args)
  setting.has_acted, setting.start_over = watch(), start_over(script, cli)
  -- A script must not leave its nodes behind, whatever ends it.
  local exit = os.exit
  rawset(os, 'exit', function(...)
    close_clusters()
    io.stdout:flush()
    exit(...)
  end)
  sys.stop_on_signal()
  local function call()
    local result = chunk(unpack(script.args))
    close_clusters()
    return result
  end
  local ok, result = xpcall(call, function(e)
    if type(e) == 'table' then return e end
    -- The script's own part of the trace: what is below it is ours.
    return (debug.traceback(tostring(e), 2):gsub("\n[^\n]*cli/run%.lua:[^\n]*in function <.*", ''):gsub(
      "\n%s*%[C%]: in function 'xpcall'.*", ''))
  end)
  if not ok then pcall(close_clusters) end
  if sys.interrupted() then cli.stop(130, 'interrupted') end
  if not ok then cli.stop(1, type(result) == 'table' and (result.message or result.code or 'failed') or result) end
  return type(result) == 'number' and result or 0
end

function run.run(words, cli)
  local mode, seed, nodes = read_options(words, cli)
  if words[1] == '--help' or words[1] == '-h' then
    io.stdout:write(require('cli.help').of(run))
    return 0
  end
  local script = read_script(words, cli)
  script.seed, script.nodes = seed, nodes
  if mode ~= 'sim' then
    setting.mode, setting.nodes = mode, nodes
    return run_live(script, seed, cli)
  end
  local code, why = play.once(script)
  if why then cli.stop(code, why) end
  return code == 'service' and 0 or code
end

return run
