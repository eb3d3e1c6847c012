-- snapshot.lua: what a snapshot does to those who wait for answers, beside Redis' BGSAVE, and what a transfer does.
--
--   make bench-snapshot        (or: tidelock run spec/bench/snapshot.lua LOADGEN)
--
-- By environment: ROWS=5000000 of a 16-byte key and VALUE=184 bytes; RATE=2000 commands a second, each on a random row, latencies
-- from when a command was due; ROUNDS=3 of a time without and a time with a snapshot; PARTS="pause transfer redis". One after the
-- other: first three nodes, then Redis. It needs some 8 GB of memory and 12 GB of disk at full size.
package.path = arg[0]:gsub('[^/]*$', '') .. '?.lua;' .. package.path
local sys, measure = require 'tidelock.sys', require 'measure'

local program = assert(arg[1], 'which loadgen?')
local function setting(name, default) return tonumber(os.getenv(name)) or default end
local ROWS, VALUE, RATE, ROUNDS = setting('ROWS', 5000000), setting('VALUE', 184), setting('RATE', 2000), setting('ROUNDS', 3)
local PARTS = ' ' .. (os.getenv('PARTS') or 'pause transfer redis') .. ' '
local QUIET_S_MIN, QUIET_S_MAX = 10, 60

local function say(format, ...)
  io.write(format:format(...), '\n')
  io.flush()
end

local function wait(what, seconds, condition)
  local deadline = sys.now() + seconds
  repeat
    local got = condition()
    if got then return got end
    sys.sleep(0.02)
  until sys.now() > deadline
  error('it did not happen in time: ' .. what, 0)
end

-- Words for loadgen: to one port, in that protocol.
local function target(protocol, port) return { '-p', protocol, '-P', port, '-k', 16, '-v', VALUE, '-K', ROWS } end

