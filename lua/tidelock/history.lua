-- tidelock/history.lua: writes down what clients do and are told, in lin1, and has it judged (README, "Histories").
--
--   local history = require 'tidelock.history'
--   local h = history.open('/tmp/h.txt')                  -- goes on with a file; history.new() keeps it in memory
--   local op = h:inv('c1', 'put', 'colour', 'teal')       -- before the request is sent
--   h:ok(op)                                              -- after it was answered; or h:fail(op), h:info(op)
--   h:ended(op, c:call('kv.set', 'colour', 'teal'))       -- one of the three, by what a client's call gave
--   h:close()
--   print(history.explain('/tmp/h.txt', history.check(h:text())))
--
-- Every line is in the file when the call returns, so a process may be killed at any moment; files of several processes of
-- one machine make one history, one after the other, if no two have clients of the same name.
local sys, checker = require 'tidelock.sys', require 'tidelock.checker'

local history = { unchecked = {} } -- unchecked, as a result of ok: whatever it was
local writer = {}
writer.__index = writer

local SECONDS = 60
local SHOWN = 60 -- events that explain() prints
local ARGS = { get = 0, put = 1, append = 1, cas = 2, incr = 1, del = 0 }
local UNCHANGED = { NOT_FOUND = true, CONFLICT = true, EXISTS = true }
local ANSWERS = { get = { NOT_FOUND = true }, cas = UNCHANGED, del = UNCHANGED } -- codes of refusals, by operation

-- One word of a line, or an error at the caller of inv or ok.
local function word(value, what)
  local text = type(value) == 'number' and (value % 1 == 0 and ('%.0f'):format(value) or tostring(value)) or value
  if type(text) ~= 'string' or text == '' or text:find('[%c ]') or text:sub(1, 1) == '#' then
    error(('history: %s must be text without blanks, or a number, and not begin with #, not %s'):format(what, tostring(value)), 3)
  end
  return text
end

function history.new(now) return setmetatable({ list = {}, kinds = {}, count = 0, now = now or sys.now }, writer) end

-- nil, why if the file cannot be opened. now: a clock in seconds, sys.now unless given.
function history.open(path, now)
  local file, why = io.open(path, 'a')
  if not file then return nil, why end
  local self = history.new(now)
  self.file, self.path = file, path
  return self
end

