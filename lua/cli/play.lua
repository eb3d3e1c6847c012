-- cli/play.lua: runs a scenario script on virtual time, with one seed or with many.
local scene = require 'tidelock.scene'

local play = {}

local SECONDS = 10 -- that a script may run without letting virtual time pass

-- script: source, name (of its file), args, seed and nodes (nil: as the script says), html (where the page of its cluster goes),
-- trace. -> exit code, why it is not 0; or 'service': the file did nothing but return a table
function play.once(script, quiet)
  io.stdout:flush()
  local kind, result = scene.play { source = script.source, name = script.name, args = script.args, seed = script.seed,
    nodes = script.nodes, html = script.html, quiet = quiet, trace = script.trace and not quiet, seconds = SECONDS }
  io.stdout:flush()
  if not kind then
    -- Where a function of C lies is nobody's business, and differs from run to run.
    return 1, (result:gsub("\n%s*%[C%]: [^\n]*", ''):gsub('\n%s*lua/tidelock/prelude%.lua:[^\n]*', ''))
  end
  if kind == 'service' then return 'service' end
  return result
end

-- One seed after the other, until one fails: that one is run again aloud. -> exit code, why
function play.seeds(script, from, to)
  for seed = from, to do
    script.seed = seed
    local code = play.once(script, true)
    if code == 'service' then return code end
    if code ~= 0 then
      local why
      code, why = play.once(script)
      return code, ('%sseed %.0f fails; repeat it by: tidelock sim %s --seed %.0f'):format(why and why .. '\n' or '', seed,
        play.quoted(script.name), seed)
    end
  end
  io.stdout:write(('%s: %.0f seeds, %.0f..%.0f, none failed\n'):format(script.name, to - from + 1, from, to))
  return 0
end

-- A word as a shell reads it back.
function play.quoted(word)
  if word:find('^[%w_./+,:@%%=-]+$') then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- Reads the file of a script; nil, why.
function play.read(path)
  local file, why = io.open(path, 'rb')
  if not file then return nil, 'cannot open ' .. why end
  local text = file:read('*a')
  file:close()
  if not text then return nil, path .. ': cannot be read' end
  return text
end

-- The bounds of --seeds A..B; nothing if it is not that.
function play.range(text)
  local from, to = tostring(text):match('^(%d+)%.%.(%d+)$')
  from, to = tonumber(from), tonumber(to)
  if from and from <= to and to < 2^53 then return from, to end
end

return play
