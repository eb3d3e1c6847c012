-- tidelock/tasks.lua: what a script does at once: coroutines that wait for a time, or for something to happen.
--
-- The script itself runs outside any coroutine: when it waits, the tasks that it started go on. The same on virtual time and on real
-- time; which one it is, the driver knows: driver.now() gives ms, and driver.idle(at, list) lets the world go on until `at`, or
-- until one of the waiters in the list may have what it waits for.
local tasks = {}

local TASKS_MAX = 10000

local driver
local waiting = {}    -- in the order in which they began to wait
local current         -- the task that runs; nil: the script itself
local alive, failed = 0, nil

local task = {}
task.__index = task

function tasks.drive(by) driver = by end
function tasks.now() return driver.now() end

local function pack(...) return { n = select('#', ...), ... } end

local function resume(self, ...)
  local outer = current
  current = self
  local results = pack(coroutine.resume(self.thread, ...))
  current = outer
  if coroutine.status(self.thread) ~= 'dead' then return end
  alive = alive - 1
  self.done = true
  if results[1] then self.results = results
  else
    self.failure = results[2]
    failed = failed or self
  end
end

-- One round over all that wait: who has what it waited for, or whose time has come, goes on.
local function turn()
  local before, now = waiting, driver.now()
  waiting = {}
  for _, waiter in ipairs(before) do
    local value = waiter.ready and waiter.ready()
    if value or now >= waiter.at then
      waiter.value, waiter.done = value, true
      if waiter.task then resume(waiter.task) end
    else waiting[#waiting + 1] = waiter end
  end
end

-- Raises what a task failed with that nobody waited for.
function tasks.check()
  local one = failed
  failed = nil
  if one then error(one.failure, 0) end
end

-- Until ready() gives something, or the time `at` (ms) has come. `socket` wakes it, where there are sockets. -> what ready gave
function tasks.wait(at, ready, socket)
  local waiter = { at = at, ready = ready, socket = socket, task = current }
  waiting[#waiting + 1] = waiter
  if current then
    coroutine.yield()
    return waiter.value
  end
  while true do
    turn()
    if waiter.done then break end
    tasks.check()
    local soonest = math.huge
    for _, one in ipairs(waiting) do soonest = math.min(soonest, one.at) end
    if soonest == math.huge then error('every task waits for another: nothing will ever happen', 0) end
    driver.idle(soonest, waiting)
  end
  tasks.check()
  return waiter.value
end

function tasks.sleep(ms) tasks.wait(driver.now() + ms) end

-- Starts f(...): it runs until it waits, then together with everything else.
function tasks.go(f, ...)
  if alive >= TASKS_MAX then error(('go: %d tasks run already'):format(TASKS_MAX), 3) end
  local self = setmetatable({ thread = coroutine.create(f) }, task)
  alive = alive + 1
  resume(self, ...)
  return self
end

-- Until it has ended. -> what its function gave; raises what it failed with.
function task:wait()
  if not self.done then tasks.wait(math.huge, function() return self.done end) end
  if failed == self then failed = nil end
  if self.results then return unpack(self.results, 2, self.results.n) end
  error(self.failure, 0)
end

-- Forgets all tasks: the cluster that they worked with is gone.
function tasks.drop()
  waiting, alive = {}, 0
end

return tasks
