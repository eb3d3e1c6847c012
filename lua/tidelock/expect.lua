-- tidelock/expect.lua: the `assert` of specs under `tidelock test`: the words of luassert that most specs use, and those of tidelock.test.
--
-- assert(v, message) as in Lua; assert.same, assert.is_not_nil, assert.are_not.equal, assert.has_no.errors, ...: words of grammar say
-- nothing, `not` and `no` turn the next one round.
local test = require 'tidelock.test'

local grammar = { is = true, are = true, was = true, were = true, has = true, have = true, does = true, be = true, to = true, a = true,
  an = true }

-- --- showing values ------------------------------------------------------------------------------------------------------------

local function show(value, indent, seen)
  if type(value) == 'string' then return ('%q'):format(value):gsub('\\\n', '\\n') end
  if type(value) ~= 'table' then return tostring(value) end
  if seen[value] then return '(a cycle)' end
  seen[value] = true
  local keys, lines, long = {}, {}, 0
  for k in pairs(value) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == 'number' or type(a) == 'string') then return a < b end
    return type(a) < type(b)
  end)
  for i, k in ipairs(keys) do
    local name = k == i and '' or type(k) == 'string' and k:match('^[%a_][%w_]*$') and k .. ' = '
      or '[' .. show(k, '', seen) .. '] = '
    lines[i] = name .. show(value[k], indent .. '  ', seen)
    long = long + #lines[i]
  end
  seen[value] = nil
  if #lines == 0 then return '{}' end
  if long < 80 and not table.concat(lines):find('\n') then return '{ ' .. table.concat(lines, ', ') .. ' }' end
  return '{\n' .. indent .. '  ' .. table.concat(lines, ',\n' .. indent .. '  ') .. '\n' .. indent .. '}'
end

local function shown(value) return (show(value, '', {})) end

-- --- assertions: each gives whether it is so, and what there is to say ---------------------------------------------------------

local checks = {}

local function compare(is_so, verb)
  return function(want, got)
    return is_so(want, got), ('wanted %s%s\ngot    %s'):format(verb, shown(want), shown(got))
  end
end

checks.equal = compare(function(a, b) return a == b end, '')
checks.same = compare(test.same_value, '')
checks['true'] = function(v) return v == true, 'wanted true\ngot    ' .. shown(v) end
checks['false'] = function(v) return v == false, 'wanted false\ngot    ' .. shown(v) end
checks['nil'] = function(v) return v == nil, 'wanted nil\ngot    ' .. shown(v) end
checks.truthy = function(v) return v and true or false, 'wanted something true\ngot    ' .. shown(v) end
checks.falsy = function(v) return not v, 'wanted nil or false\ngot    ' .. shown(v) end

for _, kind in ipairs { 'number', 'string', 'table', 'function', 'boolean', 'userdata' } do
  checks[kind] = function(v) return type(v) == kind, ('wanted a %s\ngot    %s'):format(kind, shown(v)) end
end

function checks.near(want, got, within)
  return type(got) == 'number' and math.abs(want - got) <= within,
    ('wanted %s, give or take %s\ngot    %s'):format(want, within, shown(got))
end

function checks.matches(pattern, text, init, plain)
  return type(text) == 'string' and text:find(pattern, init, plain) ~= nil,
    ('wanted what matches %s\ngot    %s'):format(shown(pattern), shown(text))
end

local function raises(f, is_so, want)
  if type(f) ~= 'function' then error('wants a function', 0) end
  local ok, err = pcall(f)
  if ok then return false, 'wanted an error' .. want .. '\nthere was none' end
  return is_so(err), ('wanted an error%s\ngot    %s'):format(want, shown(err))
end

-- The error as it was raised, or without its place.
function checks.error(f, want)
  return raises(f, function(err)
    return want == nil or test.same_value(err, want) or (type(err) == 'string' and err:gsub('^[^\n:]*:%d+: ', '') == want)
  end, want ~= nil and ' ' .. shown(want) or '')
end

function checks.error_matches(f, pattern, init, plain)
  return raises(f, function(err) return tostring(err):find(pattern, init, plain) ~= nil end, ' that matches ' .. shown(pattern))
end

function checks.emitted(h, topic, key, data)
  local ok, events = test.assertions.emitted(h, topic, key, data)
  local want = { topic = topic, key = key, data = data }
  return ok, ('wanted an event %s\nthere are %s'):format(shown(want), shown(events))
end

function checks.holds(h, path, want)
  local ok, found = test.assertions.holds(h, path, want)
  return ok, ('wanted %s to hold %s\nit holds %s'):format(path, shown(want), shown(found))
end

local others = { equals = 'equal', Equal = 'equal', True = 'true', False = 'false', Nil = 'nil', match = 'matches', errors = 'error',
  error_match = 'error_matches' }

-- --- the words -----------------------------------------------------------------------------------------------------------------

-- "is_not_nil" -> 'nil', true
local function parse(words, negated)
  local rest = words
  while not (checks[rest] or others[rest]) do
    local word, more = rest:match('^([^_]+)_?(.*)$')
    if word == 'not' or word == 'no' then negated = not negated elseif not grammar[word] then return rest, negated end
    if more == '' then return nil, negated end
    rest = more
  end
  return others[rest] or rest, negated
end

local function names()
  local list = {}
  for name in pairs(checks) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ' ')
end

local function chain(negated)
  return setmetatable({}, {
    __call = function(_, value, message, ...)
      if not value then error(message == nil and 'assertion failed!' or message, 2) end
      return value, message, ...
    end,
    __index = function(_, words)
      local name, turned = parse(words, negated)
      if name == nil then return chain(turned) end
      local check = checks[name]
      if not check then error(('assert has no %s; there are: %s'):format(words, names()), 2) end
      return function(...)
        local fine, ok, say = pcall(check, ...)
        if not fine then error(('assert.%s: %s'):format(words, tostring(ok)), 2) end
        if ok == turned then error((turned and 'is so, and should not be: ' or '') .. words .. '\n' .. say, 2) end
        return ...
      end
    end })
end

return { assert = chain(false), shown = shown }
