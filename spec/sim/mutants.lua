-- sim/mutants.lua: the planted bugs (src/base/mutant.h), and who finds each. Run by `make mutants`:
--
--   luajit spec/sim/mutants.lua [SEEDS] [NUMBER...]
--
-- Each mutant runs alone, in a process of its own, over seeds 1, 2, ... of the simulator until something is found: by a
-- check, an invariant, or a verdict. Those that only a timing or a rare schedule shows are shown by a golden scenario.
package.path = './?.lua;./lua/?.lua;' .. package.path

local mutants = {
  { 1, 'a server votes twice in a term (§5.2)' },
  { 2, 'a vote for a log that is behind (§5.4.1)' },
  { 3, 'logs compared by length alone (§5.4.1)' },
  { 4, 'logs compared by last term alone (§5.4.1)' },
  { 5, 'an equal log is not up to date enough: nobody is elected' },
  { 6, 'a vote leaves before it is durable' },
  { 7, 'a candidate asks before its own vote is durable' },
  { 8, 'votes of earlier terms are counted' },
  { 9, 'a vote is counted that was not given' },
  { 10, 'pre-votes stay and count as votes' },
  { 11, 'the vote is kept when the term rises' },
  { 12, 'a new term is not made durable' },
  { 13, 'a refusal is counted as a vote' },
  { 14, 'AppendEntries of an old term is taken (§5.1)' },
  { 15, 'entries are acknowledged before they are durable' },
  { 16, 'the leader counts entries that its disk does not hold' },
  { 17, 'what was cut still counts as durable' },
  { 18, 'a write that was cut away counts when it arrives (ABA)' },
  { 19, 'a majority is one too few' },
  { 20, 'entries of earlier terms are committed by counting (Figure 8)' },
  { 21, 'a heartbeat is acknowledged with what the disk does not hold' },
  { 22, 'reads before the first commit of the own term (thesis §6.4)' },
  { 23, 'reads without asking a majority' },
  { 24, 'reads confirmed by an older round' },
  { 25, 'answers of an earlier term are counted' },
  { 26, 'any answer confirms the newest read' },
  { 27, 'match is taken from next, not from what was acknowledged' },
  { 28, 'a heartbeat commits what it did not compare' },
  { 29, 'the previous entry is not compared (§5.3)' },
  { 30, 'a follower acknowledges its whole log, compared or not' },
  { 31, 'a stale AppendEntries cuts what came after it' },
  { 32, 'conflicting entries are kept (§5.3)' },
  { 33, 'a pre-vote moves the deadline of whoever is asked' },
  { 34, 'a leader without a majority stays (thesis §6.2)' },
  { 35, 'a pre-vote moves the term' },
  { 36, 'a vote is given while the leader lives (§6)' },
  { 37, 'a pre-vote is given while the leader lives' },
  { 38, 'a refused leader does not go back' },
  { 39, 'a probe that was lost is not sent again' },
  { 40, 'the window stays full after a loss' },
  { 41, 'a link that broke while sending is never sent on again' },
  { 42, 'a candidate does not give way to the leader of its term' },
  { 43, 'no election deadline' },
  { 44, 'a restart forgets the vote' },
  { 45, 'a restart forgets the term' },
  { 46, 'a restart takes its whole log for committed' },
  { 47, 'a leader takes proposals without bound' },
  { 48, 'a leader ignores higher terms (§5.1)' },
  { 49, 'granting a vote does not reset the deadline' },
  { 50, 'messages do not wait for their write' },
  { 51, 'a failed write counts as done' },
  { 52, 'what was cut still counts as readable' },
  { 53, 'an unknown outcome is called definite' },
  { 54, 'a forwarded command is sent again after a broken link' },
  { 55, 'another entry at its index answers a command' },
  { 56, 'a read does not wait until its index is applied' },
  { 57, 'a new leader takes its followers for equal (S11)' },
  { 58, 'idle followers are not told what is committed' },
  { 59, 'a member of another cluster is let in' },
  { 60, 'an entry is applied twice' },
  { 61, 'a slow script holds up the clock of the core (S18)' },
  { 62, 'a disk that hangs is not noticed' },
  { 63, 'entries are applied before they are committed' },
  { 64, 'two writes are out at once' },
  { 65, 'a disk that was set back is not noticed' },
  { 66, 'a write in the queue counts as durable' },
  { 67, 'a torn end is not cut before the log goes on' },
  { 69, 'checksums of the vote are not compared' },
  { 70, 'the vote is not written' },
  { 71, 'the vote is written to one slot' },
  { 72, 'a cut is not written' },
  { 73, 'a set is taken for pinned before all have pinned it' },
  { 74, 'a wiped directory counts as the member that it was' },
  { 76, 'checksums of records are not compared at recovery' },
  { 77, 'a new segment is used before its name is durable' },
  { 79, 'a small file is not synced before it is renamed' },
  { 80, 'a vote beside entries is not written' },
  { 81, 'a cut leaves the first entry' },
  { 82, 'a full disk counts as written' },
  { 83, 'damage in the middle of a segment is taken for the end of the log' },
  { 84, 'a segment without its header holds nothing, whatever follows' },
  { 85, 'checksums of records are not compared when they are read again' },
  { 90, 'cluster time goes back' },
  { 91, 'randomness differs from node to node' },
  { 92, 'a failed batch leaves what its first commands did' },
  { 93, 'only the leader counts answers in its digest' },
  { 94, 'a command that failed leaves what it did' },
  { 95, 'pcall leaves what failed inside' },
  { 100, 'a snapshot of what is committed here is taken (§7)' },
  { 101, 'a snapshot drops the entries after it, though they match' },
  { 102, 'a snapshot keeps the entries after it, though they conflict' },
  { 103, 'a log that was compacted forgets the term of what it follows' },
  { 104, 'a snapshot counts before its write is durable' },
  { 105, 'a snapshot does not move the commit index' },
  { 106, 'a leader sends from below the base of its log' },
  { 107, 'an offer of a snapshot that was lost is not made again' },
  { 108, 'a follower that has less than the base is taken to have its snapshot' },
  { 109, 'what is below the base of a log is compared, and conflicts' },
  { 110, 'a snapshot is acknowledged before its write is durable' },
  { 111, 'a new segment follows the wrong entry' },
  { 112, 'a cut leaves the bases of later segments' },
  { 113, 'compaction takes a segment with a wanted entry' },
  { 114, 'a file is used again with its old header' },
  { 115, 'segments are given back before the last one is durably gone' },
  { 116, 'a reset is not written' },
  { 117, 'a log that conflicts with the snapshot is kept' },
  { 118, 'a snapshot is not synced before it counts' },
  { 119, 'a snapshot counts before its name is durable' },
  { 120, 'hashes of chunks are not compared' },
  { 121, 'a torn chunk counts when a transfer goes on' },
  { 125, 'a snapshot has not the last numbers of ctx.id' },
  { 126, 'reading back counts the rows of a snapshot, and no more' },
  { 127, 'a snapshot counts though its format lost something' },
  { 128, 'a map gets a number that another has' },
  { 129, 'a machine that was built forgets the answers before' },
  { 130, 'a module sees the time and chance of the moment it is loaded at' },
  { 131, 'a machine that was built is not held against its head' },
  { 140, 'one voter is enough to agree on a digest' },
  { 141, 'a snapshot counts before its digest is agreed on' },
  { 142, 'a transfer goes on with whatever is there' },
  { 143, 'nothing is kept in the log behind a snapshot, whatever was said' },
  { 144, 'entries after a snapshot on its way are not kept' },
  { 145, 'migrate cannot read the maps that are gone' },
  { 146, 'a migration that is taken back leaves its code in force' },
  { 147, 'a mount that is being migrated answers' },
  { 148, 'a migration that is taken back leaves what its steps did' },
  { 149, 'a deploy leaves timers without functions' },
  { 150, 'a version need not grow' },
  { 151, 'a deploy that failed leaves what its migrate did' },
  { 152, 'a deploy does not ask what is in force' },
  { 153, 'the leader does not drive a migration on' },
  { 154, 'what a newer version wrote passes for an older row' },
  { 155, 'len counts rows whose ttl has passed' },
  { 156, 'a row that is replaced leaves what waits for it' },
  { 157, 'a row is put beyond the quota' },
  { 158, 'a cancelled timer fires' },
  { 159, 'events of what was undone are emitted' },
  { 160, 'a skipped entry that was applied goes unnoticed' },
  { 161, 'a new term grants sessions no time' },
  { 162, 'a session is refused when its entry DUE came, and no earlier' },
  { 163, 'a session that was refused lives again in a new term' },
  { 164, 'a command below done_below runs once more' },
  { 165, 'an error is not kept for a retry' },
  { 166, 'of two that are due at once, the younger may come first' },
  { 167, 'what a timer arms fires in the same entry' },
  { 170, 'a refusal after a lost attempt is taken for the whole truth' },
  { 171, 'an entry DUE that was lost with an earlier term is waited for' },
  { 172, 'an entry DUE is proposed though one is on its way' },
  { 173, 'a SKIP in the log of a node that restarts goes unnoticed' },
  { 174, 'events that are gone are passed over in silence' },
  { 175, 'an event\'s id of another cluster is taken' },
  { 176, 'a dry run leaves what it did' },
  { 177, 'an entry DUE is proposed before anything is due' },
  { 178, 'a command is forwarded without its session' },
  { 179, 'events go on over a state that came from a snapshot' },
  { 180, 'what a parked machine was given is not given again' },
  { 189, 'a long query reads an older view that is still there' },
  { 181, 'the view of a long query never goes back' },
  { 182, 'a follower answers a query before it has applied what it must have' },
  { 183, 'a node whose state is not the majority\'s goes on' },
  { 184, 'the scrub finds every row well' },
  { 185, 'a node is rebuilt from a snapshot of before what it has applied' },
  { 186, 'that no majority has one state goes unnoticed' },
  { 187, 'a leader tells a follower an index without asking whether it leads' },
  { 188, 'a follower takes an index that it asked for in an earlier life' },
  { 190, 'a cluster forms of directories that were restored from different files' },
  { 191, 'what a recover has put aside is overwritten by what is new' },
  { 192, 'a directory says that it was restored before it is' },
  { 193, 'a lossy export is built from' },
  { 196, 'a long query runs the code of the first one' },
  { 200, 'joint, the new set alone decides (§6)' },
  { 201, 'joint, the old set alone decides (§6)' },
  { 202, 'a configuration that was cut stays in force' },
  { 203, 'a change before the first commit of the own term' },
  { 204, 'two changes at once' },
  { 205, 'a joint configuration is left before it is committed' },
  { 206, 'who is to be no voter campaigns no more before that is committed (thesis §4.2.2)' },
  { 207, 'a later leader aborts a change' },
  { 208, 'learners are counted, the voters are not' },
  { 209, 'a leader that was removed stays' },
  { 210, 'TimeoutNow of an old term is obeyed' },
  { 211, 'a campaign that the leader asked for finds no ear (thesis §3.10)' },
  { 212, 'a leader takes proposals while it hands over' },
  { 213, 'a lease is valid after TimeoutNow' },
  { 214, 'a promise of a lease is not kept' },
  { 215, 'a lease counts from when the answer came' },
  { 216, 'a snapshot does not bring its configuration' },
  { 217, 'a restart forgets the configurations that are not committed' },
  { 218, 'a new leader does not complete a change' },
  { 219, 'what a server said before it was removed counts when it is back' },
  { 220, 'a server that is no member deposes the leader' },
  { 221, 'a new voter need not have caught up' },
  { 222, 'a change that expects another configuration is taken' },
  { 223, 'a server that was removed is not told when it asks' },
  { 224, 'a leader or candidate counts itself where it is no member' },
  { 225, 'joint, the old set is not asked for votes' },
  { 226, 'a lease does not allow for clocks that drift apart' },
  { 227, 'a lone voter leads before its vote is durable' },
  { 260, 'a node that promised a lease votes right after its restart' },
  { 261, 'a lease is promised before the disk remembers it' },
  { 263, 'a leader that ends hands over to nobody' },
  { 262, 'runtimes of different versions serve side by side' },
  { 285, 'candidates do not get more patient when elections fail' },
  { 286, 'who watches behind the last event hears nothing of its block' },
  { 290, 'a policy is not asked when its time has come' },
  { 291, 'a node that was removed goes on' },
  { 293, 'a configuration that was cut from the log stays in force' },
  { 294, 'a configuration that a snapshot stands for stays beside the snapshot\'s' },
  { 295, 'what was decided of a new member is not what becomes the configuration' },
  { 296, 'a node does not take a leader that joined while it was down' },
  { 297, 'a member that is silent is never said to be' },
  { 300, 'who joins a restored cluster is offered a snapshot that says of no members' },
  { 301, 'a copy of a directory takes the address of a node that is heard' },
  { 302, 'who is let in again is taken to have what it had before' },
  { 303, 'a node that joined and lost its log begins anew' },
  { 284, 'a snapshot by hand may lack what was acknowledged before' },
  { 245, 'a learner is promoted that has not caught up' },
  { 246, 'a change leaves voters of whom no majority is heard' },
  { 247, 'the history of members has no bound' },
  { 288, 'a decision that was set aside when the leader had begun with it is said not to be done' },
  { 248, 'whoever asks to join is let in, invited or not' },
  { 249, 'a request is taken though it expects another configuration' },
  { 250, 'a policy that failed leaves what it did to its memory' },
  { 251, 'a policy that failed is asked again' },
  { 252, 'a policy that asked for nonsense leaves what it did to its memory' },
  { 253, 'a policy is asked while its decision waits' },
  { 254, 'an idle group is not left in peace: a review stays due' },
  { 267, 'a node that begins from a snapshot does not know that a migration goes on' },
}

