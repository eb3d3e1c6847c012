-- spec/support/history.lua: the history checker (sim/history.h, sim/history_text.h) from Lua, and another one to hold it
-- against, which tries all orders.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('sim/history_text.h')

local M = { C = C }
local VERDICTS = { [0] = 'linearizable', 'NOT linearizable', 'unknown' }

-- Judges a lin1 text. options: steps, bytes. -> { verdict, steps, undecided, key, events, line, opid, shortest, states } or
-- nil, the line that is wrong, what is wrong
function M.check(text, options)
  local why = ffi.new('struct history_error')
  local lines = C.history_text_read(core.slice(text), why)
  if lines == nil then return nil, tonumber(why.line), ffi.string(why.text) end
  local report = ffi.new('struct history_report')
  local limits = ffi.new('struct history_limits', options or {})
  local history = C.history_text_history(lines)
  C.history_check(history, limits, report)
  local out = { verdict = VERDICTS[tonumber(report.verdict)], steps = tonumber(report.steps), undecided = report.undecided,
    ops = C.history_ops(history), keys = C.history_keys(history) }
  if out.verdict ~= 'linearizable' then out.key = core.text(report.key) end
  if out.verdict == 'NOT linearizable' then
    out.events, out.shortest, out.states_more = report.events, report.shortest, report.states_more
    out.line = C.history_text_line(history and lines, report.events - 1)
    out.opid = core.text(C.history_text_opid(lines, report.op))
    out.states = {}
    for i = 0, report.states - 1 do
      local s = report.state[i]
      out.states[i + 1] = s.present and '=' .. ffi.string(s.bytes, math.min(tonumber(s.size), 120)) or 'nil'
    end
    table.sort(out.states)
  end
  C.history_text_free(lines)
  return out
end

-- --- a sequential object -------------------------------------------------------------------------------------------------

local function number(value)
  if value == nil then return 0 end
  return value:match('^%-?[1-9]%d*$') and tonumber(value) or value == '0' and 0 or nil
end

-- What op { op, a, b } does to a value (nil: missing): -> true, new value, result as lin1 has it; false: it cannot happen
function M.apply(op, value)
  if op.op == 'get' then return true, value, value and '=' .. value or 'nil' end
  if op.op == 'put' then return true, op.a end
  if op.op == 'append' then return true, (value or '') .. op.a end
  if op.op == 'del' then return true, nil, value and '1' or '0' end
  if op.op == 'cas' then
    if (value and '=' .. value or 'nil') ~= op.a then return true, value, '0' end
    return true, op.b, '1'
  end
  local n = number(value)
  if not n then return false end
  return true, ('%.0f'):format(n + op.a), ('%.0f'):format(n + op.a)
end

-- --- trying all orders ---------------------------------------------------------------------------------------------------

-- ops of one key: { op, a, b, began, ended (nil: it may happen later, or never), result (nil: unchecked) }
local function explained(ops)
  local placed, seen = {}, {}
  local function go(value)
    local first, mark = math.huge, {}
    for i, op in ipairs(ops) do
      mark[i] = placed[i] and 'x' or '.'
      if not placed[i] and op.ended and op.ended < first then first = op.ended end
    end
    if first == math.huge then return true end
    mark = table.concat(mark) .. (value and '=' .. value or 'nil')
    if seen[mark] then return false end
    seen[mark] = true
    for i, op in ipairs(ops) do
      if not placed[i] and op.began < first then
        local ok, new, result = M.apply(op, value)
        if ok and (op.result == nil or op.result == result) then
          placed[i] = true
          if go(new) then return true end
          placed[i] = false
        end
      end
    end
    return false
  end
  return go(nil)
end

-- events: list of { op = table, what = 'inv'|'ok'|'fail'|'info' } in order; -> true, or false and how many events show it
function M.brute(events)
  local function judge(count)
    local keys, at = {}, {}
    for i = 1, count do
      local e = events[i]
      local op = e.op
      if e.what == 'inv' then
        local one = { op = op.op, a = op.a, b = op.b, began = i }
        keys[op.key] = keys[op.key] or {}
        table.insert(keys[op.key], one)
        at[op] = one
      elseif e.what == 'ok' then at[op].ended, at[op].result = i, op.result
      elseif e.what == 'fail' then
        for place, one in ipairs(keys[op.key]) do
          if one == at[op] then table.remove(keys[op.key], place) break end
        end
      end
    end
    for _, ops in pairs(keys) do if not explained(ops) then return false end end
    return true
  end
  if judge(#events) then return true end
  local low, high = 1, #events
  while low < high do
    local middle = math.floor((low + high) / 2)
    if judge(middle) then low = middle + 1 else high = middle end
  end
  return false, low
end

-- events as lin1, TIMEs 1, 2, ...
function M.text(events)
  local lines = {}
  for i, e in ipairs(events) do
    local op = e.op
    local rest = e.what == 'inv' and ('%s %s%s%s'):format(op.op, op.key, op.a and ' ' .. op.a or '', op.b and ' ' .. op.b or '')
      or e.what == 'ok' and op.result or ''
    lines[i] = ('%d c%s %s %s %s\n'):format(i, op.client, e.what, op.id, rest)
  end
  return table.concat(lines)
end

-- --- histories to check --------------------------------------------------------------------------------------------------

-- A history that a real sequential object gave: `count` operations of `clients` on `keys`; each takes effect at some moment
-- while it is under way, or, its outcome lost (chance `lost`), later or never. make(key) gives the next operation.
function M.generate(random, count, clients, keys, lost, make)
  local events, values, late, busy, begun = {}, {}, {}, {}, 0
  local function happen(op)
    local ok, new, result = M.apply(op, values[op.key])
    if ok then values[op.key] = new end
    op.done, op.fits, op.gave = true, ok, result
  end
  while true do
    local client = random(clients)
    local op = busy[client]
    if not op then
      if begun == count then
        if not next(busy) then break end
      else
        begun = begun + 1
        op = make('k' .. random(keys))
        op.id, op.client = begun, client
        busy[client] = op
        events[#events + 1] = { op = op, what = 'inv' }
      end
    elseif not op.done and random() < 0.5 then
      if random() < lost then
        op.done, op.lost = true, true
        if random() < 0.7 then late[#late + 1] = op end
      else happen(op) end
    elseif op.done then
      busy[client] = nil
      if op.lost then
        if random() < 0.5 then events[#events + 1] = { op = op, what = 'info' } end
      elseif not op.fits then events[#events + 1] = { op = op, what = 'fail' }
      else
        if random() < 0.9 then op.result = op.gave end
        events[#events + 1] = { op = op, what = 'ok' }
      end
    end
    if late[1] and random() < 0.2 then happen(table.remove(late, random(#late))) end
  end
  return events
end

return M