local function add(self, client, rest)
  local line = ('%.9f %s %s\n'):format(self.now(), client, rest)
  if self.file then
    assert(self.file:write(line))
    assert(self.file:flush())
  else self.list[#self.list + 1] = line end
end

-- An operation begins: get KEY, put KEY V, append KEY V, cas KEY OLD NEW (OLD nil: the key is missing), incr KEY N, del KEY.
-- -> what ok, fail, info and ended take.
function writer:inv(client, kind, key, a, b)
  local args = ARGS[kind] or error('history: there is no operation ' .. tostring(kind), 2)
  local rest = word(key, 'a key')
  if kind == 'cas' then rest = rest .. (a == nil and ' nil' or ' =' .. word(a, 'a value')) .. ' ' .. word(b, 'a value')
  elseif args == 1 then rest = rest .. ' ' .. word(a, 'a value') end
  self.count = self.count + 1
  local op = ('%s.%d'):format(word(client, 'a client'), self.count)
  self.kinds[op] = { client = client, kind = kind }
  add(self, client, ('inv %s %s %s'):format(op, kind, rest))
  return op
end

local function take(self, op)
  local known = self.kinds[op] or error('history: ' .. tostring(op) .. ' never began, or has ended', 3)
  self.kinds[op] = nil
  return known
end

-- It is done. result: of get the value (nil: missing), of cas and del whether it did something (true, false, 1, 0), of incr the
-- new number; history.unchecked: whatever it was. put and append have none.
function writer:ok(op, result)
  local known = take(self, op)
  local kind, text = known.kind, ''
  if result ~= history.unchecked then
    if kind == 'get' then text = result == nil and ' nil' or ' =' .. word(result, 'a value')
    elseif kind == 'incr' then text = ' ' .. word(result, 'a number')
    elseif kind == 'cas' or kind == 'del' then text = (result == true or result == 1) and ' 1' or ' 0' end
  end
  add(self, known.client, ('ok %s%s'):format(op, text))
end

-- It certainly had no effect.
function writer:fail(op) add(self, take(self, op).client, 'fail ' .. op) end

-- Its outcome is unknown: it may take effect later, or never.
function writer:info(op) add(self, take(self, op).client, 'info ' .. op) end

-- By what c:call or c:query gave: value, or nil and an error. A refusal that says how the data is, is an answer: to get that the
-- key is missing, to cas and del that they did nothing.
function writer:ended(op, result, err)
  if err == nil then return self:ok(op, result) end
  if not err.definite then return self:info(op) end
  local known = self.kinds[op]
  local answers = known and ANSWERS[known.kind]
  if answers and answers[err.code] then return self:ok(op, nil) end
  return self:fail(op)
end

-- What was written so far.
function writer:text()
  if not self.path then return table.concat(self.list) end
  local file = assert(io.open(self.path, 'rb'))
  local text = file:read('*a')
  file:close()
  return text
end

function writer:close()
  if self.file then self.file:close() end
  self.file = nil
end

-- Judges a lin1 text, for at most so many seconds (60). -> { verdict = 'linearizable' | 'NOT linearizable' | 'unknown', ... }, or
-- nil, what is wrong, the line
function history.check(text, seconds) return checker.check(text, seconds or SECONDS) end
function history.check_file(path, seconds) return checker.check_file(path, seconds or SECONDS) end

local function plain(text)
  return (text:gsub('[%c\127]', function(c) return ('\\x%02x'):format(c:byte()) end))
end

local function state(s)
  if not s.present then return 'nil' end
  return '=' .. plain(s.text) .. (s.size > #s.text and ('... (%d bytes)'):format(s.size) or '')
end

local function more(undecided)
  return undecided == 0 and '' or ('; %d key%s undecided'):format(undecided, undecided == 1 and ' is' or 's are')
end

-- A verdict of check as text: one line, and if it is not linearizable, lines that show why.
function history.explain(name, r)
  if r.verdict == 'linearizable' then
    return ('%s: linearizable: %d operations, keys: %d\n'):format(name, r.operations, r.keys)
  elseif r.verdict == 'unknown' then
    return ('%s: unknown: key %s is too hard to decide within the limits%s\n'):format(name, plain(r.key), more(r.undecided))
  end
  local lines = { ('%s: NOT linearizable: key %s, by the first %d of %d events, to line %d%s%s\n'):format(name, plain(r.key),
    r.prefix, r.total, r.line, r.shortest and '' or '; fewer may show it, too', more(r.undecided)) }
  local skipped = math.max(0, #r.events - SHOWN)
  if skipped > 0 then lines[2] = ('  %d events of this key before\n'):format(skipped) end
  for i = skipped + 1, #r.events do
    lines[#lines + 1] = ('  line %d: %s\n'):format(r.events[i].line, plain(r.events[i].text))
  end
  if r.failed then
    lines[#lines + 1] = ('  operation %s failed, and without it nothing explains the rest\n'):format(plain(r.opid))
  elseif #r.states == 0 then
    lines[#lines + 1] = ('  operation %s cannot have happened with this result\n'):format(plain(r.opid))
  else
    local states = {}
    for i, s in ipairs(r.states) do states[i] = state(s) end
    table.sort(states)
    lines[#lines + 1] = ('  operation %s cannot have happened with this result: key %s can have been %s%s\n'):format(plain(r.opid),
      plain(r.key), table.concat(states, ' or '), r.states_more and ', or something else' or '')
  end
  return table.concat(lines)
end

return history
