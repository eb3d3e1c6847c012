-- One spec per rule of the Raft paper's §7 and Figure 13, directly against raft_step: one core, messages made by hand.
--
-- Figure 13 moves a snapshot in the same messages that offer it; here the bytes are the caller's, so rules 2 to 4 (chunks) are
-- those of storage and replica, and the core has its part in three steps: the offer, the snapshot that is ready, the durable write.
local server = require 'spec.support.server'

local new, leader, only = server.new, server.leader, server.only
local FOLLOWER, LEADER = 0, 3
local REQUEST_VOTE, APPEND, APPEND_RESPONSE, INSTALL = 0, 2, 3, 4
local PROPOSE, PERSISTED, READ, PEER_UP = 2, 3, 5, 6

local function offer(index, term) return { last_included_index = index, last_included_term = term, epoch = 7 } end

-- A leader of term 3 with log 1 2 3, all committed and compacted: whoever lacks entry 3 needs its snapshot.
local function compacted()
  local s = leader { term = 2, log = { 1, 2 } }
  for peer = 2, 3 do s:receive(peer, APPEND_RESPONSE, 3, { success = peer == 3, match_index = 3, reject_index = 2, epoch = 1 }) end
  s:compact(3)
  return s
end

describe('InstallSnapshot (Figure 13, §7)', function()
  it('1: is answered at once when its term is below currentTerm', function()
    local s = new { term = 3 }
    local e = s:receive(2, INSTALL, 2, offer(9, 2))
    local m = only(e)
    assert.equal(3, tonumber(m.term))
    assert.is_false(m.append_response.success)
    assert.is_false(e.snapshot_offered)
  end)

  it('is word from the leader: a candidate follows it, and the time-out begins anew', function()
    local s = new {}
    s:pass(200)
    local e = s:receive(2, INSTALL, 2, offer(9, 2))
    assert.equal(FOLLOWER, tonumber(e.role))
    assert.equal(2, tonumber(e.leader))
    assert.equal(2, tonumber(e.write.term))
    assert.is_true(tonumber(e.wake_at) >= s.now + 100)
    assert.is_true(e.snapshot_offered)
  end)

  it('2 to 4: changes nothing until the snapshot is here, whole', function()
    local s = new { log = { 1, 1, 1 } }
    local e = s:receive(2, INSTALL, 1, offer(9, 1))
    assert.is_true(e.snapshot_offered)
    assert.equal(0, tonumber(e.messages_count))
    assert.equal(0, tonumber(e.write.number))
    assert.equal(3, tonumber(s:status().last_log_index))
  end)

  it('5: the newest snapshot counts: one whose entries are all committed here is ignored', function()
    local s = new { log = { 1, 1, 1 }, commit = 3 }
    local e = s:receive(2, INSTALL, 1, offer(3, 1))
    assert.is_false(e.snapshot_offered)
    local m = only(e)
    assert.is_true(m.append_response.success)
    assert.equal(3, tonumber(m.append_response.match_index))
    e = s:install(3, 1)
    assert.is_false(e.snapshot_taken)
    assert.equal(0, tonumber(e.write.number))
    assert.equal(0, tonumber(s:status().base_index))
  end)

  it('5: what is said to match is committed, not merely held', function()
    local s = new { log = { 1, 1, 1 }, commit = 2 }
    assert.equal(2, tonumber(only(s:receive(2, INSTALL, 1, offer(1, 1))).append_response.match_index))
  end)

  it('6: entries after one of the same index and term are retained', function()
    local s = new { term = 2, log = { 1, 1, 2, 2 } }
    s:receive(2, INSTALL, 2, offer(3, 2))
    local e = s:install(3, 2)
    assert.is_true(e.snapshot_taken)
    assert.equal(3, tonumber(e.write.base_index))
    assert.equal(2, tonumber(e.write.base_term))
    assert.is_false(e.write.reset)
    assert.equal(4, tonumber(s:status().last_log_index))
    assert.equal(4, tonumber(s:status().durable_index))
    assert.equal(3, tonumber(s:status().base_index))
  end)

  it('7: else the entire log is discarded', function()
    for _, log in ipairs { { 1, 1, 1, 1, 1 }, { 1 } } do
      local s = new { term = 2, log = log }
      s:receive(2, INSTALL, 2, offer(3, 2))
      local e = s:install(3, 2)
      assert.is_true(e.write.reset)
      assert.equal(3, tonumber(s:status().last_log_index))
      assert.equal(2, tonumber(s:status().last_log_term))
    end
  end)

  it('8: the state is the snapshot\'s: commitIndex moves there, and the configuration is its own', function()
    local s = new { term = 2, log = { 1, 1, 1, 1, 1 }, nodes = 5 }
    local e = s:install(3, 2, 3)
    assert.equal(3, tonumber(e.commit_index))
    s:pass(200)
    assert.equal(2, tonumber(s.e[0].messages_count)) -- pre-votes of two others, not of four
  end)

  it('is acknowledged to the leader that offered it, with its epoch, when it is durable', function()
    local s = new { term = 2 }
    s:receive(2, INSTALL, 2, offer(3, 2))
    local e = s:install(3, 2)
    local m = only(e)
    assert.equal(2, tonumber(m.to))
    assert.is_true(m.append_response.success)
    assert.equal(3, tonumber(m.append_response.match_index))
    assert.equal(7, tonumber(m.append_response.epoch))
    assert.equal(tonumber(e.write.number), tonumber(m.after_write))
  end)

  it('is acknowledged to nobody when another leads by then', function()
    local s = new { term = 2 }
    s:receive(2, INSTALL, 2, offer(3, 2))
    s:receive(3, APPEND, 3, { prev_log_index = 1, prev_log_term = 1 })
    assert.equal(0, tonumber(s:install(3, 2).messages_count))
  end)

  it('counts as durable when its write is, and what it replaces does not count meanwhile', function()
    local s = new { term = 2, log = { 1, 1, 1, 1, 1 }, commit = 2 }
    s:install(4, 2)
    assert.equal(2, tonumber(s:status().durable_index)) -- committed, so in the snapshot: on the disk either way
    local m = only(s:receive(2, APPEND, 2, { prev_log_index = 4, prev_log_term = 2 }))
    assert.equal(2, tonumber(m.append_response.match_index))
    s:persist()
    assert.equal(4, tonumber(s:status().durable_index))
  end)

  it('discards what was on its way to the disk, too', function()
    local s = new { term = 2 }
    local first = tonumber(s:receive(2, APPEND, 2, { prev_log_index = 1, prev_log_term = 1 }, { 1, 1, 1, 1, 1 }).write.number)
    s:install(4, 2)
    s:step(PERSISTED, function(e) e.persisted.write_number = first end)
    assert.equal(1, tonumber(s:status().durable_index))
    s:persist()
    assert.equal(4, tonumber(s:status().durable_index))
  end)

  it('of a term that this server has not heard of is not taken', function()
    assert.is_false(new { term = 2 }:install(3, 3).snapshot_taken)
  end)

  it('is not taken by a leader, which has what is committed', function()
    assert.is_false(leader():install(9, 1).snapshot_taken)
  end)
end)

