-- tidelock sim with a service of the user's own: seeds, transcripts, shrinking.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'
local dir

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local function sim(words) return sh(('timeout 120 %s sim %s 2>&1'):format(BIN, words)) end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read('*a')
  file:close()
  return text
end

local function write(name, text)
  local file = assert(io.open(dir .. '/' .. name, 'w'))
  file:write(text)
  file:close()
  return dir .. '/' .. name
end

local function has(text, said) assert.truthy(said:find(text, 1, true), said) end

setup(function()
  local _, name = sh('mktemp -d')
  dir = name:gsub('%s', '')
  for _, service in ipairs { 'orders', 'tickets' } do
    write(service .. '.lua', read('spec/sim/services/' .. service .. '.lua'))
  end
end)

teardown(function() sh('rm -rf ' .. dir) end)

describe('tidelock sim with a service', function()
  it('finds nothing in the examples', function()
    for _, name in ipairs { 'counter', 'kv', 'bank' } do
      local status, said = sim(('examples/%s.lua --seeds 1..15'):format(name))
      assert.equal(0, status, said)
      assert.truthy(said:find('^15 seeds, %d+ simulated seconds .* events; commands and queries: .* ok, .* faults struck: .*crash %d+'), said)
    end
  end)

  it('finds a mistake that shows when clients interleave, and says how to see it again', function()
    local status, said = sim("'" .. write("it's tickets.lua", read(dir .. '/tickets.lua')):gsub("'", "'\\''") .. "'")
    assert.equal(1, status)
    has('the invariant of tickets does not hold: row ', said)
    local line = said:match('\ntidelock (sim [^\n]*)\n')
    local again, same = sh(('%s %s'):format(BIN, line))
    assert.equal(1, again)
    assert.equal(said:match('^[^\n]*'), same:match('^[^\n]*'))
  end)

  it('makes a mistake that shows when a client retries a short script', function()
    local status, said = sim(dir .. '/orders.lua --seed 2 --shrink')
    assert.equal(1, status)
    has('the invariant of orders does not hold: an order is placed twice', said)
    local path = said:match('\ntidelock sim (%S*%.seed%d+%.lua)\n')
    assert.truthy(said:find('\nshrunk to %d strikes? and %d commands on %d nodes?: %l'), said)
    has('again = true', read(path))
    local again, same = sim(path)
    assert.equal(1, again)
    has('the invariant of orders does not hold: an order is placed twice', same)
    local _, told = sim(path .. ' --trace')
    has('{"at":1000,"kind":"phase","phase":"forming"}\n', told)
    has('"kind":"failed","what":"', told)
    -- The script shows that a service without the mistake is well.
    write('orders.lua', (read(dir .. '/orders.lua'):gsub("local number = ctx.id%(%)", [[
for key in ctx.db.orders:pairs({ id }) do return key[2] end
  %0]])))
    again, same = sim(path)
    assert.same({ 0, '' }, { again, same })
    write('orders.lua', read('spec/sim/services/orders.lua'))
  end)

  it('tells what happened, the same each time', function()
    local file = dir .. '/trace.txt'
    local status = sh(('%s sim examples/bank.lua --seed 5 --trace > %s 2> %s.err'):format(BIN, file, file))
    assert.equal(0, status)
    local told = read(file)
    assert.equal('', read(file .. '.err'))
    sh(('%s sim examples/bank.lua --seed 5 --trace > %s'):format(BIN, file))
    assert.equal(told, read(file))
    local kinds = {}
    local code = "local wire = require 'tidelock.wire' for line in io.lines(%q) do local ok, value = "
      .. "wire.unpack(assert(wire.json_pack(line))) print(value.kind) end"
    local _, list = sh(("%s run -e '%s'"):format(BIN, code:format(file):gsub("'", "'\\''")))
    for kind in list:gmatch('%S+') do kinds[kind] = (kinds[kind] or 0) + 1 end
    for _, kind in ipairs { 'start', 'send', 'receive', 'state', 'write', 'synced', 'commit', 'apply', 'applied', 'request', 'reply',
      'begin', 'end', 'strike', 'phase', 'check' } do
      assert.is_true((kinds[kind] or 0) > 0, 'no ' .. kind)
    end
  end)

  it('strikes with what it is told to', function()
    local _, said = sim('examples/counter.lua --seeds 1..20 --faults crash,loss --nodes 3')
    assert.truthy(said:find('faults struck: crash %d+, loss %d+\n'), said)
    _, said = sim('examples/counter.lua --seeds 1..3 --faults none')
    has('no fault struck', said)
  end)

  it('gives JSON', function()
    local status, said = sim(dir .. '/tickets.lua --json')
    assert.equal(1, status)
    for _, part in ipairs { '"failed":"the invariant of tickets', '"again":"tidelock sim ', '"phase":"', '"seed":' } do has(part, said) end
    status, said = sim('examples/counter.lua --seed 4 --json')
    assert.equal(0, status)
    has('"seeds":1', said)
  end)

  it('names what is wrong with a service', function()
    for body, text in pairs {
      ["commands = { c = function() end }, workload = function() return { 'd' } end"] = "workload: there is no command or query 'd'",
      ["commands = { c = function() end }, workload = function() return 7 end"] = "workload: it returns { 'command', arguments... }, or nil",
      ["commands = { c = function() end }, workload = function() error('oh') end"] = 'workload: m.lua:1: oh',
      ["commands = { c = function() local s = 'x' while true do s = s .. s end end }"] = 'is parked at entry',
    } do
      local status, said = sim(write('m.lua', ("return { name = 'm', version = 1, %s }"):format(body)) .. ' --seed 1')
      assert.equal(1, status)
      has(text, said)
      assert.equal('seed 1, ', said:sub(1, 8), said) -- no node's own log before it
    end
    for body, text in pairs {
      ['apply = function() end'] = 'give it a function workload(ctx)',
      ["commands = { c = function() end }, init = function() error('no luck') end"] = 'init: m.lua:1: no luck',
      ['commands = { c = 1 }'] = 'commands.c: it must be a function',
    } do
      local status, said = sim(write('m.lua', ("return { name = 'm', version = 1, %s }"):format(body)) .. ' --seed 1')
      assert.equal(78, status, said)
      has(text, said)
    end
  end)

  it('is not stopped by a log of many files, and says when a workload only pauses', function()
    local head = "local big = { name = 'big', version = 1, state = { rows = 'map' }, commands = {} }\n"
      .. "big.commands.set = { args = 'value', run = function(ctx, value) ctx.db.rows:put(1, value) end }\n"
    write('big.lua', head .. "function big.workload() return { 'set', ('x'):rep(400000) } end\nreturn big\n")
    local status, said = sim(dir .. '/big.lua --seed 1 --nodes 1 --faults none')
    assert.equal(0, status, said)
    write('idle.lua', head .. 'function big.workload() end\nreturn big\n')
    status, said = sim(dir .. '/idle.lua --seed 1')
    assert.equal(1, status)
    has('the workload asked for nothing', said)
    assert.truthy(said:find('%[%d up leader term %d'), said)
  end)

  it('says why, where nothing was ever taken', function()
    local service = write('dots.lua', "return { name = 'dots', version = 1, state = { m = 'map' },\n"
      .. '  commands = { put = function(ctx, k) ctx.db.m[k] = 1 end } }')
    local status, said = sim(service .. ' --seed 1')
    assert.equal(0, status)
    has('0 ok, ', said)
    has("nothing was ever taken; the first refusal: SCRIPT_ERROR: dots.lua:2: a map", said)
    status, said = sim('examples/kv.lua --seed 1')
    assert.equal(0, status)
    assert.is_nil(said:find('nothing was ever taken', 1, true))
  end)

  it('refuses what makes no sense', function()
    for words, text in pairs {
      ['examples/kv.lua --faults crush'] = "--faults: there is no fault 'crush'; there are crash",
      ["examples/kv.lua --faults ''"] = "--faults: there is no fault ''",
      ['examples/kv.lua --faults none,crash'] = "there is no fault 'none'",
      ['examples/kv.lua --seed 9007199254740992'] = 'wants a whole number from 0 to 9007199254740991',
      ['examples/kv.lua --seeds 1..9007199254740992'] = 'wants A..B',
      ['examples/kv.lua --seeds 9'] = '--seeds 9: wants A..B, like 1..1000',
      ['examples/kv.lua --seeds 9..1'] = '--seeds 9..1: wants A..B',
      ['examples/kv.lua --seed 1 --seeds 1..2'] = 'say one of them',
      ['examples/kv.lua --trace'] = 'say --seed N',
      ['examples/kv.lua --nodes 8'] = '--nodes 8: wants a whole number from 1 to 7',
      ['spec/scenario/elect.txt --shrink'] = 'elect.txt is a scenario\n(--shrink is for a service)',
      ['nothere.lua'] = 'nothere.lua: No such file',
      ['README.md'] = 'a service or a script ends in .lua, a scenario in .txt',
      [''] = 'sim takes one file',
    } do
      local status, said = sim(words)
      assert.equal(2, status, said)
      has(text, said)
    end
  end)
end)

