-- One spec per rule of the Raft paper's Figure 2, directly against raft_step: one core, messages made by hand.
local server = require 'spec.support.server'

local new, leader, only = server.new, server.leader, server.only
local FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER = 0, 1, 2, 3
local REQUEST_VOTE, VOTE_RESPONSE, APPEND, APPEND_RESPONSE = 0, 1, 2, 3
local PROPOSE, PERSISTED, READ = 2, 3, 5

describe('RequestVote (§5.2, §5.4.1)', function()
  it('is refused when its term is below currentTerm', function()
    local m = only(new { term = 5 }:receive(2, REQUEST_VOTE, 4, { last_log_index = 9, last_log_term = 4 }))
    assert.is_false(m.vote_response.granted)
    assert.equal(5, tonumber(m.term))
  end)

  it('is granted once a term, and the answer waits for the vote to be durable', function()
    local s = new { term = 1 }
    local e = s:receive(2, REQUEST_VOTE, 2, { last_log_index = 1, last_log_term = 1 })
    assert.is_true(e.write.vote)
    assert.equal(2, tonumber(e.write.voted_for))
    local m = only(e)
    assert.is_true(m.vote_response.granted)
    assert.equal(tonumber(e.write.number), tonumber(m.after_write))
    assert.is_false(only(s:receive(3, REQUEST_VOTE, 2, { last_log_index = 1, last_log_term = 1 })).vote_response.granted)
    assert.is_true(only(s:receive(2, REQUEST_VOTE, 2, { last_log_index = 1, last_log_term = 1 })).vote_response.granted)
  end)

  it('goes only to a candidate whose log is at least as up to date: last term first, then length', function()
    for _, case in ipairs { { 9, 1, false }, { 1, 3, true }, { 2, 2, false }, { 3, 2, true }, { 4, 2, true } } do
      local s = new { term = 2, log = { 1, 2, 2 } }
      local m = only(s:receive(2, REQUEST_VOTE, 4, { last_log_index = case[1], last_log_term = case[2] }))
      assert.equal(case[3], m.vote_response.granted)
    end
  end)

  it('is not granted to another after a restart', function()
    local s = new { term = 2, vote = 3 }
    assert.is_false(only(s:receive(2, REQUEST_VOTE, 2, { last_log_index = 9, last_log_term = 2 })).vote_response.granted)
    assert.is_true(only(s:receive(3, REQUEST_VOTE, 2, { last_log_index = 9, last_log_term = 2 })).vote_response.granted)
  end)

  it('is ignored while a leader is heard from (§6)', function()
    local s = new {}
    s:receive(3, APPEND, 1, { prev_log_index = 1, prev_log_term = 1 })
    assert.equal(0, tonumber(s:receive(2, REQUEST_VOTE, 9, { last_log_index = 9, last_log_term = 9 }).messages_count))
    assert.equal(1, tonumber(s:status().current_term))
  end)
end)

describe('PreVote (thesis §9.6)', function()
  it('is refused while a leader is heard from, and moves no term', function()
    local s = new {}
    s:receive(3, APPEND, 1, { prev_log_index = 1, prev_log_term = 1 })
    local ask = { last_log_index = 9, last_log_term = 9, pre_vote = true }
    assert.is_false(only(s:receive(2, REQUEST_VOTE, 2, ask)).vote_response.granted)
    s.now = s.now + 150
    assert.is_true(only(s:receive(2, REQUEST_VOTE, 2, ask)).vote_response.granted)
    assert.equal(1, tonumber(s:status().current_term))
  end)
end)

