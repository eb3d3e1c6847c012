-- One spec per rule of the Raft paper's §6 and of the thesis' chapter 4, directly against raft_step: one core, messages made by hand.
local server = require 'spec.support.server'

local new, only, configuration = server.new, server.only, server.configuration
local FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER = 0, 1, 2, 3
local REQUEST_VOTE, VOTE_RESPONSE, APPEND, APPEND_RESPONSE = 0, 1, 2, 3
local PROPOSE, ABORT = 2, 13
local TAKEN, NOT_LEADER, TOO_EARLY, PENDING, STALE, NO_VOTERS, UNSOUND, TOO_MANY, BEHIND, NO_ABORT = 1, 2, 3, 4, 6, 7, 8, 9, 10, 11
local CONFIGURATION = 4 -- of raft_append_source

-- A leader of term 2 with voters 1, 2, 3, learners 4 and 5 that have caught up, and its no-op (2) committed.
local function leader(options)
  options = options or {}
  options.configuration = configuration(1, 3, { learners = { 4, 5 } })
  local s = server.leader(options)
  for peer = 2, 5 do s:receive(peer, APPEND_RESPONSE, 2, { success = true, match_index = 2, epoch = 1 }) end
  assert(s:status().commit_index == 2)
  return s
end

-- Node `peer` has everything up to `index`.
local function acknowledge(s, peer, index, epoch)
  return s:receive(peer, APPEND_RESPONSE, 2, { success = true, match_index = index, epoch = epoch or 1 })
end

describe('a configuration in the log (§6)', function()
  it('is in force as soon as it is there, committed or not', function()
    local s = new { term = 2 }
    local e = s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }, { 2, 2 }, { configuration(3, { 2, 3, 4 }) })
    assert.is_true(e.configuration_changed)
    assert.equal(3, tonumber(e.configuration_id))
    assert.equal(1, tonumber(e.commit_index))
    assert.same({ 2, 3, 4 }, s:members().voters)
  end)

  it('is in force no more when it is cut: the one before it is again', function()
    local s = new { term = 2 }
    s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }, { 2, 2 }, { configuration(2, { 1, 2 }), configuration(3, { 1 }) })
    local e = s:receive(3, APPEND, 3, { prev_log_index = 2, prev_log_term = 2 }, { 3 })
    assert.is_true(e.configuration_changed)
    assert.same({ 1, 2 }, s:members().voters)
    s:receive(3, APPEND, 4, { prev_log_index = 1, prev_log_term = 1 }, { 4 })
    assert.same({ 1, 2, 3 }, s:members().voters)
  end)

  it('that was there already changes nothing when it comes again', function()
    local s = new { term = 2 }
    for _ = 1, 2 do
      s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }, { 2, 2 }, { configuration(2, { 1, 2 }) })
    end
    assert.is_false(s.e[0].configuration_changed)
    assert.same({ 1, 2 }, s:members().voters)
  end)

  it('is ignored with its message if it is none', function()
    for _, bad in ipairs { configuration(2, {}), configuration(2, { 2, 1 }), configuration(2, { 1, 1 }), configuration(2, { 1 },
      { learners = { 1 } }), configuration(2, { 0, 1 }), configuration(5, { 1 }), configuration(1, { 1 }) } do
      local s = new { term = 2 }
      local e = s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }, { 2 }, { bad })
      assert.equal(0, tonumber(e.messages_count))
      assert.equal(1, tonumber(s:status().last_log_index))
    end
  end)

  it('is in force after a restart, and a snapshot takes the place of what was not committed', function()
    local s = new { term = 2, log = { 1, 2, 2 } }
    s:receive(2, APPEND, 2, { prev_log_index = 3, prev_log_term = 2 }, { 2, 2 }, { configuration(5, { 1, 2 }) })
    s:install(9, 2, 4)
    assert.same({ 1, 2, 3, 4 }, s:members().voters)
  end)
end)

