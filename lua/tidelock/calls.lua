-- tidelock/calls.lua: what the clients of a cluster asked and were told, and whether one copy of the data explains it.
--
-- A mapping says what a call means, by its name: a function of the call's arguments that gives an operation of tidelock.history,
-- its key and its values, or nil for a call that does not count:
--   { ['kv.set'] = function(key, value) return 'put', key, value end, ... }
local history, wire = require 'tidelock.history', require 'tidelock.wire'

local calls = {}
calls.__index = calls

local CALLS_MAX = 1000000

-- examples/kv.lua, mounted as kv.
local kv = {
  ['kv.set'] = function(key, value, nx)
    local only_new = nx == true or type(nx) == 'table' and nx.nx == true
    if only_new then return 'cas', key, nil, value end
    return 'put', key, value
  end,
  ['kv.get'] = function(key) return 'get', key end,
  ['kv.cas'] = function(key, old, new)
    if type(old) == 'table' then return nil end -- never equal: it changes nothing
    return 'cas', key, old, new
  end,
  ['kv.del'] = function(key) return 'del', key end,
}

-- now(): ms
function calls.new(now) return setmetatable({ now = now, list = {} }, calls) end

-- Before a call: -> what `ended` takes.
function calls:began(client, name, ...)
  local one = { client = client, name = name, args = { n = select('#', ...), ... }, began = self.now() }
  if #self.list < CALLS_MAX then self.list[#self.list + 1] = one else self.full = true end
  return one
end

function calls:ended(one, value, err)
  one.ended, one.value, one.err = self.now(), value, err
end

-- A value as one word: what looks like a name or a number as it is, the rest as JSON without blanks.
local function word(value)
  if type(value) == 'string' and value:find('^[%a_][%w_.-]*$') then return value end
  if type(value) == 'number' then return ('%.17g'):format(value) end
  local json = wire.pack_json(assert(wire.pack(value)))
  return (json:gsub('[%s%%]', function(c) return ('%%%02x'):format(c:byte()) end))
end

-- Refused before anything was looked at: they say nothing of the data, and what they were asked may make no sense.
local SENSELESS = { BAD_ARGS = true, BAD_REQUEST = true, TOO_LARGE = true, UNKNOWN_COMMAND = true }

local function is_senseless(one) return one.err and one.err.definite and SENSELESS[one.err.code] end

-- Writes the end of a call, by what the client was told.
local function write_end(h, op, kind, one)
  local value = one.value
  if one.err then value = nil
  elseif kind == 'cas' then value = value ~= false and value ~= 0
  elseif kind == 'del' and value == nil then value = history.unchecked
  elseif kind == 'get' and value ~= nil then value = word(value) end
  return h:ended(op, value, one.err)
end

-- The calls that the mapping knows, as a lin1 text; how many there are.
function calls:text(mapping)
  mapping = mapping or kv
  if self.full then error(('check_history: more than %d calls were made'):format(CALLS_MAX), 0) end
  local events, at = {}, 0
  for i, one in ipairs(self.list) do
    if mapping[one.name] and not is_senseless(one) then
      events[#events + 1] = { at = one.began, order = i, one = one }
      if one.ended then events[#events + 1] = { at = one.ended, order = i + CALLS_MAX, one = one, is_end = true } end
    end
  end
  table.sort(events, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.order < b.order -- at equal times what began is before what ended
  end)
  local h, count = history.new(function() return at / 1000 end), 0
  for _, event in ipairs(events) do
    local one = event.one
    at = event.at
    if not event.is_end then
      local kind, key, a, b = mapping[one.name](unpack(one.args, 1, one.args.n))
      if kind then
        count = count + 1
        one.kind, one.op = kind, h:inv(one.client, kind, word(key), a ~= nil and word(a) or nil, b ~= nil and word(b) or nil)
      else one.kind = nil end
    elseif one.kind then write_end(h, one.op, one.kind, one) end
  end
  return h:text(), count
end

-- 'linearizable' or 'unknown' (too hard to decide), and the checker's report; raises why it is neither.
function calls:check(mapping, seconds)
  local text, count = self:text(mapping)
  if count == 0 then
    error('check_history: none of the calls is one that it knows; give it a mapping, like '
      .. "{ ['kv.set'] = function(key, value) return 'put', key, value end }", 0)
  end
  local report, why = history.check(text, seconds)
  if not report then error('check_history: ' .. why, 0) end
  if report.verdict == 'NOT linearizable' then error(history.explain('what the clients saw', report), 0) end
  return report.verdict, report
end

return calls
