-- `tidelock test --check-determinism`: it finds every module of spec/lua/nondeterministic that loads (`tidelock check` refuses the others), and
-- clears every example.
local BIN = (os.getenv('TIDELOCK_BUILD') or 'build/release') .. '/tidelock'

local function sh(command)
  local pipe = assert(io.popen(command .. '; echo "#!$?"'))
  local text = pipe:read('*a')
  pipe:close()
  local body, status = text:match('^(.*)#!(%d+)\n$')
  return tonumber(status), body
end

local function run(words) return sh(('timeout 120 %s %s'):format(BIN, words)) end

-- Services, and their specs: a policy has nothing but its maps from one entry to the next.
local function files(pattern)
  local out, pipe = {}, io.popen('ls ' .. pattern)
  for line in pipe:lines() do
    if not line:find('/policy_') then out[#out + 1] = line end
  end
  pipe:close()
  return out
end

-- The binary, from another directory.
local FULL = BIN:gsub('^build', os.getenv('PWD') .. '/build')

local planted = files('spec/lua/nondeterministic/*.lua')

describe('the tester of determinism', function()
  local refused, found = 0, 0

  for _, file in ipairs(planted) do
    it('finds ' .. file:match('([%w_]+)%.lua$'), function()
      local head = io.open(file):read('*l')
      local status, said = run('check ' .. file .. ' 2>&1')
      if head:find('(Refused when it is loaded.)', 1, true) then
        assert.equal(1, status, said)
        refused = refused + 1
        return
      end
      assert.equal(0, status, said)
      local script
      status, script = run('test --check-determinism ' .. file .. ' 2>/dev/null')
      assert.equal(1, status, script)
      local _, steps = script:gsub('\n    { at', '')
      assert.is_true(steps >= 1 and steps <= 8, script)
      found = found + 1
    end)
  end

  it('had twenty to find, of which at least twelve load', function()
    assert.equal(20, #planted)
    assert.equal(20, refused + found)
    assert.is_true(found >= 12)
  end)

  it('clears every example', function()
    local status, said = run('test --check-determinism ' .. table.concat(files('examples/*.lua'), ' ') .. ' 2>&1')
    assert.equal(0, status, said)
  end)

  it('runs what a spec told its hosts', function()
    local status, said = run('test --check-determinism ' .. table.concat(files('examples/spec/*_spec.lua'), ' ') .. ' 2>&1')
    assert.equal(0, status, said)
  end)

  it('gives a script that fails until the service is mended', function()
    local _, name = sh('mktemp -d')
    local dir = name:gsub('%s', '')
    sh('cp spec/lua/nondeterministic/memoized.lua ' .. dir .. '/m.lua')
    local function script() return sh(('cd %s && timeout 60 %s run found.lua 2>&1'):format(dir, FULL)) end
    local _, text = sh(('cd %s && %s test --check-determinism m.lua 2>/dev/null'):format(dir, FULL))
    local file = io.open(dir .. '/found.lua', 'w')
    file:write(text)
    file:close()
    local status, said = script()
    assert.equal(1, status, said)
    assert.truthy(said:find('the budget that it takes differs restored from a snapshot before each entry', 1, true), said)
    sh('sed -i "s/rawset(t, n, sum)//" ' .. dir .. '/m.lua')
    status, said = script()
    assert.equal(0, status, said)
    sh('rm -rf ' .. dir)
  end)
end)
