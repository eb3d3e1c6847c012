-- tidelock/scenario/look.lua: the verbs that change nothing: what they write into a transcript. spec/README.md lists them.
--
-- Each gets the play and the words after the verb.
local words = require 'tidelock.scenario.words'

local look = {}

local wrong = words.wrong

local function those(self, list, verb)
  return words.nodes(list[1] or '*', self.count, verb)
end

local function name(id) return id == 0 and 'none' or tostring(id) end

-- What entry 1 says is not repeated.
local function configuration(s)
  local c = s.configuration
  if c.id <= 1 then return '' end
  return (', configuration %d: voters %s%s%s'):format(c.id, words.show_members(c.voters),
    #c.old_voters > 0 and ' old ' .. words.show_members(c.old_voters) or '',
    #c.learners > 0 and ' learners ' .. words.show_members(c.learners) or '')
end

local function base(s) return s.base > 0 and (' base %d'):format(s.base) or '' end

-- What the cores say is left out of the transcript from here on, or is not.
function look.trace(self, list)
  if list[1] ~= 'on' and list[1] ~= 'off' then wrong('trace wants on or off, not %s', list[1] or 'nothing') end
  self.muted = list[1] == 'off'
end

function look.status(self, list)
  for _, id in ipairs(those(self, list, 'status')) do
    local s = self.stage:status(id)
    if not s.up then self:say('%d down, disk: term %d voted %s%s last %d', id, s.disk.term, name(s.disk.voted), base(s.disk), #s.disk.log)
    else
      self:say('%d %s term %d voted %s follows %s%s commit %d last %d%s%s', id, s.role, s.term, name(s.voted), name(s.leader),
        base(s), s.commit, #s.log, configuration(s), s.waiting > 0 and (', writes waiting %d'):format(s.waiting) or '')
    end
    for peer = 1, self.count do
      local p = s.peers and s.peers[peer]
      if p then
        self:say('  %d %s next %d match %d in flight %d', peer, p.state, p.next, p.match, p.inflight)
      end
    end
  end
end

function look.log(self, list)
  for _, id in ipairs(those(self, list, 'log')) do
    local s = self.stage:status(id)
    if s.up then self:say('%d log %s,%s commit %d', id, words.show_terms(s.log), base(s), s.commit)
    else self:say('%d down, disk: log %s%s', id, words.show_terms(s.disk.log), base(s.disk)) end
  end
end

function look.wire(self, list)
  for _, way in ipairs(words.ways(list[1] or '*->*', self.count, 'wire')) do
    for place = 1, self.stage:count(way[1], way[2]) do
      self:say('%d->%d %s', way[1], way[2], words.show_message(self.stage:message(way[1], way[2], place)))
    end
  end
end

return look
