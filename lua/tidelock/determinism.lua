-- tidelock/determinism.lua: runs what services were told again, in other processes and under conditions that must not matter, and
-- compares each step; what differs is made short.
--
-- A run is { modules = { mount = bundle }, seed, now, steps } with steps as tidelock.test has them.
local sys, test, wire = require 'tidelock.sys', require 'tidelock.test', require 'tidelock.wire'

local determinism = {}

local SECONDS = 30 -- of shortening
local TRIES = 4 -- of a difference that is a matter of chance

local OUTSIDE = 'something is kept outside of the maps (in a table of the module, in an object): a node that restarts does not have it'
local HOLES = 'somewhere `#` is asked of a list with holes: count its elements, or make no holes'

-- How a run is run. machine: flags of tidelock.machine; restore: before which steps it goes through a snapshot (n: every nth); tried:
-- each command is first run dry; unasked: queries are left out; chance: it may differ at one time and not at another.
determinism.ways = {
  { name = 'restored', what = 'restored from a snapshot before each entry', restore = 1, advice = OUTSIDE },
  { name = 'restored now and then', what = 'restored from a snapshot before every fifth entry', restore = 5, advice = OUTSIDE },
  { name = 'unasked', what = 'without the queries, which only one node answers', unasked = true,
    advice = 'a query changes something that a command reads' },
  { name = 'tried', what = 'with a dry run before each command, as only one node has it', tried = true,
    advice = 'something is changed that is not taken back with the command' },
  { name = 'again', what = 'in another process: other hash seeds, other addresses', chance = true,
    advice = 'something depends on the order or the addresses of tables' },
  { name = 'collected', what = 'with all garbage collected before each entry', machine = { collect = true },
    advice = 'something depends on the collector' },
  { name = 'uncollected', what = 'without garbage collection, in a heap that is full of other things',
    machine = { keep = true, ballast = true }, advice = 'something depends on memory' },
  { name = 'mixed', what = 'with lists that lie among the fields of their tables', machine = { mixed = true }, advice = HOLES },
  { name = 'roomy', what = 'with tables that have room to spare', machine = { roomy = true }, advice = HOLES },
}

local plain = { name = 'plain' }

local function way_named(name)
  for _, way in ipairs(determinism.ways) do if way.name == name then return way end end
end

-- --- in the other process ------------------------------------------------------------------------------------------------------

-- What can be seen after each step: { digest, ok, answer, events, budget that was spent }, as text.
local function play(run, way)
  local how = { seed = run.seed, now = run.now }
  for flag, on in pairs(way.machine or {}) do how[flag] = on end
  local h, out = test.host_of(run.modules, how), {}
  for i, step in ipairs(run.steps) do
    if way.restore and i % way.restore == 0 then h:through_snapshot() end
    if way.tried and step.op == 'call' then h.machine:try(step.name, step.args, step.ticket and wire.pack(step.ticket), step.at) end
    if way.unasked and step.op == 'query' then
      out[i] = {}
    else
      h.clock = step.at
      h.last_events = nil
      local before = h.machine:status().spent
      local copy = {}
      for k, v in pairs(step) do copy[k] = v end
      local fine, ok, bytes = pcall(h.step, h, copy)
      local status = h.machine:status()
      out[i] = { status.digest, fine and tostring(ok) or 'parked', fine and bytes or '', h.last_events or '',
        tostring(status.spent - before) }
      if not fine then break end
    end
  end
  h:close()
  return out
end

-- Reads a job, writes what came of it beside it.
function determinism.worker(path)
  local file = assert(io.open(path, 'rb'))
  local _, job = wire.unpack(file:read('*a'))
  file:close()
  local way = job.way == 'plain' and plain or way_named(job.way)
  local results = {}
  for i, run in ipairs(job.runs) do results[i] = play(run, way) end
  file = assert(io.open(path .. '.out', 'wb'))
  file:write(assert(wire.pack(results)))
  file:close()
  return 0
end

-- --- here ----------------------------------------------------------------------------------------------------------------------

local function read_all(path)
  local file = io.open(path, 'rb')
  if not file then return '' end
  local bytes = file:read('*a')
  file:close()
  return bytes
end