describe('tidelock sim with a script', function()
  it('runs it', function() assert.same({ 0, '7\n' }, { sim(write('plain.lua', 'print(7)')) }) end)

  it('ends as it ends', function() assert.equal(1, (sim(write('plain.lua', "error('no')")))) end)

  it('takes no options of a service', function()
    local status, said = sim(write('plain.lua', 'print(7)') .. ' --faults none')
    assert.equal(78, status)
    has("plain.lua:1: print is not there", said)
  end)
end)

describe('tidelock.sim', function()
  local function script(text) return sim(write('script.lua', "local sim = require 'tidelock.sim'\n" .. text)) end

  it('runs seeds for a script', function()
    local status, said = script([[
      local sums = assert(sim.run('examples/counter.lua', { seeds = { 1, 3 }, nodes = 3, faults = { 'crash' } }))
      assert(sums.seeds == 3 and sums.ok > 100, 'sums')
      local nothing, failed, report = sim.run('spec/sim/services/tickets.lua', { seeds = { 1, 100 } })
      assert(nothing == nil and failed:find('is paid by another') and report.seed >= 1 and #report.requests > 1, failed)]])
    assert.same({ 0, '' }, { status, said })
  end)

  it('makes of a seed that failed a script that is the same run', function()
    local status, said = sh(('%s run %s 2>&1'):format(BIN, write('same.lua', [[
      local swarm, bundle = require 'tidelock.swarm', require 'tidelock.node'.bundle('', 'spec/sim/services/orders.lua')
      local tried = 0
      for seed = 1, 20 do
        local one = swarm.run { bundle = bundle, seed = seed }
        if one.failed then
          local two = swarm.run { bundle = bundle, seed = seed, nodes = one.nodes, form_ms = one.form_ms, strikes = one.strikes,
            requests = one.requests }
          assert(two.hash == one.hash and two.failed == one.failed, 'seed ' .. seed)
          tried = tried + 1
        end
      end
      assert(tried > 5, tried)]])))
    assert.same({ 0, '' }, { status, said })
  end)

  it('runs what a script says', function()
    local status, said = script([[
      local report = assert(sim.replay { service = 'tickets.lua', seed = 1, forms = 3000, lasts = 4000,
        strikes = { { at = 1000, fault = 'crash', node = 'leader', lasts = 500 }, { at = 2000, fault = 'pause', node = 2, lasts = 300 } },
        commands = { { at = 2000, client = 1, node = 1, name = 'tickets.hold', args = '["a","me"]' },
          { at = 2500, client = 2, node = 2, name = 'tickets.who', args = '["a"]', query = true } } })
      assert(report.ok == 2 and report.struck.crash == 1 and report.struck.pause == 1, 'report')
      local nothing, failed = sim.replay { service = 'tickets.lua', seed = 1, forms = 3000, lasts = 10, commands = {
        { at = 2000, client = 1, name = 'tickets.hold', args = '["a","me"]' },
        { at = 2500, client = 2, name = 'tickets.pay', args = '["a","you"]' } } }
      assert(nothing == nil and failed:find('a is paid by another than holds it'), failed)]])
    assert.same({ 0, '' }, { status, said })
  end)

  it('says what is wrong with a script', function()
    for text, wrong in pairs {
      ["sim.replay { service = 'tickets.lua', strikes = { { at = 1, fault = 'quake' } } }"] = "there is no fault 'quake'",
      ["sim.replay { service = 'tickets.lua', strikes = { { at = 1, fault = 'crash', node = 4 } } }"] = 'node: wants a whole number',
      ["sim.replay { service = 'tickets.lua', strikes = { { fault = 'crash' } } }"] = 'strikes[1]: at: wants ms',
      ["sim.replay { service = 'tickets.lua', commands = { { at = 1, name = 'a.b', args = '[' } } }"] = 'commands[1]: args: must be JSON',
      ["sim.replay { service = 'gone.lua' }"] = 'gone.lua',
      ["sim.run('gone.lua')"] = 'gone.lua',
    } do
      local status, said = script(text)
      assert.equal(1, status, said)
      has(wrong, said)
    end
  end)
end)
