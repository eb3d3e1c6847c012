-- tidelock/scenario/members.lua: the verbs of scenarios about members and leadership: who votes, who learns, who leads rather.
-- spec/README.md lists them. Each gets the play and the words after the verb.
local words = require 'tidelock.scenario.words'

local members = { setup = {}, verbs = {} }

local wrong = words.wrong

-- --- set NAME ...: the members that the cluster is formed with ----------------------------------------------------------------

local function set_list(name)
  return function(self, list) self.options[name] = words.members(list[2], self.count, 'set ' .. name) end
end

members.setup.voters = set_list 'voters'
members.setup.learners = set_list 'learners'

-- set priority N P
function members.setup.priority(self, list)
  local id = words.node(list[2], self.count, 'set priority')
  self.priorities = self.priorities or {}
  self.priorities[id] = words.number(list[3], 'set priority', 0, 100)
  self.options.voters = self.options.voters or words.nodes('*', self.count)
  self.options.priorities = {}
  for i, voter in ipairs(self.options.voters) do self.options.priorities[i] = self.priorities[voter] or 0 end
end

function members.setup.followpriority(self, list)
  if list[2] ~= 'on' and list[2] ~= 'off' then wrong('set followpriority wants on or off, not %s', list[2] or 'nothing') end
  self.options.follow_priority = list[2] == 'on'
end

-- True if `id` is a member from the beginning.
function members.has(self, id)
  if not self.options.voters then return true end
  for _, name in ipairs { 'voters', 'learners' } do
    for _, member in ipairs(self.options[name] or {}) do
      if member == id then return true end
    end
  end
  return false
end

-- --- verbs ---------------------------------------------------------------------------------------------------------------------

local function told(self, id, change)
  self.changed[id] = change
  self:take()
  if change ~= 'taken' then self:say('%d refuses the change: %s', id, change) end
end

-- change N [voters IDS] [learners IDS] [id I] [force]: what is not said stays, and who votes learns no more.
function members.verbs.change(self, list)
  local id, at = self:up(list[1], 'change'), 2
  local now = self.stage:status(id).configuration
  local expected, force, wanted = now.id, false, { voters = now.voters }
  while list[at] do
    local word = list[at]
    if word == 'voters' or word == 'learners' then
      wanted[word], at = words.members(list[at + 1], self.count, 'change ' .. word), at + 2
    elseif word == 'id' then expected, at = words.number(list[at + 1], 'change id'), at + 2
    elseif word == 'force' then force, at = true, at + 1
    else wrong('change knows voters learners id force, not %s', word) end
  end
  local of, votes = {}, {}
  for i, voter in ipairs(now.voters) do of[voter] = now.priorities[i] end
  for _, voter in ipairs(wanted.voters) do votes[voter] = true end
  if not wanted.learners then
    wanted.learners = {}
    for _, learner in ipairs(now.learners) do
      if not votes[learner] then table.insert(wanted.learners, learner) end
    end
  end
  wanted.priorities = {}
  for i, voter in ipairs(wanted.voters) do wanted.priorities[i] = of[voter] or self.priorities and self.priorities[voter] or 0 end
  told(self, id, self.stage:change(id, wanted, expected, force))
end

members.verbs['abort-change'] = function(self, list)
  local id = self:up(list[1], 'abort-change')
  told(self, id, self.stage:abort_change(id))
end

-- transfer N [TO]
function members.verbs.transfer(self, list)
  local id = self:up(list[1], 'transfer')
  local to = list[2] and self:node(list[2], 'transfer') or 0
  local transfer = self.stage:transfer(id, to)
  self:take()
  if transfer == 'refused' then self:say('%d refuses to hand over', id) end
end

return members
