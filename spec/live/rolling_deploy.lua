-- rolling_deploy.lua: kv.lua becomes kv_v2.lua under load. No request fails, and there is one index at which every answer changes; a
-- version whose migrate fails changes nothing.
--
--   tidelock run spec/live/rolling_deploy.lua [KEYS]
local sys, client, wire = require 'tidelock.sys', require 'tidelock.client', require 'tidelock.wire'
local keys = tonumber(arg[1]) or 3000

-- The load, in a process of its own: writes until the file `stop` is there; a line for each answer: index, revision or nil.
if arg[1] == '--load' then
  local to, name, stop = arg[2], arg[3], arg[4]
  local c = assert(client.new(to, { timeout = 20000 }))
  local n = 0
  while true do
    local file = io.open(stop)
    if file then file:close() break end
    n = n + 1
    local value, err, index = c:raw('kv.set', wire.pack { name .. n % 50, n }, {})
    if not value then error(('request %d of %s: %s: %s'):format(n, name, err.code, err.message)) end
    local _, revision = wire.unpack(value)
    io.stdout:write(('%.0f %s\n'):format(index, tostring(revision)))
  end
  io.stdout:flush()
  os.exit(0)
end

local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, flags = { '--heartbeat', '30', '--election', '300' } }
c:wait_leader {}
for i = 1, keys do
  local _, err = c:call('kv.set', ('key %05d'):format(i), i)
  assert(not err, err and err.message)
end

local script = debug.getinfo(1, 'S').source:sub(2)
local stop, loads = c.dir .. '/stop', {}
local addresses = {}
for _, n in ipairs(c:nodes()) do addresses[#addresses + 1] = n:address() end
for i = 1, 3 do
  local out = ('%s/load%d'):format(c.dir, i)
  loads[i] = { out = out, pid = assert(sys.spawn({ sys.exe(), 'run', script, '--load', addresses[i], 'load' .. i .. ' ', stop }, out)) }
end
c.sleep(nil, 300)

-- First one that fails in its third step: nothing may change.
local bad = c.dir .. '/kv_bad.lua'
local file = assert(io.open(bad, 'w'))
local text = assert(io.open('examples/kv_v2.lua')):read('*a')
file:write((text:gsub('moved = moved %+ 1', 'moved = moved + 1\n    if cells:len() > 2500 then error("too many") end')))
file:close()
local answer, err = c:deploy('kv=' .. bad)
assert(not answer and err.message:find('too many', 1, true), 'the migration that fails: ' .. tostring(err and err.message))
local count = assert(c:query('kv.count'))
assert(count >= keys, 'keys after it failed: ' .. count)
for i = 1, keys, 97 do assert(c:query('kv.get', ('key %05d'):format(i)) == i) end
c:note('a migration that fails in its third entry changed nothing: %d keys', count)

c.sleep(nil, 300)
local before = c:leader():status().applied
assert(c:deploy('kv=examples/kv_v2.lua'))
c.sleep(nil, 300)
assert(io.open(stop, 'w')):close()
local old_last, new_first, answers = 0, math.huge, 0
for _, load in ipairs(loads) do
  local code = sys.wait(load.pid, true)
  local last
  for line in io.lines(load.out) do
    last = (last or '') .. (line:match('^%d+ ') and '' or line .. '; ')
    local index, revision = line:match('^(%d+) (%S+)$')
    if index then
      answers = answers + 1
      if revision == 'nil' then old_last = math.max(old_last, tonumber(index))
      else new_first = math.min(new_first, tonumber(index)) end
    end
  end
  assert(code == 0, 'a client failed: ' .. tostring(last))
end
assert(old_last > 0 and new_first < math.huge, 'both versions answered')
assert(old_last < new_first, ('the old code answered at %d, the new one at %d'):format(old_last, new_first))
assert(new_first > before, 'the new code answered before its deploy')
for i = 1, keys, 97 do
  local cell = assert(c:query('kv.cell', ('key %05d'):format(i)))
  assert(cell.value == i and cell.revision == 1)
end
c:wait_equal()
c:note('%d answers, none failed; old code to entry %d, new code from entry %d', answers, old_last, new_first)

-- A node that starts anew replays the old code before that entry and the new one behind it.
local one = c:leader():kill()
c:wait_leader { not_node = one }
one:start()
c:wait_equal()
c:note('a node that replayed both agrees')
c:close()
