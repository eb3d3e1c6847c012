-- Scenarios made at random: whatever is ordered, in whatever order, nothing breaks; with messages made by hand a check may find
-- the lie, but no core and no stage falls over. SEEDS=A..B runs others.
local binary = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'
local FIRST, LAST = (os.getenv('SEEDS') or ''):match('^(%d+)%.%.(%d+)$')
if not FIRST then FIRST, LAST = 1, 60 end -- make mutants has a SEEDS of its own: how many

local R = math.random
local function pick(...) return (select(R(select('#', ...)), ...)) end
local function number() return ('%.0f'):format(pick(R(0, 4), R(0, 12), 9007199254740991)) end
local function term() return R(0, 6) end
local function flag() return pick('yes', 'no') end

-- Some of the nodes, at least one.
local function some(nodes)
  local list = {}
  for id = 1, nodes do
    if R(2) == 1 then list[#list + 1] = id end
  end
  return #list > 0 and table.concat(list, ',') or '1'
end

local function message()
  local entries = {}
  for i = 1, R(0, 4) do entries[i] = term() end
  return pick(
    ('%s term %s lastLogIndex %s lastLogTerm %s'):format(pick('RequestVote', 'PreVote'), term(), number(), term()),
    ('%s term %s voteGranted %s'):format(pick('VoteReply', 'PreVoteReply'), term(), flag()),
    ('AppendEntries term %s prevLogIndex %s prevLogTerm %s entries %s leaderCommit %s round %s epoch %s'):format(term(), number(), term(),
      entries[1] and table.concat(entries, ' ') or 'none', number(), R(0, 3), R(0, 3)),
    ('AppendReply term %s success %s matchIndex %s rejectIndex %s hintIndex %s hintTerm %s round %s epoch %s'):format(term(), flag(),
      number(), number(), number(), term(), R(0, 3), R(0, 3)),
    ('InstallSnapshot term %s lastIncludedIndex %s lastIncludedTerm %s epoch %s'):format(term(), number(), term(), R(0, 3)),
    ('TimeoutNow term %s'):format(term()))
end

local function scenario(seed, by_hand)
  math.randomseed(seed)
  local nodes, down, out = R(2, 5), {}, {}
  local function say(...) out[#out + 1] = string.format(...) end
  say('nodes %d', nodes)
  for _, name in ipairs { 'prevote', 'stickiness', 'checkquorum' } do say('set %s %s', name, pick('on', 'on', 'off')) end
  say('set startwait %s', pick('on', 'off'))
  say('set message-bytes %d', pick(100, 10000))
  if R(2) == 1 then say('set lease %d', R(300)) end
  if R(2) == 1 then say('set voters %s', R(2) == 1 and '1' or '1,2') end
  for _ = 1, 120 do
    local id = R(nodes)
    local other = id % nodes + 1
    if down[id] then
      if R(3) == 1 then
        say('restart %d', id)
        down[id] = nil
      end
    elseif R(25) == 1 then
      say('crash %d keep %d', id, R(0, 2))
      down[id] = true
    elseif by_hand and R(5) == 1 then say('raw %d->%d %s', pick(other, 9), id, message())
    else
      say(pick('timeout %d', 'propose %d 3', 'propose %d', 'read %d', 'hold-disk %d', 'release-disk %d', 'hold-entries %d',
        'release-entries %d', 'compact %d', 'compact %d keep 2', 'install %d', 'install %d', 'cut %d', 'step-down %d', 'hold %d', 'heal',
        'heal', 'release *', 'transfer %d', 'abort-change %d', 'campaign %d now', 'read %d lease', ('change %%d voters %s'):format(some(nodes)),
        ('change %%d learners %s force'):format(some(nodes)), ('change %%d voters %s learners none force'):format(some(nodes)),
        ('change %%d voters 1 learners %d'):format(nodes), 'stabilize', 'stabilize', 'run 50', 'run 700', 'advance 150', 'status', 'wire'), id)
    end
  end
  return table.concat(out, '\n') .. '\n'
end

local function play(text)
  local path = os.tmpname() .. '.txt'
  local file = assert(io.open(path, 'w'))
  file:write(text)
  file:close()
  local pipe = assert(io.popen(('%s sim %s 2>&1 >/dev/null; echo "#!$?"'):format(binary, path)))
  local said, code = pipe:read('*a'):match('^(.*)#!(%d+)\n$')
  pipe:close()
  os.remove(path)
  return tonumber(code), said
end

describe('a scenario made at random', function()
  it('breaks nothing', function()
    for seed = tonumber(FIRST), tonumber(LAST) do
      local code, said = play(scenario(seed, false))
      assert(code == 0, ('seed %d: %d %s'):format(seed, code, said))
    end
  end)

  it('with messages made by hand ends in order', function()
    for seed = tonumber(FIRST), tonumber(LAST) do
      local code, said = play(scenario(seed, true))
      assert(code == 0 or (code == 1 and said:find(': node %d: ')), ('seed %d: %d %s'):format(seed, code, said))
    end
  end)
end)
