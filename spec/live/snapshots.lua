-- snapshots.lua: real nodes whose logs are cut: one that was down meanwhile comes back, killed three times in mid-transfer; nodes
-- are killed while they take snapshots; nothing is lost.
--
--   tidelock run spec/live/snapshots.lua ROWS       of 50 KB each
local sys = require 'tidelock.sys'
local rows = tonumber(arg[1])
local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, timeout = 20000,
  flags = { '--snapshot-bytes', 'off', '--snapshot-keep', '0', '--snapshot-rate', tostring(rows * 50000 / 4) } }

local function fill(round)
  for i = 1, rows do
    -- Whoever was asked may have been killed: the same again does the same.
    c:wait('row ' .. i .. ' to be set', 20000, function()
      local _, err = c:call('kv.set', 'row-' .. i, round .. ('x'):rep(50000))
      return not err
    end)
  end
end

local function snapshot(node)
  local code = os.execute(sys.exe() .. ' snapshot --to ' .. node:address() .. ' > ' .. c.dir .. '/answer')
  assert(code == 0, 'tidelock snapshot ended with ' .. tostring(code))
  local answer = assert(io.open(c.dir .. '/answer')):read('*a')
  assert(answer:match('^{"bytes":%d+,"index":%d+,"term":%d+}\n$'), answer)
end

local function lines_with(node, text)
  local count = 0
  for line in io.lines(node.log) do count = count + (line:find(text, 1, true) and 1 or 0) end
  return count
end

fill(1)
c:wait_equal()
local leader = c:leader()
local down = c:node(leader.id % 3 + 1)
down:kill()
c:step('a node is down while the log is cut', function()
  fill(2)
  snapshot(leader)
  c:wait('the log is cut', 5000, function() local s = leader:status() return s and s.base > rows end)
end)
c:step('it comes back, killed three times in mid-transfer', function()
  down:start()
  local least = 0
  for i = 1, 3 do
    c:wait('it receives', 20000, function()
      local s = down:status()
      return s and s.snapshot.doing == 'receiving' and s.snapshot.percent > least + 15
    end)
    least = down:status().snapshot.percent
    down:kill()
    down:start()
    c:wait('it goes on', 20000, function() return lines_with(down, 'goes on with the one at entry') == i end)
  end
  c:wait_equal()
  assert(down:status().base > rows)
end)
c:step('nodes are killed while they take one', function()
  for i = 1, 6 do
    local node = c:node(i % 3 + 1)
    c:call('kv.set', 'more', i)
    local pid = sys.spawn({ sys.exe(), 'snapshot', '--to', node:address(), '--timeout', '3000' }, '/dev/null')
    sys.sleep(0.01 * i)
    node:kill()
    sys.wait(pid, true)
    node:start()
    c:wait_equal()
  end
  for _, node in ipairs(c:nodes()) do
    local answer, err = node:snapshot()
    assert(answer, err and err.message)
    assert(answer.index == node:status().snapshot.index)
  end
end)
c:step('all are killed, and begin from their snapshots', function()
  for _, node in ipairs(c:nodes()) do node:kill() end
  for _, node in ipairs(c:nodes()) do node:start() end
  c:wait_equal()
  for i = 1, rows do assert(c:query('kv.get', 'row-' .. i) == 2 .. ('x'):rep(50000)) end
  for _, node in ipairs(c:nodes()) do assert(lines_with(node, 'reading file snapshot-') > 0) end
end)
c:close()
