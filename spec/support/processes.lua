-- spec/support/processes.lua: real nodes and the command line, in a directory that is taken away.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local P = {}
P.__index = P

-- Runs a shell command -> its exit status, what it wrote on standard output
local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

P.sh = sh

function P.new(nodes)
  local dir = select(2, sh('mktemp -d')):gsub('%s', '')
  local self = setmetatable({ dir = dir, ports = {}, pids = {} }, P)
  local line = {}
  for id = 1, nodes or 3 do
    self.ports[id] = tonumber((select(2, sh(BIN .. [[ run -e 'print(require("tidelock.sys").free_port())']]))))
    line[id] = ('%d=127.0.0.1:%d'):format(id, self.ports[id])
  end
  self.line = table.concat(line, ',')
  return self
end

function P:path(name) return self.dir .. '/' .. name end

function P:write(name, bytes)
  local file = assert(io.open(self:path(name), 'wb'))
  file:write(bytes)
  file:close()
  return self:path(name)
end

function P:read(name)
  local file = assert(io.open(self:path(name), 'rb'))
  local bytes = file:read('*a')
  file:close()
  return bytes
end

-- Starts node `id` on directory `name`, with more words for `tidelock start`. A shell waits for its end and leaves a file then:
-- only who waits for a process knows that all of it is gone.
function P:start(id, name, words)
  local pid, ended = self:path(name .. '.pid'), self:path(name .. '.ended')
  os.remove(pid)
  os.remove(ended)
  sh(('(%s start --id %d --data %s --listen 127.0.0.1:%d --heartbeat 20 --election 150 %s 2>> %s & echo $! > %s; wait $!; touch %s) '
    .. '> /dev/null 2>&1 & while ! test -s %s; do sleep 0.01; done'):format(BIN, id, self:path(name), self.ports[id], words or '',
    self:path(name .. '.log'), pid, ended, pid))
  self.pids[id] = { pid = tonumber(self:read(name .. '.pid')), ended = ended }
end

function P:stop(id, signal)
  local one = self.pids[id]
  self.pids[id] = nil
  if one then sh(('kill -%s %d; while ! test -e %s; do sleep 0.02; done'):format(signal or 'TERM', one.pid, one.ended)) end
end

function P:close()
  for id in pairs(self.ports) do self:stop(id, 'KILL') end
  sh('rm -rf ' .. self.dir)
end

-- Runs tidelock with words -> exit status, what it wrote on both streams
function P:run(words, before)
  local to = {}
  for id, port in ipairs(self.ports) do to[id] = '127.0.0.1:' .. port end
  return sh(('%sTIDELOCK_TO=%s timeout 60 %s %s 2>&1'):format(before or '', table.concat(to, ','), BIN, words))
end

-- Begins tidelock with words; what it writes goes to the file NAME.said, and at its end its exit status to NAME.status.
function P:background(words, name)
  self:run(('%s > %s 2>&1; echo $? > %s) > /dev/null &'):format(words, self:path(name .. '.said'), self:path(name .. '.status')), '(')
end

-- Expects the status, and each text somewhere in what was written. -> what was written
function P:says(words, status, ...)
  local got, said = self:run(words)
  if got ~= status then error(('%s: exit %d, not %d\n%s'):format(words, got, status, said), 2) end
  for _, text in ipairs { ... } do
    if not said:find(text, 1, true) then error(('%s\nwanted: %s\nsaid:   %s'):format(words, text, said), 2) end
  end
  return said
end

-- What node `id` says of itself, once `condition` is true of it.
function P:wait(what, condition)
  for _ = 1, 200 do
    if condition() then return end
    sh('sleep 0.05')
  end
  local logs = select(2, sh('tail -n 5 ' .. self.dir .. '/*.log'))
  error('not in time: ' .. what .. '\n' .. logs, 2)
end

-- Until a leader is known everywhere, and the service is there.
function P:ready()
  local status, said = self:run('status --wait --timeout 20000')
  if status ~= 0 then error(said .. select(2, sh('tail -n 5 ' .. self.dir .. '/*.log')), 2) end
end

return P