local function with(words, ...)
  local all = {}
  for _, word in ipairs(words) do all[#all + 1] = word end
  for i = 1, select('#', ...) do all[#all + 1] = (select(i, ...)) end
  return all
end

-- Every key once, as fast as it goes.
local function fill(to, dir)
  local words = table.concat(with(to, '-q', '-n', ROWS, '-c', 8, '-d', 128, '-t', 3600), ' ')
  assert(os.execute(program .. ' ' .. words .. ' > ' .. dir .. '/fill') == 0, 'the rows could not be put')
  local said = assert(io.open(dir .. '/fill')):read('*a')
  assert(said:match('"errors":0,"unanswered":0'), said)
  say('filled: %d rows, %.0f MB of keys and values, %.0f commands a second', ROWS, ROWS * (16 + VALUE) / 1e6,
    tonumber(said:match('"ops_s":([%d.]+)')))
end

local function steady(to, dir)
  local load = measure.load(program, with(to, '-r', RATE, '-c', 4), dir)
  sys.sleep(3)
  return load
end

local header = '| %-34s | %6s | %6s | %8s | %8s | %8s | %8s | %8s | %5s | %5s |'
local function head(title)
  say('\n%s; load average %.1f\n', title, measure.load_average())
  say(header, 'latency in ms', 'count', 'p50', 'p99', 'p99.9', 'most', 'gap', 'client', 'own', 'other')
  say((header:format('', '', '', '', '', '', '', '', '', ''):gsub('[^|]', '-')))
end

-- One line: of all windows together. -> its latencies
local function line(title, samples, windows)
  local l, own, other = measure.latency(samples, windows), 0, 0
  for _, w in ipairs(windows) do own, other = own + w.own / #windows, other + w.other / #windows end
  say('| %-34s | %6d | %6.2f | %8.2f | %8.2f | %8.2f | %8.2f | %8.2f | %5.2f | %5.2f |', title, l.count, l.p50, l.p99, l.p999, l.most,
    l.gap, l.client, own, other)
  return l
end

-- Rounds of a time without, and with, what `save` does (it returns when it is done). The two alternate, so that both see the same of
-- what else happens on the machine.
local function rounds(title, pids, load, save, stalls)
  local without, beside, last = {}, {}, QUIET_S_MIN
  for _ = 1, ROUNDS do
    local window = measure.begin(pids)
    sys.sleep(math.max(QUIET_S_MIN, math.min(QUIET_S_MAX, last)))
    without[#without + 1] = measure.finish(window)
    window = measure.begin(pids)
    save()
    beside[#beside + 1] = measure.finish(window)
    last = beside[#beside].to - beside[#beside].from
  end
  local samples = load:stop()
  head(title)
  local quiet, busy = line('without', samples, without), line('beside a snapshot', samples, beside)
  for i = 1, ROUNDS do
    line(('  round %d: without'):format(i), samples, { without[i] })
    line(('  round %d: beside one of %.1f s'):format(i, beside[i].to - beside[i].from), samples, { beside[i] })
  end
  say('p99.9 beside / without: %.2f', busy.p999 / quiet.p999)
  if stalls then
    for _, thread in ipairs { 'tidelock-lua', 'tidelock-log' } do
      say('the longest that %s of the leader was busy with one job: without %s, beside %s', thread, stalls(thread, without),
        stalls(thread, beside))
    end
  end
end

-- --- three nodes ---

local function lines_with(node, text)
  local count = 0
  for said in io.lines(node.log) do count = count + (said:find(text, 1, true) and 1 or 0) end
  return count
end

-- The longest that a thread of a node was busy with one job, in any of the windows; jobs of 5 ms and more are in its log.
local function stalls_of(node, monotonic_to_wall)
  return function(thread, windows)
    local most = 0
    for said in io.lines(node.log) do
      local h, m, s, name, us = said:match('T(%d+):(%d+):([%d.]+)Z.* thread (%S+) was busy for (%d+) us')
      if name == thread then
        local at = h * 3600 + m * 60 + s
        for _, w in ipairs(windows) do
          local from, to = (w.from + monotonic_to_wall) % 86400, (w.to + monotonic_to_wall) % 86400
          if at >= from and at - us / 1e6 <= to then most = math.max(most, tonumber(us)) end
        end
      end
    end
    return most == 0 and 'less than 5 ms' or ('%.1f ms'):format(most / 1000)
  end
end

local function pids_of(c, load)
  local pids = { load and load.pid }
  for _, node in ipairs(c:nodes()) do pids[#pids + 1] = node.pid end
  return pids
end

local function snapshot(node) return assert(node:snapshot(600000)) end

-- Waits for what the node says; nil from it (it starts, it is busy) is no answer yet.
local function status_of(node, what, condition)
  return wait(what, 1800, function()
    local s = node:status()
    return s and condition(s) and s
  end)
end

-- A follower is down while the log is cut; -> the entry that the leader's log begins after
local function fall_behind(leader, victim)
  local last = victim:status().last
  victim:kill()
  sys.sleep(2)
  snapshot(leader)
  return status_of(leader, 'the log is cut', function(s) return s.base > last end).base
end

-- Comes back; what it did when, and with how much memory.
local function come_back(c, victim, load, base)
  victim:start()
  status_of(victim, 'it receives', function(s) return s.snapshot.doing == 'receiving' end)
  local before = measure.resident(victim.pid)
  local pids = pids_of(c, load)
  local first = measure.begin(pids)
  status_of(victim, 'it reads', function(s) return s.snapshot.doing == 'reading' or s.base >= base end)
  local receiving, second = measure.finish(first), measure.begin(pids)
  local s = status_of(victim, 'it is installed', function(s) return s.base >= base and s.snapshot.doing == '' end)
  local reading = measure.finish(second)
  local after, most = measure.resident(victim.pid)
  return { receiving = receiving, reading = reading, file = s.snapshot.bytes, state = s.bytes, before = before, after = after, most = most }
end

-- Killed at a quarter, half and three quarters of the file.
local function interrupted(victim, base)
  victim:start()
  for i = 1, 3 do
    status_of(victim, 'more of it came', function(s) return s.snapshot.doing == 'receiving' and s.snapshot.percent >= i * 25 - 5 end)
    victim:kill()
    victim:start()
    wait('it goes on', 600, function() return lines_with(victim, 'goes on with the one at entry') == i end)
    local from
    for said in io.lines(victim.log) do from = said:match('goes on with .* from byte (%d+)') or from end
    say('killed in mid-transfer, it went on from byte %s', from)
  end
  status_of(victim, 'it is installed', function(s) return s.base >= base end)
end

local function transfer(c, leader, to)
  local victim = c:node(leader.id % 3 + 1)
  snapshot(victim) -- so that its restarts have a snapshot to begin from, as they would
  local load = steady(to, c.dir)
  local window = measure.begin(pids_of(c, load))
  sys.sleep(QUIET_S_MIN)
  local quiet = measure.finish(window)
  local base = fall_behind(leader, victim)
  local got = come_back(c, victim, load, base)
  status_of(victim, 'it has caught up', function(s)
    local l = leader:status()
    return l and s.applied + RATE > l.commit
  end)
  local samples = load:stop()
  head('A follower that was down while the log was cut, under load')
  line('all three up', samples, { quiet })
  line('one receives', samples, { got.receiving })
  line('one builds, checks, installs', samples, { got.reading })
  local r, b = got.receiving.to - got.receiving.from, got.reading.to - got.reading.from
  say('received: a file of %.0f MB in %.1f s, %.0f MB/s', got.file / 1e6, r, got.file / 1e6 / r)
  say('installed: a state of %.0f MB in %.1f s, %.0f MB/s', got.state / 1e6, b, got.state / 1e6 / b)
  say('resident at the receiver: %.0f MB with its old state, at most %.0f, %.0f after', got.before, got.most, got.after)
  load = steady(to, c.dir)
  interrupted(victim, fall_behind(leader, victim))
  load:stop()
  c:wait_equal { within = 600000 }
  say('and all three are equal')
end

local function nodes()
  local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'live', direct = true,
    flags = { '--snapshot-bytes', 'off', '--snapshot-keep', '0', '--log-level', 'debug' } }
  local ok, why = pcall(function()
    local leader = c:wait_leader {}
    local to = target('rpc', leader.port)
    fill(to, c.dir)
    c:wait_equal { within = 600000 }
    say('resident: %.0f MB at the leader', measure.resident(leader.pid))
    if PARTS:find(' pause ', 1, true) then
      local load = steady(to, c.dir)
      rounds('tidelock, three nodes, a snapshot by hand on the leader', pids_of(c, load), load, function() snapshot(leader) end,
        stalls_of(leader, sys.wall() - sys.now()))
    end
    if PARTS:find(' transfer ', 1, true) then transfer(c, leader, to) end
  end)
  if not ok then for _, node in ipairs(c:nodes()) do io.stderr:write(node:said():sub(-2000)) end end
  c:close()
  if not ok then error(why, 0) end
end

-- --- Redis ---

-- Answers of a Redis to a word or two; values come in one piece.
local function asker(port)
  local socket = wait('Redis listens', 30, function() return (sys.connect('127.0.0.1', port, 1)) end)
  return function(words)
    socket:send(words .. '\r\n')
    local got = ''
    repeat
      local bytes = assert(socket:receive(30))
      got = got .. bytes
      local size = got:match('^%$(%d+)\r\n')
    until got:sub(-2) == '\r\n' and (not size or #got >= #size + 5 + size)
    assert(got:sub(1, 1) ~= '-', got)
    return got
  end
end

local function redis()
  local dir, port = assert(sys.tmpdir()), assert(sys.free_port())
  local pid = assert(sys.spawn({ 'redis-server', '--port', tostring(port), '--bind', '127.0.0.1', '--save', '', '--dir', dir,
    '--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0' }, dir .. '/redis.log'))
  local ok, why = pcall(function()
    local ask, to = asker(port), target('resp', port)
    fill(to, dir)
    say('resident: %.0f MB', (measure.resident(pid)))
    local load, fork = steady(to, dir), 0
    rounds('Redis, one node, every write synced, BGSAVE', { pid, load.pid }, load, function()
      ask('BGSAVE')
      wait('BGSAVE ends', 1800, function() return ask('INFO persistence'):find('rdb_bgsave_in_progress:0', 1, true) end)
      fork = math.max(fork, tonumber(ask('INFO stats'):match('latest_fork_usec:(%d+)')) / 1000)
    end)
    say('the longest fork: %.1f ms', fork)
  end)
  sys.kill(pid, 'KILL')
  sys.wait(pid, true)
  os.execute('rm -rf "' .. dir .. '"')
  if not ok then error(why, 0) end
end

say('%d rows, %d commands a second', ROWS, RATE)
if PARTS:find(' pause ', 1, true) or PARTS:find(' transfer ', 1, true) then nodes() end
if PARTS:find(' redis ', 1, true) then redis() end
