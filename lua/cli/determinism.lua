-- cli/determinism.lua: `tidelock test --check-determinism`: what is run again, and what is said of it.
local determinism, made_up, test = require 'tidelock.determinism', require 'tidelock.made_up', require 'tidelock.test'

-- Runs made up for a service.
local function runs_of_service(path, how)
  local bundles, runs = test.bundles(path), {}
  for i = 1, how.runs or 8 do
    local seed = (how.seed or 1) + i - 1
    local steps = made_up.steps(bundles, seed, how.commands or 60)
    runs[i] = { modules = bundles, seed = seed, now = steps[1] and steps[1].at or 0, steps = steps }
  end
  return runs, path
end

-- Runs that the hosts of a spec had.
local function runs_of_spec(path, cli)
  local failed
  test.record = {}
  require 'tidelock.runner'.run(path, { tell = function(kind, title, why)
    if kind == 'failed' then failed = failed or title .. ': ' .. why end
  end })
  local runs = test.record
  test.record = nil
  if failed then cli.stop(1, path, ': the spec itself fails: ', failed) end
  local used = {}
  for _, run in ipairs(runs) do if #run.steps > 0 then used[#used + 1] = run end end
  if #used == 0 then cli.stop(1, path, ': its hosts were told nothing') end
  return used
end

local function check(path, how, cli)
  local runs, paths
  if path:find('_spec%.lua$') then runs = runs_of_spec(path, cli) else runs, paths = runs_of_service(path, how) end
  local steps = 0
  for _, run in ipairs(runs) do steps = steps + #run.steps end
  for _, way in ipairs(determinism.ways) do
    local i, found = determinism.compare(runs, way)
    if i then
      local run
      run, found = determinism.shrink(runs[i], way, found)
      cli.say(('%s: NOT deterministic: %s differs %s; %d steps show it (of seed %.0f):'):format(path, found.what, way.what,
        #run.steps, run.seed))
      io.stdout:write(determinism.script(run, way, found, paths or runs[i].paths))
      return false
    end
  end
  local refused = determinism.refused(runs)
  cli.say(('%s: the same in %d ways: %d runs, %d steps, %d of them refused%s'):format(path, #determinism.ways, #runs, steps, refused,
    refused == steps and steps > 0 and ': nothing that succeeds was tried; let commands declare their args, or give a spec' or ''))
  return true
end

return function(files, how, cli)
  local good = true
  for _, path in ipairs(files) do
    local ok, result = pcall(check, path, how, cli)
    if not ok then
      if type(result) == 'table' then error(result, 0) end
      cli.say(path, ': ', tostring(result))
    end
    good = ok and result and good
  end
  return good and 0 or 1
end
