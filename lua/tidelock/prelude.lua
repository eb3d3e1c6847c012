-- tidelock/prelude.lua: what a scenario script finds around it in mode 'sim' (cli/bind_scene.c), and its run.
--
-- One seed fixes everything: the script sees the sandbox's libraries, virtual time, and files that are code; its output is text.
-- What it may require is listed here; the rest of what ships is for us.
local host, script = ...

local loaded, libraries = host.modules, { ['tidelock.cluster'] = true, ['tidelock.history'] = true, ['tidelock.wire'] = true,
  ['tidelock.sim'] = true }

-- Ours, for what ships.
local function need(name)
  if loaded[name] == nil then
    local chunk = host.embedded(name) or error('there is no module ' .. name, 2)
    loaded[name] = chunk(name) or true
  end
  return loaded[name]
end
rawset(_G, 'require', need)

loaded['tidelock.setting'] = { mode = 'sim', file = script.name, seed = script.seed, nodes = script.nodes, trace = script.trace,
  html = script.html, clock = host.clock, say = host.write, write_file = host.write_file }
local tasks
loaded['tidelock.sys'] = setmetatable({ now = function() return tasks.now() / 1000 end },
  { __index = function(_, name) error(("tidelock.sys.%s is not there in mode 'sim'"):format(tostring(name)), 2) end })
tasks = need 'tidelock.tasks'
need 'tidelock.virtual'.begin()

local env, files = host.env, {}

local function print_text(...)
  local words = { ... }
  for i = 1, select('#', ...) do words[i] = tostring((select(i, ...))) end
  host.write(table.concat(words, '\t') .. '\n')
end

local output = {}
function output:write(...)
  local words = {}
  for i = 1, select('#', ...) do
    local word = select(i, ...)
    if type(word) ~= 'string' and type(word) ~= 'number' then error('write takes texts and numbers', 2) end
    words[i] = tostring(word)
  end
  host.write(table.concat(words))
  return self
end
function output.flush() end
function output.setvbuf() end

local function absent(library, advice)
  return { __index = function(_, name) error(("%s.%s is not there in mode 'sim'%s"):format(library, tostring(name), advice), 2) end }
end

-- The script's: a library, or a file beside it.
local function script_require(name)
  if type(name) ~= 'string' then error('require wants a name', 2) end
  if libraries[name] then return need(name) end
  if files[name] ~= nil then return files[name] end
  local path = (script.name:match('^(.*/)') or '') .. name:gsub('%.', '/') .. '.lua'
  local text = not name:find('[^%w_.-]') and host.read(path)
  if not text then error(("require: there is neither a library '%s' in mode 'sim' nor a file %s"):format(name, path), 2) end
  local chunk, why = host.load(text, path)
  if not chunk then error(why, 0) end
  files[name] = true
  local value = chunk(name)
  if value ~= nil then files[name] = value end
  return files[name]
end

rawset(env, '_G', env)
rawset(env, 'print', print_text)
rawset(env, 'require', script_require)
rawset(env, 'io', setmetatable({ stdout = output, write = function(...) return output:write(...) end },
  absent('io', ': a script on virtual time writes to standard output only, for its seed must fix everything')))
rawset(env, 'arg', { [0] = script.name, unpack(script.args) })

local chunk, why = host.load(script.source, script.name)
if not chunk then error(why, 0) end

local function close_clusters()
  if loaded['tidelock.cluster'] then need 'tidelock.cluster'.close_all() end
end

-- A script that fails leaves its page, too: clusters write it when they are closed.
local function run_script()
  if not script.html then return chunk(unpack(script.args)) end
  local ok, result = xpcall(function() return chunk(unpack(script.args)) end, host.describe)
  if ok then return result end
  pcall(close_clusters)
  error({ message = result })
end

local result = run_script()
close_clusters()
tasks.check()
if type(result) == 'table' and not loaded['tidelock.cluster'] then return 'service', 0 end
return 'done', type(result) == 'number' and result or 0