describe('a change (§6, thesis §4.3)', function()
  it('goes through a configuration in which both sets decide', function()
    local s = leader()
    local change, e = s:change(configuration(0, { 1, 4, 5 }))
    assert.equal(TAKEN, change)
    assert.equal(CONFIGURATION, tonumber(e.write.source))
    assert.equal(3, tonumber(e.write.first))
    assert.same({ voters = { 1, 4, 5 }, old = { 1, 2, 3 }, learners = {} }, s:members())
    s:persist()
    acknowledge(s, 4, 3)
    acknowledge(s, 5, 3)
    assert.equal(2, tonumber(s:status().commit_index)) -- all of the new set, one of the old one
    acknowledge(s, 2, 3)
    assert.equal(3, tonumber(s:status().commit_index))
  end)

  it('is completed by the leader once that is committed, with the new set alone', function()
    local s = leader()
    s:change(configuration(0, { 1, 4, 5 }))
    s:persist()
    acknowledge(s, 4, 3)
    local e = acknowledge(s, 2, 3)
    assert.equal(CONFIGURATION, tonumber(e.write.source))
    assert.equal(4, tonumber(e.write.first))
    assert.same({ voters = { 1, 4, 5 }, old = {}, learners = {} }, s:members())
    acknowledge(s, 4, 4)
    assert.equal(3, tonumber(s:status().commit_index))
    acknowledge(s, 5, 4)
    assert.equal(4, tonumber(s:status().commit_index)) -- two of the new set; the leader's own disk has not said so yet
  end)

  it('of learners alone needs no such step', function()
    local s = leader()
    assert.equal(TAKEN, (s:change(configuration(0, 3, { learners = { 6 } }))))
    assert.same({ voters = { 1, 2, 3 }, old = {}, learners = { 6 } }, s:members())
  end)

  it('is refused with a reason, and changes nothing', function()
    local s = leader()
    local function refused(wanted, expected) return (s:change(wanted, expected)) end
    assert.equal(STALE, refused(configuration(0, { 1 }), 7))
    assert.equal(NO_VOTERS, refused(configuration(0, {})))
    assert.equal(UNSOUND, refused(configuration(0, { 2, 1 })))
    assert.equal(UNSOUND, refused(configuration(0, { 1 }, { learners = { 1 } })))
    assert.equal(UNSOUND, refused(configuration(0, { 1 }, { priorities = { 101 } })))
    assert.equal(BEHIND, refused(configuration(0, { 1, 2, 3, 6 })))
    local many = {}
    for id = 1, 32 do many[id] = id + 1 end
    assert.equal(TOO_MANY, refused(configuration(0, many)))
    assert.equal(0, tonumber(s.e[0].write.number))
    assert.equal(1, tonumber(s:status().configuration_id))
    assert.equal(NOT_LEADER, (new {}:change(configuration(0, { 1 }))))
  end)

  it('is refused before the leader has committed an entry of its term (the bug of 2015)', function()
    assert.equal(TOO_EARLY, (server.leader():change(configuration(0, { 1, 2 }))))
  end)

  it('is refused while another one is not done: joint, or not committed', function()
    local s = leader()
    s:change(configuration(0, 2, { learners = { 4, 5 } }))
    assert.equal(PENDING, (s:change(configuration(0, 3))))
    s:persist()
    acknowledge(s, 2, 3)
    assert.same({}, s:members().old)
    assert.equal(PENDING, (s:change(configuration(0, 3))))
    s:persist()
    acknowledge(s, 2, 4)
    assert.equal(TAKEN, (s:change(configuration(0, 3), nil, true)))
  end)

  it('may be given up before it is committed, by the leader that proposed it', function()
    local s = leader()
    local function abort() return tonumber(s:step(ABORT).change) end
    assert.equal(NO_ABORT, abort())
    s:change(configuration(0, { 4, 5 }))
    assert.equal(TAKEN, abort())
    assert.same({ voters = { 1, 2, 3 }, old = {}, learners = { 4, 5 } }, s:members())
    assert.equal(4, tonumber(s:status().configuration_id))
    assert.equal(NO_ABORT, abort())
  end)

  it('that an earlier leader proposed may not', function()
    local s = server.leader { term = 2, log = { 1, 2 }, configuration = configuration(2, { 1, 2, 4 }, { old = { 1, 2, 3 } }) }
    assert.equal(NO_ABORT, tonumber(s:step(ABORT).change))
  end)
end)

describe('a joint configuration (§6)', function()
  local joint = configuration(1, { 4, 5 }, { old = { 1, 2, 3 } })

  it('needs the votes of both sets, and a candidate counts where it is a member', function()
    local s = new { configuration = joint }
    s:pass(200)
    assert.equal(4, tonumber(s.e[0].messages_count))
    local function vote(from) s:receive(from, VOTE_RESPONSE, 2, { granted = true, pre_vote = true }) end
    vote(2)
    vote(3)
    vote(4)
    assert.equal(PRE_CANDIDATE, tonumber(s:status().role))
    vote(9) -- no member
    assert.equal(PRE_CANDIDATE, tonumber(s:status().role))
    vote(5)
    assert.equal(CANDIDATE, tonumber(s:status().role))
  end)
end)

