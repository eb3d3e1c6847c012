-- tidelock/session.lua: a client's session: each command runs once, however often it is sent, over whatever fails meanwhile.
--
--   local session, err = client:session{ ttl = 30000 }
--   local value, err = session:call('queue.push', 'a')    sent again until there is an answer, or the client's time is up
--   session:keep()                                        within each ttl, if nothing was called
--   session:close()
--
-- It numbers its commands, and says with each which answers it waits for no more. Several commands may be under way at once.
local session = {}
session.__index = session

-- A session that is there already, by its text; `seq`: the last number that was used (0).
function session.of(text, seq) return setmetatable({ id = text, seq = seq or 0, waiting = {} }, session) end

-- -> a session | nil, error. An attempt that was lost leaves at worst a session that nobody uses, and that runs out.
function session.open(client, options)
  local ttl, deadline = (options or {}).ttl or 30000, client.now() + client.timeout
  repeat
    local text, err = client:call('tidelock.session_open', ttl)
    if text then
      local self = session.of(text)
      self.client, self.ttl = client, ttl
      return self
    end
    if err.definite and err.code ~= 'NO_LEADER' or client.now() >= deadline then return nil, err end
    client.sleep(20)
  until false
end

-- Before a command: what goes with it. `done` is to be called with it afterwards.
function session:ticket()
  self.seq = self.seq + 1
  self.waiting[self.seq] = true
  local lowest = self.seq
  for seq in pairs(self.waiting) do if seq < lowest then lowest = seq end end
  return { session = self.id, seq = self.seq, done_below = lowest }
end

function session:done(ticket) self.waiting[ticket.seq] = nil end

-- As client:call; `client`: another than the one that opened it.
function session:call_by(client, name, ...)
  local before, ticket = client.ticket, self:ticket()
  client.ticket = ticket
  local value, err, index = client:call(name, ...)
  client.ticket = before
  self:done(ticket)
  return value, err, index
end

function session:call(...) return self:call_by(self.client, ...) end

-- Has its ttl again. -> true | nil, error
function session:keep() return self.client:call('tidelock.session_keep', self.id) end

-- Ends it: on_session_end is called now. -> true | nil, error
function session:close()
  self.closed = true
  return self.client:call('tidelock.session_end', self.id)
end

return session