describe('a log that begins after a snapshot (§7)', function()
  it('keeps the last included index and term for the consistency check', function()
    local s = new { term = 3, log = { 1, 2, 3 }, base = 3 }
    local m = only(s:receive(2, APPEND, 3, { prev_log_index = 3, prev_log_term = 3 }, { 3 }))
    assert.is_true(m.append_response.success)
    assert.equal(4, tonumber(m.append_response.match_index))
    m = only(s:receive(2, APPEND, 3, { prev_log_index = 3, prev_log_term = 2 }))
    assert.is_false(m.append_response.success)
  end)

  it('matches below its base without a look, for all that is committed', function()
    local s = new { term = 3, log = { 1, 2, 3 }, base = 3 }
    local m = only(s:receive(2, APPEND, 3, { prev_log_index = 1, prev_log_term = 1 }, { 2, 3, 3 }))
    assert.equal(4, tonumber(m.append_response.match_index))
    m = only(s:receive(2, APPEND, 3, { prev_log_index = 1, prev_log_term = 1 }, { 2 }))
    assert.is_true(m.append_response.success)
    assert.equal(3, tonumber(m.append_response.match_index))
    assert.equal(4, tonumber(s:status().last_log_index))
  end)

  it('hints no further back than its base', function()
    local s = new { term = 4, log = { 1, 2, 3, 4, 4 }, base = 3 }
    local m = only(s:receive(2, APPEND, 4, { prev_log_index = 5, prev_log_term = 3 }))
    assert.equal(3, tonumber(m.append_response.hint_index))
    assert.equal(3, tonumber(m.append_response.hint_term))
  end)

  it('is as up to date as the snapshot\'s last entry (§5.4.1)', function()
    for _, case in ipairs { { 9, 2, false }, { 2, 3, false }, { 3, 3, true } } do
      local s = new { term = 3, log = { 1, 2, 3 }, base = 3 }
      local m = only(s:receive(2, REQUEST_VOTE, 4, { last_log_index = case[1], last_log_term = case[2] }))
      assert.equal(case[3], m.vote_response.granted)
    end
  end)

  it('forgets what was compacted, and only that', function()
    local s = new { term = 2, log = { 1, 1, 2, 2 }, commit = 3 }
    s:compact(2)
    s:compact(1) -- older: nothing
    assert.equal(2, tonumber(s:status().base_index))
    assert.equal(1, tonumber(s:status().base_term))
    assert.equal(4, tonumber(s:status().last_log_index))
    assert.equal(0, tonumber(s.e[0].write.number))
  end)
end)

