-- `tidelock test`: the runner of a user's specs, tidelock.test through it, and `tidelock new`.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local dir

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local function write(name, text)
  local file = assert(io.open(dir .. '/' .. name, 'w'))
  file:write(text)
  file:close()
  return dir .. '/' .. name
end

local function run(words) return sh(('timeout 60 %s %s 2>&1'):format(BIN, words)) end

-- Runs a spec of this text; -> status, what was said, without the line of the file.
local function run_spec(text, words)
  local status, said = run(('test %s %s'):format(write('one_spec.lua', text), words or ''))
  return status, (said:gsub('^[^\n]*\n', ''))
end

setup(function()
  local _, name = sh('mktemp -d')
  dir = name:gsub('%s', '')
end)
teardown(function() sh('rm -rf ' .. dir) end)

describe('tidelock test', function()
  it('passes the specs of tidelock.test', function()
    local status, said = run('test spec/cli/desk/host.lua')
    assert.equal(0, status, said)
    assert.truthy(said:find('\n13 passed, 0 failed, 0 pending\n$'), said)
  end)

  it('passes the specs of all examples', function()
    local status, said = run('test examples/spec')
    assert.equal(0, status, said)
    for name in said:gmatch('examples/spec/([%w_]+)_spec.lua') do assert.equal(0, (sh('test -f examples/' .. name .. '.lua'))) end
  end)

  it('says where and why a spec failed, and exits 1', function()
    local status, said = run_spec([[
      describe('sums', function()
        it('are right', function() assert.equal(2, 1 + 1) end)
        it('are wrong', function()
          assert.same({ a = 1, b = { 2 } }, { a = 1, b = { 3 } })
        end)
        it('raise', function() error('oh') end)
      end)]])
    assert.equal(1, status)
    assert.equal(table.concat({ '  ok      sums are right', '  FAILED  sums are wrong', '      ' .. dir .. '/one_spec.lua:4: same',
      '      wanted { a = 1, b = { 2 } }', '      got    { a = 1, b = { 3 } }', '  FAILED  sums raise',
      '      ' .. dir .. '/one_spec.lua:6: oh', '1 passed, 2 failed, 0 pending', '' }, '\n'), said)
  end)

  it('runs hooks in the order of busted', function()
    local status, said = run_spec([[
      local log = {}
      local function note(word) return function() log[#log + 1] = word end end
      describe('a', function()
        setup(note 'setup') before_each(note 'b1') before_each(note 'b2') after_each(note 'a1') after_each(note 'a2')
        it('x', note 'x')
        describe('b', function()
          before_each(note 'b3') after_each(note 'a3') teardown(note 'down')
          it('y', function() finally(note 'finally') log[#log + 1] = 'y' end)
        end)
      end)
      it('z', function() print(table.concat(log, ' ')) end)]])
    assert.equal(0, status, said)
    assert.truthy(said:find('setup b1 b2 x a1 a2 b1 b2 b3 y finally a3 a1 a2 down\n', 1, true), said)
  end)

  it('runs after_each of what failed, counts what is pending, filters, and refuses what ran nothing', function()
    local text = [[
      local after = 0
      after_each(function() after = after + 1 end)
      it('fails', function() error('x') end)
      it('waits')
      it('waits too', function() pending('why') end)
      it('after', function() assert.equal(2, after) end)]]
    local status, said = run_spec(text)
    assert.equal(1, status)
    assert.truthy(said:find('\n1 passed, 1 failed, 2 pending\n', 1, true), said)
    assert.truthy(select(2, run_spec(text, '--filter fails')):find('\n0 passed, 1 failed, 0 pending\n', 1, true))
    assert.equal(1, (run_spec('it("is", function() end)', '--filter nothing')))
    assert.equal(1, (run_spec('this is not Lua')))
    assert.equal(2, (run('test ' .. dir .. '/nothing_spec.lua')))
  end)

  it('has the words of luassert that most specs use', function()
    local status, said = run_spec([[
      it('has them', function()
        assert(true) assert.True(true) assert.is_true(true) assert.is.True(true) assert.is_not_true(1) assert.is_false(false)
        assert.is_nil(nil) assert.is_not_nil(1) assert.not_nil(1) assert.truthy(1) assert.falsy(nil) assert.equals(1, 1)
        assert.are.equal('a', 'a') assert.are_not.equal(1, 2) assert.not_equal(1, 2) assert.are.same({ 1 }, { 1 })
        assert.are_not.same({ 1 }, { 1, 2 }) assert.is_table({}) assert.is_number(1) assert.is_not.string(1)
        assert.has_error(function() error('x') end) assert.has_error(function() error('x') end, 'x') assert.has_no.errors(function() end)
        assert.has_error(function() error({ code = 'A' }) end, { code = 'A' }) assert.error_matches(function() error('abc') end, 'b')
        assert.near(1, 1.05, 0.1) assert.matches('^a', 'abc') assert.has_no_error(function() end)
        for _, wrong in ipairs {
          function() assert(false, 'text') end, function() assert.is_true(1) end, function() assert.is_nil(1) end,
          function() assert.are.equal(1, '1') end, function() assert.is_not.equal(1, 1) end, function() assert.same({ 1 }, { 1, 2 }) end,
          function() assert.has_error(function() end) end, function() assert.has_no.errors(function() error('x') end) end,
          function() assert.has_error(function() error('y') end, 'x') end, function() assert.near(1, 2, 0.1) end,
          function() assert.nonsense(1) end, function() assert.is_table(1) end, function() assert.matches('^b', 'abc') end,
        } do assert.is_false((pcall(wrong))) end
      end)]])
    assert.equal(0, status, said)
  end)

  it('finds the service beside the spec, and gives each file globals of its own', function()
    sh(('mkdir -p %s/deep && cp examples/counter.lua %s/deep/'):format(dir, dir))
    local text = "leak = (leak or 0) + 1  it('is', function() assert.equal(1, leak) require('tidelock.test').host 'counter.lua' end)"
    write('deep/a_spec.lua', text)
    write('deep/b_spec.lua', text)
    local status, said = run('test ' .. dir .. '/deep')
    assert.equal(0, status, said)
    assert.truthy(said:find('2 passed', 1, true), said)
  end)

  it('teaches its assertions to luassert', function()
    local script = write('teaches.lua', [[
      package.path = package.path .. ';/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua'
      local assert = require 'luassert'
      local h = require 'tidelock.test'.host 'examples/kv.lua'
      h:call('set', 'a', 1, { ttl = 5 })
      assert.holds(h, 'rows', { a = 1 })
      h:advance(5)
      assert.emitted(h, 'expired', 'a')
      assert.is_not.emitted(h, 'expired', 'b')
      print(pcall(function() assert.holds(h, 'rows', { a = 1 }) end))]])
    local status, said = run('run ' .. script)
    assert.equal(0, status, said)
    assert.truthy(said:find('^false'), said)
  end)
end)

describe('each example', function()
  for _, name in ipairs { 'bank', 'counter', 'kv', 'leaderboard', 'lock', 'orders', 'queue', 'rate_limiter', 'session_store' } do
    it('holds in the simulator: ' .. name, function()
      local status, said = run(('sim examples/%s.lua --seeds 1..8'):format(name))
      assert.equal(0, status, said)
    end)
  end
end)

describe('tidelock new', function()
  it('writes a service whose checks all pass', function()
    local status, said = run('new stock --dir ' .. dir .. '/new')
    assert.equal(0, status, said)
    for _, words in ipairs { 'check %s/new/stock.lua', 'test %s/new', 'test --check-determinism %s/new/stock.lua %s/new/stock_spec.lua',
        'sim %s/new/stock.lua --seeds 1..5', 'sim %s/new/stock_scenario.lua --seeds 1..5', 'run %s/new/stock_scenario.lua' } do
      status, said = run((words:gsub('%%s', dir)))
      assert.equal(0, status, words .. '\n' .. said)
    end
  end)

  it('overwrites nothing, and wants a name', function()
    run('new twice --dir ' .. dir)
    assert.equal(6, (run('new twice --dir ' .. dir)))
    assert.equal(2, (run('new Wrong')))
    for _, name in ipairs { 'batch', 'tidelock', 'end', 'require' } do assert.equal(2, (run('new ' .. name .. ' --dir ' .. dir))) end
    assert.equal(2, (run('new')))
  end)
end)
