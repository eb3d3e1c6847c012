-- tidelock/runner.lua: runs spec files: describe, it, before_each and their kin, with the names and the order of busted.
--
-- Busted itself needs C modules that an executable which exports no symbol cannot load, so its most used words are here: no spies and
-- stubs, no tags, no async. A spec file runs in globals of its own; what it requires does not see `describe`.
local expect = require 'tidelock.expect'
local test = require 'tidelock.test'

local runner = {}

local MISSING = ': is not here; tidelock test has describe, it, before_each, after_each, setup, teardown, finally, pending'

local function new_block(name, parent)
  return { name = name, parent = parent, items = {}, before_each = {}, after_each = {}, setup = {}, teardown = {} }
end

-- --- reading a file: what it declares ------------------------------------------------------------------------------------------

local function words_of(state)
  local words = { assert = expect.assert }
  local function named(kind, name)
    if type(name) ~= 'string' then error(kind .. ': wants a name and a function', 3) end
  end
  function words.describe(name, f)
    named('describe', name)
    local block = new_block(name, state.block)
    table.insert(state.block.items, block)
    state.block = block
    f()
    state.block = block.parent
  end
  function words.it(name, f)
    named('it', name)
    table.insert(state.block.items, { name = name, run = f, pending = f == nil })
  end
  function words.pending(name)
    if state.running then error({ pending = name or '' }, 0) end
    table.insert(state.block.items, { name = name or '', pending = true })
  end
  for _, hook in ipairs { 'before_each', 'after_each', 'setup', 'teardown' } do
    words[hook] = function(f)
      if type(f) ~= 'function' then error(hook .. ': wants a function', 2) end
      table.insert(state.block[hook], f)
    end
  end
  function words.finally(f)
    if not state.running then error('finally: belongs into an `it`', 2) end
    table.insert(state.finally, f)
  end
  words.context, words.insulate, words.expose = words.describe, words.describe, words.describe
  words.spec, words.test = words.it, words.it
  words.lazy_setup, words.strict_setup, words.lazy_teardown, words.strict_teardown =
    words.setup, words.setup, words.teardown, words.teardown
  for _, name in ipairs { 'spy', 'stub', 'mock', 'match', 'async', 'randomize' } do
    words[name] = setmetatable({}, {
      __index = function() error(name .. MISSING, 2) end, __call = function() error(name .. MISSING, 2) end })
  end
  return words
end

local function handler(err)
  if type(err) == 'table' and err.pending then return err end
  return { text = type(err) == 'table' and getmetatable(err) == nil and expect.shown(err) or tostring(err),
    trace = debug.traceback('', 2) }
end

local function try(f) return xpcall(f, handler) end

-- --- running -------------------------------------------------------------------------------------------------------------------

-- All of a hook's functions, of the outermost block first; for what comes after, the innermost first.
local function each_hook(block, hook, outermost_first)
  local list = {}
  while block do
    for i = 1, #block[hook] do
      if outermost_first then table.insert(list, 1, block[hook][#block[hook] - i + 1]) else list[#list + 1] = block[hook][i] end
    end
    block = block.parent
  end
  return list
end

local function run_one(state, block, item, title, out)
  if out.filter and not title:find(out.filter, 1, true) then return end
  if item.pending then return out.tell('pending', title) end
  state.running, state.finally = true, {}
  local ok, err = try(function()
    for _, f in ipairs(each_hook(block, 'before_each', true)) do f() end
    item.run()
  end)
  local hooks = state.finally
  for _, f in ipairs(each_hook(block, 'after_each', false)) do hooks[#hooks + 1] = f end
  for _, f in ipairs(hooks) do
    local fine, why = try(f)
    if ok and not fine then ok, err = fine, why end
  end
  state.running = false
  if ok then return out.tell('passed', title) end
  if err.pending then return out.tell('pending', title) end
  out.tell('failed', title, err.text)
end

local function run_block(state, block, prefix, out)
  local ok, err = try(function() for _, f in ipairs(block.setup) do f() end end)
  if not ok then return out.tell('failed', prefix .. ' (setup)', err.text) end
  for _, item in ipairs(block.items) do
    local title = prefix == '' and item.name or prefix .. ' ' .. item.name
    if item.items then run_block(state, item, title, out) else run_one(state, block, item, title, out) end
  end
  ok, err = try(function() for _, f in ipairs(block.teardown) do f() end end)
  if not ok then out.tell('failed', prefix .. ' (teardown)', err.text) end
end

-- Runs one spec file. out: tell(kind, title, why) with kind 'passed', 'failed', 'pending'; filter, text that a title must have.
function runner.run(path, out)
  local chunk, why = loadfile(path)
  if not chunk then return out.tell('failed', path, why) end
  local state = { block = new_block('') }
  local words = words_of(state)
  setfenv(chunk, setmetatable({}, { __index = function(_, name)
    if words[name] ~= nil then return words[name] end
    return _G[name]
  end }))
  local before, beside = package.path, test.beside
  test.beside = path:match('^.*/') or ''
  package.path = test.beside .. '?.lua;./?.lua;' .. before
  local ok, err = try(chunk)
  if ok then run_block(state, state.block, '', out) else out.tell('failed', path, err.text) end
  package.path, test.beside = before, beside
end

return runner