describe('AppendEntries (§5.3)', function()
  it('is refused when its term is below currentTerm', function()
    local m = only(new { term = 3 }:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }))
    assert.is_false(m.append_response.success)
    assert.equal(3, tonumber(m.term))
  end)

  it('is refused when the entry before is missing or of another term, also without entries', function()
    assert.is_false(only(new {}:receive(2, APPEND, 1, { prev_log_index = 4, prev_log_term = 1 })).append_response.success)
    local answer = only(new { term = 2, log = { 1, 1 } }:receive(2, APPEND, 2, { prev_log_index = 2, prev_log_term = 2 }))
    assert.is_false(answer.append_response.success)
  end)

  it('removes a conflicting entry and all that follow it, and appends what is new', function()
    local s = new { term = 2, log = { 1, 1, 1, 1 } }
    local e = s:receive(2, APPEND, 2, { prev_log_index = 2, prev_log_term = 1 }, { 2 })
    assert.equal(3, tonumber(e.write.cut_from))
    assert.equal(3, tonumber(e.write.last))
    assert.equal(3, tonumber(s:status().last_log_index))
  end)

  it('removes nothing when it is late, and what it brings is here already', function()
    local s = new { term = 1, log = { 1, 1, 1, 1 } }
    local e = s:receive(2, APPEND, 1, { prev_log_index = 1, prev_log_term = 1 }, { 1 })
    assert.equal(0, tonumber(e.write.number))
    assert.equal(4, tonumber(s:status().last_log_index))
    assert.equal(2, tonumber(only(e).append_response.match_index))
  end)

  it('answers for new entries only when they are durable', function()
    local s = new {}
    local e = s:receive(2, APPEND, 1, { prev_log_index = 1, prev_log_term = 1 }, { 1 })
    assert.equal(tonumber(e.write.number), tonumber(only(e).after_write))
    assert.equal(1, tonumber(s:status().durable_index))
    s:persist()
    assert.equal(2, tonumber(s:status().durable_index))
  end)

  -- A write is named by its number: the entries it once carried may have been cut since, and others stand in their place.
  it('does not count what was cut when its write becomes durable', function()
    local s = new {}
    local first = tonumber(s:receive(2, APPEND, 1, { prev_log_index = 1, prev_log_term = 1 }, { 1, 1 }).write.number)
    s:receive(3, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }, { 2 })
    s:step(PERSISTED, function(e) e.persisted.write_number = first end)
    assert.equal(1, tonumber(s:status().durable_index))
    s:persist()
    assert.equal(2, tonumber(s:status().durable_index))
  end)

  it('moves commitIndex to the lower of leaderCommit and the last entry that is known to match', function()
    local s = new { log = { 1, 1, 1 } }
    s:receive(2, APPEND, 1, { prev_log_index = 2, prev_log_term = 1, leader_commit = 9 })
    assert.equal(2, tonumber(s:status().commit_index))
  end)

  it('hints so that one round trip passes over a whole term', function()
    local s = new { term = 5, log = { 1, 2, 2, 2, 2, 2 } }
    local m = only(s:receive(2, APPEND, 5, { prev_log_index = 6, prev_log_term = 1 }))
    assert.equal(1, tonumber(m.append_response.hint_index))
    assert.equal(1, tonumber(m.append_response.hint_term))
  end)
end)

describe('all servers (§5.1)', function()
  it('become followers in a higher term, and make it durable', function()
    local s = leader()
    local e = s:receive(2, APPEND_RESPONSE, 7, { success = false })
    assert.equal(FOLLOWER, tonumber(e.role))
    assert.equal(7, tonumber(e.write.term))
    assert.equal(0, tonumber(e.write.voted_for))
  end)
end)

describe('followers and candidates (§5.2, thesis §9.6)', function()
  it('ask for pre-votes when the time-out passes, without touching the term', function()
    local s = new {}
    local e = s:pass(200)
    assert.equal(PRE_CANDIDATE, tonumber(e.role))
    assert.equal(2, tonumber(e.messages_count))
    assert.is_true(e.messages[0].request_vote.pre_vote)
    assert.equal(1, tonumber(s:status().current_term))
    assert.equal(0, tonumber(e.write.number))
  end)

  it('campaign with a majority of pre-votes: a higher term, the own vote, durable before anyone is asked', function()
    local s = new {}
    s:pass(200)
    local e = s:receive(3, VOTE_RESPONSE, 2, { granted = true, pre_vote = true })
    assert.equal(CANDIDATE, tonumber(e.role))
    assert.equal(2, tonumber(e.write.term))
    assert.equal(1, tonumber(e.write.voted_for))
    assert.equal(tonumber(e.write.number), tonumber(e.messages[0].after_write))
  end)

  it('wait again when there is no majority, with a new time-out', function()
    local s = new { nodes = 5 }
    s:pass(200)
    s:receive(2, VOTE_RESPONSE, 2, { granted = true, pre_vote = true })
    assert.equal(PRE_CANDIDATE, tonumber(s:status().role))
    assert.is_true(tonumber(s.e[0].wake_at) > s.now)
  end)

  it('follow a leader of their own term', function()
    local s = new {}
    s:pass(200)
    s:receive(2, VOTE_RESPONSE, 2, { granted = true, pre_vote = true })
    s:receive(3, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 })
    assert.equal(FOLLOWER, tonumber(s:status().role))
    assert.equal(3, tonumber(s:status().leader))
  end)

  it('do not count a vote of an earlier term', function()
    local s = new { nodes = 3, term = 2, log = { 1, 2 } }
    s:pass(200)
    s:receive(2, VOTE_RESPONSE, 3, { granted = true, pre_vote = true })
    s:persist()
    s:receive(3, VOTE_RESPONSE, 2, { granted = true })
    assert.equal(CANDIDATE, tonumber(s:status().role))
    s:receive(3, VOTE_RESPONSE, 3, { granted = true })
    assert.equal(LEADER, tonumber(s:status().role))
  end)

  it('do not count a vote twice', function()
    local s = new { nodes = 5 }
    s:pass(200)
    for _ = 1, 3 do s:receive(2, VOTE_RESPONSE, 2, { granted = true, pre_vote = true }) end
    assert.equal(PRE_CANDIDATE, tonumber(s:status().role))
  end)
