-- cli/test.lua: runs a user's specs; runs services again under hostile conditions.
local sys = require 'tidelock.sys'

local function is_file(path)
  local file = io.open(path, 'rb')
  if not file then return false end
  local readable = file:read(0) ~= nil or file:seek('end') == 0
  file:close()
  return readable
end

-- The files that words name: a directory stands for all its *_spec.lua, also deeper.
local function files_of(words, cli)
  local out = {}
  for _, word in ipairs(words) do
    if is_file(word) then out[#out + 1] = word
    else
      local found, all = {}, sys.files(word)
      if not all then cli.stop(2, word, ': there is no such file or directory') end
      table.sort(all)
      for _, path in ipairs(all) do
        if path:find('_spec%.lua$') then found[#found + 1] = path end
      end
      if #found == 0 then cli.stop(2, word, ': there is no *_spec.lua in it') end
      for _, path in ipairs(found) do out[#out + 1] = path end
    end
  end
  return out
end

local function run_specs(options, words, cli)
  if #words == 0 then words = { sys.files('spec') and 'spec' or '.' } end
  local runner = require 'tidelock.runner'
  local counts = { passed = 0, failed = 0, pending = 0 }
  local marks = { passed = '  ok      ', failed = '  FAILED  ', pending = '  pending ' }
  local out = { filter = options.filter }
  function out.tell(kind, title, why)
    counts[kind] = counts[kind] + 1
    io.stdout:write(marks[kind], title, '\n')
    if why then io.stdout:write('      ', (why:gsub('\n', '\n      ')), '\n') end
  end
  for _, path in ipairs(files_of(words, cli)) do
    io.stdout:write(path, '\n')
    runner.run(path, out)
    io.stdout:flush()
  end
  io.stdout:write(('%d passed, %d failed, %d pending\n'):format(counts.passed, counts.failed, counts.pending))
  if counts.passed + counts.failed + counts.pending == 0 then cli.stop(1, 'nothing ran') end
  return counts.failed > 0 and 1 or 0
end

return {
  summary = 'run the specs of a service, or look whether it is deterministic',
  usage = [[tidelock test [SPEC...]
tidelock test --check-determinism FILE...

Runs spec files (describe, it, before_each, assert: as in busted); a directory stands for the *_spec.lua in it; without one
`spec`, or else this directory. In a spec, require 'tidelock.test' gives a host for the service: README, "Testing a service".

  --filter TEXT          only what has TEXT in its title

--check-determinism runs a service again and again, each time in a process of its own, under conditions that must not matter:
other hash seeds and addresses, restored from a snapshot before each entry, with and without garbage collection, tables that
have grown in other ways, without the queries that only one node answers. Every answer, event, digest and budget must be the
same at each step. FILE is a service (commands are made up from its workload and its declared args, and sent edges: -0, 2^53,
NaN, empty, zero bytes, long) or a spec (what its hosts were told is run again). What differs is shrunk to the
shortest sequence, and printed as a script for `tidelock run`.

  --seed N               of what is made up (1)
  --runs N               sequences for each service (8)
  --commands N           in each (60)
  --again FILE           what it runs in those other processes

Exit 1 if a spec failed, or something differs.]],
  options = { filter = 'value', ['check-determinism'] = 'flag', seed = 'value', runs = 'value', commands = 'value', again = 'value' },
  run = function(options, words, cli)
    if options.again then return require('tidelock.determinism').worker(options.again) end
    if not options['check-determinism'] then
      for _, name in ipairs { 'seed', 'runs', 'commands' } do
        if options[name] then cli.stop(2, '--', name, ' is for --check-determinism') end
      end
      return run_specs(options, words, cli)
    end
    if #words == 0 then cli.stop(2, 'check which file?') end
    local how = { seed = cli.number(options, 'seed', 1, 2 ^ 53), runs = cli.number(options, 'runs', 1, 10000),
      commands = cli.number(options, 'commands', 1, 10000) }
    return require('cli.determinism')(files_of(words, cli), how, cli)
  end,
}
