-- measure.lua: figures of processes under a load: windows of time with the CPU that was used in them, latencies within them.
local sys = require 'tidelock.sys'

local measure = {}

local function read(path)
  local file = io.open(path)
  local text = file and file:read('*a')
  if file then file:close() end
  return text
end

-- Clock ticks, 100 a second: of the whole machine; of processes, with their children that have ended.
local function busy()
  local user, nice, system, irq, softirq, steal = read('/proc/stat'):match('^cpu +(%d+) (%d+) (%d+) %d+ %d+ (%d+) (%d+) (%d+)')
  return user + nice + system + irq + softirq + steal
end

local function used(pids)
  local sum = 0
  for _, pid in ipairs(pids) do
    local words = {}
    for word in (read('/proc/' .. pid .. '/stat') or ''):gsub('^.*%) ', ''):gmatch('%S+') do words[#words + 1] = word end
    for i = 12, 15 do sum = sum + (tonumber(words[i]) or 0) end
  end
  return sum
end

function measure.load_average() return tonumber(read('/proc/loadavg'):match('^%S+')) end

-- Resident MB of a process: now, and the most there was.
function measure.resident(pid)
  local status = read('/proc/' .. pid .. '/status') or ''
  return (tonumber(status:match('VmRSS:%s+(%d+)')) or 0) / 1000, (tonumber(status:match('VmHWM:%s+(%d+)')) or 0) / 1000
end

-- --- windows: pids says whose CPU is the measured ones' ---

function measure.begin(pids)
  return { from = sys.now(), busy = busy(), used = used(pids), pids = pids }
end

-- -> { from, to (seconds), own, other (cores) }
function measure.finish(window)
  local to = sys.now()
  local all, own = (busy() - window.busy) / 100, (used(window.pids) - window.used) / 100
  local s = to - window.from
  return { from = window.from, to = to, own = own / s, other = math.max(0, all - own) / s }
end

-- --- a load at a fixed rate ---

-- Starts it; words: of loadgen. -> load; load:stop() -> samples { due, sent, answered } in seconds, sorted by answer
local load = {}
load.__index = load

function measure.load(program, words, dir)
  local self = setmetatable({ file = dir .. '/samples', said = dir .. '/load' }, load)
  local all = { program, '-l', self.file, '-t', '3600' }
  for _, word in ipairs(words) do all[#all + 1] = tostring(word) end
  os.remove(self.file)
  os.remove(self.said)
  self.pid = assert(sys.spawn(all, self.said))
  return self
end

function load:stop()
  sys.kill(self.pid, 'TERM')
  local code = sys.wait(self.pid, true)
  local said = read(self.said)
  if code ~= 0 then error('the load ended with ' .. code .. ': ' .. said, 0) end
  if tonumber(said:match('"unanswered":(%d+)')) > 0 or tonumber(said:match('"errors":(%d+)')) > 0 then
    error('not all was answered well: ' .. said, 0)
  end
  local samples = {}
  for due, sent, answered in read(self.file):gmatch('(%d+) (%d+) (%d+)\n') do
    samples[#samples + 1] = { due = due / 1e6, sent = sent / 1e6, answered = answered / 1e6 }
  end
  table.sort(samples, function(a, b) return a.answered < b.answered end)
  return samples
end

-- What was due in any of the windows: how many, percentiles of latency in ms, the longest time without any answer in ms (within one
-- window), and how late the client itself was in 99.9 of 100 cases.
function measure.latency(samples, windows)
  local took, late, gap = {}, {}, 0
  for _, window in ipairs(windows) do
    local last
    for _, s in ipairs(samples) do
      if s.due >= window.from and s.due < window.to then
        took[#took + 1] = (s.answered - s.due) * 1000
        late[#late + 1] = (s.sent - s.due) * 1000
        gap = math.max(gap, last and (s.answered - last) * 1000 or 0)
        last = s.answered
      end
    end
  end
  if #took == 0 then error('nothing was due in a window', 2) end
  table.sort(took)
  table.sort(late)
  local function at(list, share) return list[math.max(1, math.ceil(#list * share))] end
  return { count = #took, p50 = at(took, 0.5), p99 = at(took, 0.99), p999 = at(took, 0.999), most = took[#took], gap = gap,
    client = at(late, 0.999) }
end

return measure