-- Runs as bytes may hold them: what a step has for readers stays here.
local function to_send(runs)
  local out = {}
  for i, run in ipairs(runs) do
    local steps = {}
    for j, s in ipairs(run.steps) do
      steps[j] = { op = s.op, name = s.name, args = s.args, what = s.what, ticket = s.ticket, at = s.at }
    end
    out[i] = { modules = run.modules, seed = run.seed, now = run.now, steps = steps }
  end
  return out
end

-- Runs all runs in a way, in a process of its own; the results, or nil, why.
local function run_apart(runs, way)
  local directory = assert(sys.tmpdir())
  local path = directory .. '/job'
  local file = assert(io.open(path, 'wb'))
  file:write(assert(wire.pack { way = way.name, runs = to_send(runs) }))
  file:close()
  local pid, why = sys.spawn({ sys.exe(), 'test', '--again', path }, directory .. '/log')
  local code = pid and sys.wait(pid, true)
  local _, results
  if code == 0 then _, results = wire.unpack(read_all(path .. '.out')) else why = why or read_all(directory .. '/log') end
  for _, name in ipairs { '/job', '/job.out', '/log', '' } do os.remove(directory .. name) end
  return results, ('a process that ran them %s ended with %s: %s'):format(way.what or 'plainly', tostring(code), why or '')
end

local function shown(ok, bytes)
  if ok == 'parked' then return 'parked' end
  if bytes == '' then return 'nothing' end
  local text = wire.pack_json(bytes) or '?'
  if #text > 300 then text = text:sub(1, 300) .. '...' end
  return text
end

