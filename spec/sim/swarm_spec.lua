-- Seeds of the simulator: clients and faults on a world of replicas, then rest (sim/swarm.h). SEEDS=A..B runs others (make
-- sim); a seed that fails is named, and is the whole bug report.
local core = require 'spec.support.core'
local swarm = require 'spec.support.swarm'
core.load('base/checksum.h')

local FIRST, LAST = (os.getenv('SEEDS') or '1..25'):match('(%d+)%.%.(%d+)')

describe('a swarm', function()
  it(('finds nothing broken, seeds %s to %s'):format(FIRST, LAST), function()
    local hashes, sums, began = {}, { ms = 0, events = 0, ok = 0, unknown = 0, strikes = 0 }, os.clock()
    for seed = tonumber(FIRST), tonumber(LAST) do
      local r = swarm.run(seed)
      if r.broken then error(('seed %d, %s, at %d ms: %s'):format(seed, r.phase, r.at, r.broken), 0) end
      hashes[#hashes + 1] = seed .. ' ' .. r.hash
      for k, v in pairs(sums) do sums[k] = v + r[k] end
    end
    -- The suite compares what the builds wrote here: a seed is the same everywhere.
    local file = assert(io.open(core.build .. '/swarm.hashes', 'w'))
    file:write(table.concat(hashes, '\n'), '\n')
    file:close()
    if os.getenv('SEEDS') then
      local s = os.clock() - began
      print(('%d s simulated in %.1f s: %.0f x; %d events, %.0f a second; %d ok, %d unknown, %d strikes'):format(
        sums.ms / 1000, s, sums.ms / 1000 / s, sums.events, sums.events / s, sums.ok, sums.unknown, sums.strikes))
    end
  end)

  it(('lets members come and go, seeds %s to %s: by operators in one, by a policy, too, in the next'):format(FIRST, LAST), function()
    local sums = { asked = 0, granted = 0, joined = 0, removed = 0, lost = 0, strikes = 0 }
    for seed = tonumber(FIRST), tonumber(LAST) do
      local r = swarm.run(seed, { churn = seed % 2 + 1 })
      if r.broken then error(('seed %d, %s, at %d ms: %s'):format(seed, r.phase, r.at, r.broken), 0) end
      for k, v in pairs(sums) do sums[k] = v + r[k] end
    end
    for what, count in pairs(sums) do assert.is_true(count > 0, what) end
    if os.getenv('SEEDS') then
      print(('churn: %d changes asked for, %d granted; %d nodes joined, %d were removed, %d lost their disks; %d strikes'):format(
        sums.asked, sums.granted, sums.joined, sums.removed, sums.lost, sums.strikes))
    end
  end)

  it('deploys versions of every sort in mid-seed, and hears what becomes of each', function()
    local heard = { ['"migrating":false,'] = 0, ['"migrating":true,'] = 0, ['as asked'] = 0, ['timers are pending'] = 0, ['"version":4'] = 0 }
    local only = core.ffi.new('uint64_t', 1) * 2 ^ tonumber(swarm.C.fault_named('deploy'))
    for seed = 1, 40 do
      local r, transcript = swarm.run(seed, { faults = only }, true)
      assert.is_nil(r.broken)
      for line in transcript:gmatch('[^\n]+') do
        for text, count in pairs(heard) do
          if line:find('"kind":"reply"', 1, true) and line:find(text, 1, true) then heard[text] = count + 1 end
        end
      end
    end
    for text, count in pairs(heard) do assert.is_true(count > 1, text) end
  end)

  it('parks nodes whose memory runs out, and has them rebuilt or started again', function()
    local parked, rebuilt = 0, 0
    for seed = 1, 20 do
      local r, told = swarm.run(seed, { faults = bit.lshift(1ULL, tonumber(swarm.C.fault_named('starve'))) }, true)
      assert.is_nil(r.broken, ('seed %d: %s'):format(seed, r.broken or ''))
      for _ in told:gmatch('"kind":"parked"') do parked = parked + 1 end
      for _ in told:gmatch('"message":"Rebuild"') do rebuilt = rebuilt + 1 end
    end
    assert.is_true(parked > 1 and rebuilt > 0, ('%d parked, %d messages of rebuilding'):format(parked, rebuilt))
  end)

  it('tells what happened, the same in every build', function()
    local hashes = {}
    for seed = 3, 7, 2 do
      local report, transcript = swarm.run(seed, nil, true)
      assert.same(report, (swarm.run(seed)))
      assert.equal(transcript, (select(2, swarm.run(seed, nil, true))))
      hashes[#hashes + 1] = ('%d %s'):format(seed, tostring(core.C.hash64(transcript, #transcript)))
    end
    -- The suite compares these, too.
    local file = assert(io.open(core.build .. '/swarm.transcripts', 'w'))
    file:write(table.concat(hashes, '\n'), '\n')
    file:close()
  end)

  it('is the same when its seed is run again (bug 113)', function()
    assert.same(swarm.run(3), swarm.run(3))
  end)
end)