end)

describe('leaders (§5.3, §5.4.2, §8)', function()
  it('begin with a no-op of their term', function()
    assert.equal(2, tonumber(leader():status().last_log_term))
  end)

  it('send heartbeats before a time-out passes', function()
    local e = leader():pass(20)
    assert.equal(2, tonumber(e.messages_count))
    assert.equal(APPEND, tonumber(e.messages[0].type))
  end)

  it('commit what is on a majority of disks, their own not counted before it is durable', function()
    local s = leader()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    s:receive(2, APPEND_RESPONSE, 2, { success = true, match_index = 3, epoch = 1 })
    assert.equal(2, tonumber(s:status().commit_index))
    s:persist()
    assert.equal(3, tonumber(s:status().commit_index))
  end)

  it('commit without their own disk when a majority has it', function()
    local s = leader()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    for peer = 2, 3 do s:receive(peer, APPEND_RESPONSE, 2, { success = true, match_index = 3, epoch = 1 }) end
    assert.equal(3, tonumber(s:status().commit_index))
  end)

  it('commit entries of older terms only behind one of their own', function()
    local s = leader { term = 3, log = { 1, 2, 3 } }
    s:receive(2, APPEND_RESPONSE, 4, { success = true, match_index = 3, epoch = 1 })
    assert.equal(1, tonumber(s:status().commit_index))
    s:receive(2, APPEND_RESPONSE, 4, { success = true, match_index = 4, epoch = 1 })
    assert.equal(4, tonumber(s:status().commit_index))
  end)

  it('back up nextIndex on a refusal, and send again', function()
    local s = leader { term = 3, log = { 1, 2, 3 } }
    local e = s:receive(2, APPEND_RESPONSE, 4, { success = false, reject_index = 3, hint_index = 1, hint_term = 1, epoch = 1 })
    assert.equal(1, tonumber(only(e).append_entries.prev_log_index))
  end)

  it('do not believe an answer of an older epoch', function()
    local s = leader()
    s:receive(2, APPEND_RESPONSE, 2, { success = true, match_index = 2, epoch = 99 })
    assert.equal(1, tonumber(s:status().commit_index))
  end)

  it('do not believe an answer of an earlier term', function()
    local s = leader { term = 3, log = { 1, 2, 3 } }
    s:receive(2, APPEND_RESPONSE, 3, { success = true, match_index = 4, epoch = 1, round = 1 })
    assert.equal(1, tonumber(s:status().commit_index))
  end)

  it('step down when no majority answers within an election time-out (thesis §6.2)', function()
    local s = leader()
    s:pass(101)
    s:pass(101)
    assert.equal(FOLLOWER, tonumber(s:status().role))
  end)

  it('refuse proposals when they do not lead', function()
    assert.is_true(new {}:step(PROPOSE, function(e) e.propose.count = 1 end).proposal_refused)
  end)

  it('answer reads after their first own commit, and a round that a majority confirmed (thesis §6.4)', function()
    local s = leader()
    assert.equal(0, tonumber(s:step(READ, function(e) e.read.id = 1 end).reads_ready_id))
    local e = s:receive(2, APPEND_RESPONSE, 2, { success = true, match_index = 2, epoch = 1 })
    assert.equal(0, tonumber(e.reads_ready_id))
    e = s:receive(3, APPEND_RESPONSE, 2, { success = true, match_index = 2, epoch = 1, round = 1 })
    assert.equal(1, tonumber(e.reads_ready_id))
    assert.equal(2, tonumber(e.read_index))
    s:step(READ, function(event) event.read.id = 2 end)
    e = s:receive(2, APPEND_RESPONSE, 2, { success = true, match_index = 2, epoch = 1, round = 1 }) -- to an older question
    assert.equal(0, tonumber(e.reads_ready_id))
    e = s:receive(2, APPEND_RESPONSE, 2, { success = true, match_index = 2, epoch = 1, round = 2 })
    assert.equal(2, tonumber(e.reads_ready_id))
  end)
end)