-- The first step at which two results differ: { step, what, one, other }; nil: none does. That a step costs more is said only if nothing
-- else differs.
local function first_difference(one, other)
  local dearer
  for i = 1, math.max(#one, #other) do
    local a, b = one[i] or { '', 'missing', '', '', '' }, other[i] or { '', 'missing', '', '', '' }
    if #b > 0 then
      if a[2] ~= b[2] or a[3] ~= b[3] then
        return { step = i, what = 'the answer', one = shown(a[2], a[3]), other = shown(b[2], b[3]) }
      end
      if a[4] ~= b[4] then return { step = i, what = 'the events', one = shown('true', a[4]), other = shown('true', b[4]) } end
      if a[1] ~= b[1] then return { step = i, what = 'the state', one = 'digest ' .. a[1], other = 'digest ' .. b[1] } end
      if a[5] ~= b[5] and not dearer then
        dearer = { step = i, what = 'the budget that it takes', one = a[5] .. ' instructions', other = b[5] .. ' instructions' }
      end
    end
  end
  return dearer
end

local function must(results, why)
  if not results then error(why, 0) end
  return results
end

-- Compares runs, plainly and in a way: the number of the first run that differs, and how; nil: none does.
function determinism.compare(runs, way)
  local one = must(run_apart(runs, plain))
  for _ = 1, way.chance and TRIES or 1 do
    local other = must(run_apart(runs, way))
    for i = 1, #runs do
      local found = first_difference(one[i], other[i])
      if found then return i, found end
    end
  end
end

-- How many steps of these runs are refused.
function determinism.refused(runs)
  local count = 0
  for _, run in ipairs(must(run_apart(runs, plain))) do
    for _, step in ipairs(run) do if step[2] ~= 'true' then count = count + 1 end end
  end
  return count
end

-- --- making it short -----------------------------------------------------------------------------------------------------------

local function with_steps(run, steps) return { modules = run.modules, seed = run.seed, now = run.now, steps = steps } end

local function without(steps, from, to)
  local out = {}
  for i, step in ipairs(steps) do if i < from or i > to then out[#out + 1] = step end end
  return out
end

-- Leaves out what the difference does not need: halves, quarters, ... single steps, as long as something differs.
function determinism.shrink(run, way, found)
  local until_ = sys.now() + SECONDS
  local function cut(steps, at) return without(steps, at + 1, #steps) end
  local steps = cut(run.steps, found.step)
  local plainer = {} -- perhaps it happens without any session
  for _, s in ipairs(steps) do
    if s.op ~= 'session' then
      plainer[#plainer + 1] = { op = s.op, name = s.name, args = s.args, list = s.list, what = s.what, at = s.at }
    end
  end
  local _, so = determinism.compare({ with_steps(run, plainer) }, way)
  if so then steps, found = cut(plainer, so.step), so end
  local size = math.ceil(#steps / 2)
  while size >= 1 and sys.now() < until_ do
    local runs = {}
    for at = 1, #steps, size do
      if #steps > size then runs[#runs + 1] = with_steps(run, without(steps, at, at + size - 1)) end
    end
    local i, fewer
    if #runs > 0 then i, fewer = determinism.compare(runs, way) end
    if i then
      steps, found = cut(runs[i].steps, fewer.step), fewer
      size = math.min(size, math.ceil(#steps / 2))
    else
      if size == 1 then break end
      size = math.ceil(size / 2)
    end
  end
  return with_steps(run, steps), found
end

-- --- words ---------------------------------------------------------------------------------------------------------------------

local function literal(value)
  if type(value) == 'string' then
    return '\'' .. value:gsub('[%c\'\\\127-\255]', function(c) return ('\\%03d'):format(c:byte()) end) .. '\''
  elseif type(value) == 'number' then
    if value ~= value then return '0/0' elseif value == 1 / 0 then return '1/0' elseif value == -1 / 0 then return '-1/0' end
    return value == 0 and 1 / value < 0 and '-0' or ('%.17g'):format(value)
  elseif type(value) ~= 'table' then return tostring(value) end
  local keys, parts = {}, {}
  for k in pairs(value) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == 'number'
  end)
  for i, k in ipairs(keys) do parts[i] = (k == i and '' or '[' .. literal(k) .. '] = ') .. literal(value[k]) end
  return #parts == 0 and '{}' or '{ ' .. table.concat(parts, ', ') .. ' }'
end
determinism.literal = literal

-- Arguments as the words of a Lua call.
local function words_of(list)
  local out = {}
  for i = 1, list.n do out[i] = list[i] == nil and 'nil' or literal(list[i]) end
  return table.concat(out, ', ')
end

local function step_line(step, now)
  local at = ('at = %d, '):format(step.at - now)
  if step.op == 'due' then return at .. "op = 'due'" end
  if step.op == 'migrate' then return ('%sop = %q, name = %q'):format(at, step.op, step.name) end
  if step.op == 'session' or step.op == 'limit' then return ('%sop = %q, what = %s'):format(at, step.op, literal(step.what)) end
  local args = 'bytes = ' .. literal(step.args or '')
  if step.list then args = step.list.n == 0 and 'args = {}' or 'args = { ' .. words_of(step.list) .. ' }' end
  return ('%sop = %q, %s%s%s'):format(at, step.op, step.name and ('name = %q, '):format(step.name) or '', args,
    step.ticket and ', ticket = ' .. literal(step.ticket) or '')
end

-- A script that runs a run again, in a way. paths: as test.host takes them.
function determinism.script(run, way, found, paths)
  local lines = { ('-- %s of the last step differs %s.'):format(found.what, way.what),
    '--   plainly: ' .. found.one, '--   then:    ' .. found.other,
    '-- It is likely that ' .. way.advice .. '.', 'assert(require \'tidelock.determinism\'.replay {',
    ('  modules = %s, seed = %.0f, now = %.0f, way = %q,'):format(literal(paths), run.seed, run.now, way.name), '  steps = {' }
  for _, step in ipairs(run.steps) do lines[#lines + 1] = '    { ' .. step_line(step, run.now) .. ' },' end
  lines[#lines + 1] = '  },'
  lines[#lines + 1] = '})'
  return table.concat(lines, '\n') .. '\n'
end

-- What such a script calls. True; or nil, what differs.
function determinism.replay(t)
  local way, steps = way_named(t.way), {}
  if not way then error('there is no way ' .. tostring(t.way), 2) end
  for i, s in ipairs(t.steps) do
    local args = s.bytes
    if s.args then args = test.pack_list(table.maxn(s.args), s.args) end
    steps[i] = { op = s.op, name = s.name, args = args, what = s.what, ticket = s.ticket, at = t.now + s.at }
  end
  local i, found = determinism.compare({ { modules = test.bundles(t.modules), seed = t.seed, now = t.now, steps = steps } }, way)
  if not i then return true end
  return nil, ('step %d: %s differs %s: %s, then %s'):format(found.step, found.what, way.what, found.one, found.other)
end

return determinism
