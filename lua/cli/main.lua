-- cli/main.lua: finds the subcommand, reads its options, turns failures into exit codes.
--
-- A subcommand is a file beside this one that returns { summary, usage, options = { name = 'value'|'flag'|'many' }, run }.
local commands = { 'dev', 'start', 'call', 'query', 'watch', 'status', 'members', 'transfer', 'deploy', 'undeploy', 'code', 'snapshot',
  'backup', 'restore', 'rebuild', 'recover', 'limits', 'skip', 'new', 'check', 'test', 'run', 'sim', 'history', 'log', 'version', 'help' }

-- Words that people know from elsewhere.
local elsewhere = { get = 'query', put = 'call', set = 'call', member = 'members', endpoint = 'status',
  init = 'start', dump = 'backup', save = 'backup', export = 'backup', load = 'restore', server = 'start', serve = 'start', repl = 'run' }

local cli = { commands = commands }

function cli.say(...) io.stderr:write(table.concat({ ... }), '\n') end

-- Ends the command with an exit code and a sentence.
function cli.stop(code, ...)
  error({ exit = code, text = table.concat({ ... }) }, 0)
end

local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local before = row[0]
    row[0] = i
    for j = 1, #b do
      local keep = row[j]
      row[j] = math.min(row[j] + 1, row[j - 1] + 1, before + (a:byte(i) == b:byte(j) and 0 or 1))
      before = keep
    end
  end
  return row[#b]
end

local function nearest(word, list)
  local best, least = nil, 3
  for _, name in ipairs(list) do
    local d = distance(word, name)
    if d < least then best, least = name, d end
  end
  return best
end

-- Reads options: --name value, --name=value, flags; `--` ends them. Options may stand anywhere.
function cli.parse(command, words)
  local options, rest, at, plain = {}, {}, 1, false
  local known = command.options or {}
  while words[at] do
    local word = words[at]
    local name, value = word:match('^%-%-([%w-]+)=?(.*)$')
    if plain or not name or (word:sub(1, 2) ~= '--') then
      if word == '-h' and not plain then options.help = 'short' elseif word == '--' and not plain then plain = true
      elseif not plain and word:match('^%-%a$') then
        cli.stop(2, 'unknown option ', word, '; see tidelock help ', command.name)
      else rest[#rest + 1] = word end
    elseif name == 'help' then options.help = 'long'
    else
      local kind = known[name]
      if not kind then
        local names = {}
        for k in pairs(known) do names[#names + 1] = k end
        local near = nearest(name, names)
        cli.stop(2, 'unknown option --', name, near and ('; did you mean --' .. near .. '?') or '',
          '\nsee: tidelock help ', command.name)
      end
      if kind == 'flag' then
        if value ~= '' then cli.stop(2, '--', name, ' takes no value') end
        options[name] = true
      else
        if not word:find('=', 1, true) then
          at = at + 1
          value = words[at]
          if value == nil then cli.stop(2, '--', name, ' wants a value') end
        end
        if kind == 'many' then
          options[name] = options[name] or {}
          table.insert(options[name], value)
        else options[name] = value end
      end
    end
    at = at + 1
  end
  return options, rest
end

-- A whole number option within bounds.
function cli.number(options, name, low, high)
  local text = options[name]
  if text == nil then return nil end
  local n = tonumber(text)
  if not n or n ~= math.floor(n) or n < low or n > high then
    cli.stop(2, '--', name, ' ', tostring(text), ': wants a whole number from ', low, ' to ', ('%.0f'):format(high))
  end
  return n
end

function cli.unknown(word)
  local near = elsewhere[word] or nearest(word, commands)
  cli.stop(2, 'unknown command ', word, near and ('; did you mean ' .. near .. '?') or '', '\nsee: tidelock help')
end

local function find(word)
  for _, name in ipairs(commands) do
    if name == word then
      local command = require('cli.' .. name)
      command.name = name
      return command
    end
  end
  cli.unknown(word)
end

local function run(words)
  local word = table.remove(words, 1)
  if word == nil then
    io.stdout:write(require('cli.help').text())
    return 2
  end
  if word == '-h' or word == '--help' then word = 'help' elseif word == '--version' or word == '-v' then word = 'version' end
  local command = find(word)
  if command.raw then return command.run(words, cli) end
  local options, rest = cli.parse(command, words)
  if options.help then
    io.stdout:write(require('cli.help').of(command, options.help))
    return 0
  end
  return command.run(options, rest, cli) or 0
end

package.loaded['cli.cli'] = cli

local words = {}
for i = 1, #arg do words[i] = arg[i] end
local ok, result = xpcall(function() return run(words) end, function(e)
  if type(e) == 'table' then return e end
  return { exit = 70, text = 'bug: ' .. debug.traceback(tostring(e), 2) }
end)
local written, why = io.stdout:flush()
if ok and not written then ok, result = false, { exit = 1, text = 'standard output: ' .. why } end
if ok then return result end
if result.text and result.text ~= '' then cli.say('tidelock: ', result.text) end
return result.exit or 70