-- In the child: runs seeds until one breaks. Its last line is the finding; a process that dies has found it, too.
if arg[1] == '--child' then
  local swarm = require 'spec.support.swarm'
  for seed = 1, tonumber(arg[2]) do
    io.write('seed ', seed, '\n')
    io.flush()
    local r = swarm.run(seed)
    if not r.broken then r = swarm.run(seed, { churn = seed % 2 + 1 }) end
    if r.broken then
      io.write(r.phase, ': ', r.broken, '\n')
      os.exit(1)
    end
  end
  os.exit(0)
end

local seeds = tonumber(arg[1]) or 200
local only = {}
for i = 2, #arg do only[tonumber(arg[i])] = true end

local function try(number)
  local pipe = assert(io.popen(('MUTANT=%d luajit spec/sim/mutants.lua --child %d 2>&1; echo "#!$?"'):format(number, seeds)))
  local seed, last, status = 0, '', nil
  for line in pipe:lines() do
    if line:match('^seed %d+$') then seed = tonumber(line:match('%d+'))
    elseif line:match('^#!%d+$') then status = tonumber(line:match('%d+'))
    elseif not line:find('Aborted') then last = line end
  end
  pipe:close()
  if status ~= 0 then return 'seed ' .. seed, last end
  local specs = 'spec/scenario spec/paper spec/fault spec/unit/storage_spec.lua spec/unit/snapshot_file_spec.lua '
    .. 'spec/sim/core_seeds_spec.lua spec/sim/replica_trouble_spec.lua spec/sim/replica_snapshot_spec.lua spec/sim/replica_lease_spec.lua '
    .. 'spec/sim/replica_runtime_spec.lua spec/sim/replica_handover_spec.lua spec/sim/replica_members_spec.lua '
    .. 'spec/sim/replica_query_spec.lua spec/sim/replica_read_spec.lua spec/sim/replica_lua_spec.lua '
    .. 'spec/sim/replica_diverge_spec.lua spec/sim/replica_formation_spec.lua spec/unit/restore_spec.lua spec/sim/replica_restore_spec.lua '
    .. 'spec/unit/snapshot_spec.lua spec/lua/format_spec.lua spec/lua/session_spec.lua '
    .. 'spec/lua/timer_spec.lua spec/lua/ttl_spec.lua spec/lua/event_spec.lua spec/lua/quota_spec.lua spec/lua/skip_spec.lua '
    .. 'spec/lua/deploy_spec.lua spec/lua/upgrade_spec.lua spec/sim/replica_deploy_spec.lua '
    .. 'spec/lua/membership_spec.lua spec/lua/policy_spec.lua'
  pipe = assert(io.popen(('MUTANT=%d busted --lua=luajit --lpath=./?.lua -o TAP %s 2>&1; echo "#!$?"'):format(number, specs)))
  for line in pipe:lines() do
    local name = line:match('^not ok %d+ %- (.*)') or (line:match('^#![^0]') and last) -- the process died: a broken invariant
    if line ~= 'Aborted' then last = line end
    if name then
      pipe:close()
      return 'spec', name
    end
  end
  pipe:close()
end

-- What fails without any bug catches nothing.
local clean, why = try(0)
if clean then
  io.write('without a planted bug: ', clean, ' ', why, '\n')
  os.exit(2)
end

local caught, count = 0, 0
for _, mutant in ipairs(mutants) do
  local number, what = mutant[1], mutant[2]
  if next(only) == nil or only[number] then
    count = count + 1
    local seed, how = try(number)
    if seed then caught = caught + 1 end
    io.write(('%3d  %-66s %s\n'):format(number, what, seed and ('%-8s %s'):format(seed, how:sub(1, 100)) or 'SURVIVED'))
    io.flush()
  end
end
io.write(('%d of %d caught within %d seeds\n'):format(caught, count, seeds))
os.exit(caught == count and 0 or 1)
