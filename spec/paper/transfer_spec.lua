-- One spec per rule of leadership transfer (thesis §3.10), of priorities and of lease reads (thesis §6.4.1), directly against raft_step.
local server = require 'spec.support.server'

local new, only, configuration = server.new, server.only, server.configuration
local FOLLOWER, CANDIDATE, LEADER = 0, 2, 3
local REQUEST_VOTE, VOTE_RESPONSE, APPEND, APPEND_RESPONSE, TIMEOUT_NOW = 0, 1, 2, 3, 5
local PROPOSE, READ, RELUCTANT, TRANSFER, CAMPAIGN = 2, 5, 9, 14, 15
local BEGUN, REFUSED, FAILED, OVER = 1, 2, 3, 4

local function acknowledge(s, peer, index, more)
  local fields = { success = true, match_index = index, epoch = 1 }
  for k, v in pairs(more or {}) do fields[k] = v end
  return s:receive(peer, APPEND_RESPONSE, 2, fields)
end

local function transfer(s, to)
  return s:step(TRANSFER, function(e) e.transfer.to = to end)
end

local function leader(options)
  local s = server.leader(options)
  for peer = 2, 3 do acknowledge(s, peer, 2) end
  return s
end

local function of_type(e, kind)
  local found = {}
  for i = 0, tonumber(e.messages_count) - 1 do
    if e.messages[i].type == kind then found[#found + 1] = e.messages[i] end
  end
  return found
end

describe('leadership transfer (thesis §3.10)', function()
  it('1: the leader takes no proposals', function()
    local s = leader()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    assert.equal(BEGUN, tonumber(transfer(s, 3).transfer))
    assert.is_true(s:step(PROPOSE, function(e) e.propose.count = 1 end).proposal_refused)
  end)

  it('2 and 3: it lets the other one catch up, and then tells it to campaign', function()
    local s = leader()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    assert.equal(0, #of_type(transfer(s, 3), TIMEOUT_NOW))
    assert.equal(0, #of_type(acknowledge(s, 2, 3), TIMEOUT_NOW))
    local e = acknowledge(s, 3, 3)
    assert.equal(3, tonumber(of_type(e, TIMEOUT_NOW)[1].to))
    assert.equal(LEADER, tonumber(e.role))
  end)

  it('which does so at once, in a new term, without pre-vote', function()
    local s = new { term = 2 }
    s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 })
    local e = s:receive(2, TIMEOUT_NOW, 2)
    assert.equal(CANDIDATE, tonumber(e.role))
    assert.equal(3, tonumber(e.term))
    assert.equal(2, #of_type(e, REQUEST_VOTE))
    assert.is_true(e.messages[0].request_vote.transfer)
    assert.is_false(e.messages[0].request_vote.pre_vote)
  end)

  it('and the others do not stand by their leader (thesis §4.2.3)', function()
    local s = new { term = 2 }
    s:receive(3, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 })
    local ask = { last_log_index = 1, last_log_term = 1 }
    assert.equal(0, tonumber(s:receive(2, REQUEST_VOTE, 3, ask).messages_count))
    ask.transfer = true
    assert.is_true(only(s:receive(2, REQUEST_VOTE, 3, ask)).vote_response.granted)
  end)

  it('is over for the old leader when it hears of the new term', function()
    local s = leader()
    transfer(s, 3)
    local e = s:receive(3, REQUEST_VOTE, 3, { last_log_index = 2, last_log_term = 2, transfer = true })
    assert.equal(OVER, tonumber(e.transfer))
    assert.equal(FOLLOWER, tonumber(e.role))
    assert.equal(0, tonumber(s:status().transfer_to))
  end)

  it('is given up after an election time-out', function()
    local s = leader()
    local e = transfer(s, 3)
    assert.is_true(tonumber(e.wake_at) <= s.now + 100)
    s:pass(50)
    for peer = 2, 3 do acknowledge(s, peer, 2) end
    e = s:pass(50)
    assert.equal(FAILED, tonumber(e.transfer))
    assert.equal(LEADER, tonumber(e.role))
    assert.is_false(s:step(PROPOSE, function(event) event.propose.count = 1 end).proposal_refused)
  end)

  it('is asked for again with each heartbeat, for the message may be lost', function()
    local s = leader()
    transfer(s, 3)
    assert.equal(1, #of_type(s:pass(20), TIMEOUT_NOW))
  end)

  it('goes to another voter alone, one at a time', function()
    local s = leader { configuration = configuration(1, 3, { learners = { 4 } }) }
    for _, to in ipairs { 1, 4, 9 } do assert.equal(REFUSED, tonumber(transfer(s, to).transfer)) end
    assert.equal(BEGUN, tonumber(transfer(s, 2).transfer))
    assert.equal(REFUSED, tonumber(transfer(s, 3).transfer))
    assert.equal(REFUSED, tonumber(transfer(new {}, 2).transfer))
  end)

  it('goes to whoever lacks least if nobody is named, and among equals to the highest priority', function()
    local s = leader()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    acknowledge(s, 3, 3)
    transfer(s, 0)
    assert.equal(3, tonumber(s:status().transfer_to))
    s = leader { configuration = configuration(1, 3, { priorities = { 3, 1, 2 } }) }
    transfer(s, 0)
    assert.equal(3, tonumber(s:status().transfer_to))
  end)

  it('is not for one that is late, learns, or would rather not', function()
    local s = new { term = 5 }
    assert.equal(FOLLOWER, tonumber(s:receive(2, TIMEOUT_NOW, 4).role))
    s = new { configuration = configuration(1, { 2, 3 }, { learners = { 1 } }) }
    assert.equal(FOLLOWER, tonumber(s:receive(2, TIMEOUT_NOW, 1).role))
    s = new {}
    s:step(RELUCTANT, function(e) e.reluctant.on = true end)
    assert.equal(FOLLOWER, tonumber(s:receive(2, TIMEOUT_NOW, 1).role))
  end)
end)

describe('a priority', function()
  it('makes those below it wait an election time-out longer, at the most three', function()
    for above, priorities in pairs { [0] = { 9, 1, 2, 3, 4 }, { 1, 9, 9, 0, 1 }, { 0, 9, 5, 5, 9 }, [3] = { 0, 1, 2, 3, 4 } } do
      local s = new { configuration = configuration(1, 5, { priorities = priorities }) }
      local wait = tonumber(s.e[0].wake_at) - s.now
      assert.is_true(wait >= 100 + above * 100 and wait < 200 + above * 100, wait .. ' for ' .. above)
    end
  end)
end)

describe('told to campaign', function()
  it('a server does not wait, unless it hears from a leader', function()
    local s = new {}
    s:receive(2, APPEND, 1, { prev_log_index = 1, prev_log_term = 1 })
    assert.equal(0, #of_type(s:step(CAMPAIGN), REQUEST_VOTE))
    s.now = s.now + 100
    assert.equal(2, #of_type(s:step(CAMPAIGN), REQUEST_VOTE))
  end)
end)

describe('a lease (thesis §6.4.1)', function()
  local function read(s, id)
    local e = s:step(READ, function(e) e.read.id, e.read.lease = id, true end)
    return e.read_leased and id or tonumber(e.reads_ready_id)
  end

  it('answers a read at once while a majority has promised, counted from when the round began, less the drift', function()
    local s = leader { lease = 10 }
    assert.equal(0, read(s, 1))
    local began = s.now
    s.now = s.now + 30
    acknowledge(s, 2, 2, { round = 1, vote_wait_ms = 100 })
    assert.equal(began + 90, tonumber(s:status().lease_until))
    assert.equal(2, read(s, 2))
    assert.equal(2, tonumber(s.e[0].read_index))
    s.now = began + 89
    assert.equal(3, read(s, 3))
    s.now = began + 90
    assert.equal(0, read(s, 4))
  end)

  it('takes each voter at its word', function()
    local s = leader { lease = 10 }
    read(s, 1)
    local began = s.now
    acknowledge(s, 3, 2, { round = 1, vote_wait_ms = 60 })
    assert.equal(began + 50, tonumber(s:status().lease_until))
    acknowledge(s, 2, 2, { round = 1, vote_wait_ms = 0 })
    assert.equal(began + 50, tonumber(s:status().lease_until))
    acknowledge(s, 2, 2, { round = 1, vote_wait_ms = 80 })
    assert.equal(began + 70, tonumber(s:status().lease_until))
  end)

  it('is none for the rest of the term in which TimeoutNow went out', function()
    local s = leader { lease = 10 }
    read(s, 1)
    acknowledge(s, 2, 2, { round = 1, vote_wait_ms = 100 })
    transfer(s, 3)
    assert.equal(0, tonumber(s:status().lease_until))
    s:pass(100)
    assert.equal(0, tonumber(s:status().transfer_to))
    acknowledge(s, 2, 2, { round = 1, vote_wait_ms = 1000 })
    assert.equal(0, tonumber(s:status().lease_until))
  end)

  it('is promised with every answer to the leader, and kept, whatever else is heard', function()
    local s = new { term = 2, lease = 10 }
    local m = only(s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }))
    assert.equal(100, tonumber(m.append_response.vote_wait_ms))
    s:receive(3, VOTE_RESPONSE, 5, { granted = false })
    assert.equal(0, tonumber(s.e[0].leader))
    local ask = { last_log_index = 9, last_log_term = 5 }
    s.now = s.now + 99
    assert.equal(0, tonumber(s:receive(3, REQUEST_VOTE, 6, ask).messages_count))
    s.now = s.now + 1
    assert.is_true(only(s:receive(3, REQUEST_VOTE, 6, ask)).vote_response.granted)
  end)
end)
