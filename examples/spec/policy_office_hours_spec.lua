-- tidelock test examples/spec/policy_office_hours_spec.lua
local test = require 'tidelock.test'

local HOUR, DAY = 3600000, 86400000
local MONDAY = 1700438400000 -- 2023-11-20, midnight in Greenwich

describe('policy_office_hours', function()
  local policy, view
  before_each(function()
    policy = dofile(test.find 'examples/policy_office_hours.lua')
    view = { quorum = 2, voters_up = 2, pending = false, members = {} }
    for id = 1, 3 do
      view.members[id] = { id = id, role = id < 3 and 'voter' or 'learner', silent_ms = 0, steady_ms = 60000, caught_up = true, lag = 0,
        zone = '', tags = {} }
    end
  end)

  local function at(day, hour)
    view.now = MONDAY + day * DAY + hour * HOUR
    return policy.review({}, view)
  end

  it('does what the autopilot would in office hours, Monday to Friday', function()
    assert.equal('promote', at(0, 9)[1].op)
    assert.equal('promote', at(4, 16.99)[1].op)
    for _, time in ipairs { { 0, 8.99 }, { 4, 17 }, { 5, 12 }, { 6, 12 } } do assert.is_not_nil(at(time[1], time[2]).wait) end
  end)

  it('says what waits, and for how long; over a weekend it is asked each day', function()
    local waits = at(0, 8.5)
    assert.equal(HOUR / 2, waits.wait)
    assert.truthy(waits.why:find('^until the office opens: node 3'))
    assert.equal(16 * HOUR, at(1, 17).wait)
    assert.is_true(at(5, 12).wait < DAY)
  end)

  it('replaces a dead voter at any hour', function()
    view.members[4] = { id = 4, role = 'voter', silent_ms = 40000, steady_ms = 0, caught_up = false, lag = 0, zone = '', tags = {} }
    assert.equal('replace', at(6, 3).op)
  end)

  it('has nothing to wait for where nothing is wanted', function()
    view.members[3].caught_up = false
    assert.is_nil(at(6, 3))
  end)

  it('says no to operators at night, and yes to nodes that join', function()
    view.now = MONDAY
    assert.same({ nil, "the office is closed until 9 o'clock; --force does it all the same" }, { policy.admit({}, view, { by = 'operator' }) })
    assert.is_true(policy.admit({}, view, { by = 'join' }))
    view.now = MONDAY + 10 * HOUR
    assert.is_true(policy.admit({}, view, { by = 'operator' }))
  end)
end)