describe('a learner (thesis §4.2.1)', function()
  it('does not campaign', function()
    local s = new { id = 1, configuration = configuration(1, { 2, 3 }, { learners = { 1 } }) }
    assert.equal(2 ^ 64, tonumber(s.e[0].wake_at))
    assert.equal(0, tonumber(s:pass(10000).messages_count))
    assert.equal(FOLLOWER, tonumber(s:status().role))
  end)

  it('gives its vote when it is asked, for it may have been promoted and not know', function()
    local s = new { id = 1, configuration = configuration(1, { 2, 3 }, { learners = { 1 } }) }
    assert.is_true(only(s:receive(2, REQUEST_VOTE, 2, { last_log_index = 1, last_log_term = 1 })).vote_response.granted)
  end)

  it('does not count, for commit', function()
    local s = leader()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    s:persist()
    acknowledge(s, 4, 3)
    acknowledge(s, 5, 3)
    assert.equal(2, tonumber(s:status().commit_index))
  end)

  it('has caught up when a round took less than an election time-out, and answers', function()
    local s = leader()
    local function caught_up()
      for i = 0, tonumber(s:status().peers_count) - 1 do
        if s:status().peers[i].id == 4 then return s:status().peers[i].caught_up end
      end
    end
    assert.is_true(caught_up())
    s.now = s.now + 101
    acknowledge(s, 2, 2) -- 4 is silent
    assert.is_false(caught_up())
    acknowledge(s, 4, 2) -- a round, but a long one
    assert.is_false(caught_up())
    s.now = s.now + 20
    acknowledge(s, 4, 2)
    assert.is_true(caught_up())
  end)
end)

describe('a server that joins', function()
  it('has no log and no configuration, waits, and takes what a leader sends', function()
    local s = new { term = 0, log = {}, commit = 0 }
    assert.equal(0, tonumber(s:pass(10000).messages_count))
    s:receive(2, APPEND, 3, { prev_log_index = 0, prev_log_term = 0, leader_commit = 1 }, { 1, 3 },
      { configuration(1, { 2, 3 }), configuration(2, { 2, 3 }, { learners = { 1 } }) })
    assert.same({ 1 }, s:members().learners)
    assert.equal(1, tonumber(s:status().commit_index))
  end)
end)

describe('a leader that is no voter any more (§6, thesis §4.2.2)', function()
  it('manages the cluster without counting itself, hands over, and steps down when that is committed', function()
    local s = leader()
    s:change(configuration(0, { 2, 3 }, { learners = { 4, 5 } }))
    s:persist()
    acknowledge(s, 2, 3)
    acknowledge(s, 3, 3)
    assert.same({ 2, 3 }, s:members().voters)
    s:persist()
    acknowledge(s, 2, 4)
    assert.equal(LEADER, tonumber(s:status().role))
    assert.equal(3, tonumber(s:status().commit_index))
    local e = acknowledge(s, 3, 4)
    assert.equal(4, tonumber(e.commit_index))
    assert.equal(FOLLOWER, tonumber(e.role))
    local told = 0
    for i = 0, tonumber(e.messages_count) - 1 do
      if e.messages[i].type == 5 then told = tonumber(e.messages[i].to) end
    end
    assert.equal(2, told)
    assert.equal(2 ^ 64, tonumber(e.wake_at)) -- it does not campaign
  end)

  it('campaigns until it knows that to be committed, for it may be the only one that has the entry', function()
    local s = new { term = 2 }
    s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1, leader_commit = 1 }, { 2 }, { configuration(2, { 2, 3 }) })
    assert.is_true(tonumber(s.e[0].wake_at) < 2 ^ 63)
    s:receive(2, APPEND, 2, { prev_log_index = 2, prev_log_term = 2, leader_commit = 2 })
    assert.equal(2 ^ 64, tonumber(s.e[0].wake_at))
  end)
end)

describe('a server that was removed (thesis §4.2.3)', function()
  it('is told when it asks for votes, unless its term is higher', function()
    local s = leader()
    local e = s:receive(9, REQUEST_VOTE, 3, { last_log_index = 1, last_log_term = 1, pre_vote = true })
    assert.equal(APPEND, tonumber(e.messages[0].type))
    assert.equal(9, tonumber(e.messages[0].to))
    e = leader():receive(9, REQUEST_VOTE, 4, { last_log_index = 1, last_log_term = 1, pre_vote = true })
    assert.equal(VOTE_RESPONSE, tonumber(only(e).type))
  end)

  it('deposes nobody', function()
    local s = leader()
    s:receive(9, APPEND_RESPONSE, 8, {})
    s:receive(9, REQUEST_VOTE, 8, { last_log_index = 9, last_log_term = 7 })
    assert.equal(LEADER, tonumber(s:status().role))
    assert.equal(2, tonumber(s:status().current_term))
  end)
end)

describe('a leader without the majority of a set', function()
  it('gives up a change that only the new set keeps from going on, and leads on', function()
    local s = leader()
    s:change(configuration(0, { 4, 5 }))
    for _ = 1, 4 do
      s:pass(50)
      for peer = 2, 3 do acknowledge(s, peer, 2) end
    end
    assert.equal(LEADER, tonumber(s:status().role))
    assert.same({ 1, 2, 3 }, s:members().voters)
  end)

  it('steps down if it is the old one', function()
    local s = leader()
    s:change(configuration(0, { 4, 5 }))
    for _ = 1, 4 do
      s:pass(50)
      for peer = 4, 5 do acknowledge(s, peer, 2) end
    end
    assert.equal(FOLLOWER, tonumber(s:status().role))
  end)
end)