describe('a leader whose follower needs what it has discarded (§7)', function()
  it('offers its snapshot in answer to the refusal, and sends no entries', function()
    local s = compacted()
    s:step(PEER_UP, function(e) e.peer.peer = 2 end)
    local beat = only(s.e[0])
    assert.equal(APPEND, tonumber(beat.type))
    assert.equal(3, tonumber(beat.append_entries.prev_log_index)) -- the base, whose term is known
    local epoch = beat.append_entries.epoch
    local m = only(s:receive(2, APPEND_RESPONSE, 3, { success = false, reject_index = 3, hint_index = 1, hint_term = 1, epoch = epoch }))
    assert.equal(INSTALL, tonumber(m.type))
    assert.equal(3, tonumber(m.install_snapshot.last_included_index))
    assert.equal(3, tonumber(m.install_snapshot.last_included_term))
    local e = s:step(PROPOSE, function(event) event.propose.count = 1 end)
    for i = 0, tonumber(e.messages_count) - 1 do assert.not_equal(2, tonumber(e.messages[i].to)) end
  end)

  -- Follower 2, waiting for a snapshot that was offered.
  local function waiting()
    local s = compacted()
    s:step(PEER_UP, function(e) e.peer.peer = 2 end)
    local epoch = only(s.e[0]).append_entries.epoch
    local refusal = { success = false, reject_index = 3, hint_index = 1, hint_term = 1, epoch = epoch }
    s:receive(2, APPEND_RESPONSE, 3, refusal)
    return s, refusal, epoch
  end

  it('offers it again when a later heartbeat is refused, not more often', function()
    local s, refusal = waiting()
    assert.equal(0, tonumber(s:receive(2, APPEND_RESPONSE, 3, refusal).messages_count))
    s:pass(20)
    assert.equal(INSTALL, tonumber(only(s:receive(2, APPEND_RESPONSE, 3, refusal)).type))
    local peer = s:status().peers[0]
    assert.is_true(peer.snapshot)
    assert.equal(4, tonumber(peer.next_index))
  end)

  it('counts its answers for the majority and for reads meanwhile (thesis §6.4)', function()
    local s, refusal = waiting()
    s:step(READ, function(e) e.read.id = 1 end)
    refusal.round = s.e[0].messages[0].append_entries.round
    assert.equal(1, tonumber(s:receive(2, APPEND_RESPONSE, 3, refusal).reads_ready_id))
    for _ = 1, 10 do
      s:pass(20)
      s:receive(2, APPEND_RESPONSE, 3, refusal)
    end
    assert.equal(LEADER, tonumber(s:status().role))
  end)

  it('goes on with entries when it has what the base has, and not before', function()
    local s, _, epoch = waiting()
    s:step(PROPOSE, function(e) e.propose.count = 1 end)
    assert.equal(0, tonumber(s:receive(2, APPEND_RESPONSE, 3, { success = true, match_index = 2, epoch = epoch }).messages_count))
    assert.is_true(s:status().peers[0].snapshot)
    local m = only(s:receive(2, APPEND_RESPONSE, 3, { success = true, match_index = 3, epoch = epoch }))
    assert.equal(3, tonumber(m.append_entries.prev_log_index))
    assert.equal(4, tonumber(m.append_entries.last_index))
    assert.is_true(s:status().peers[0].replicating)
  end)

  it('needs no snapshot for one whose entries are merely on their way', function()
    local s = leader { term = 2, log = { 1, 2 } }
    for peer = 2, 3 do s:receive(peer, APPEND_RESPONSE, 3, { success = true, match_index = 3, epoch = 1 }) end
    s:compact(3)
    assert.is_true(s:status().peers[0].replicating)
  end)
end)
