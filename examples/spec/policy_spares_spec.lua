-- tidelock test examples/spec/policy_spares_spec.lua
local test = require 'tidelock.test'

-- A policy is a table of functions: a spec calls them with a view that it makes up.
describe('policy_spares', function()
  local policy, ctx, view
  before_each(function()
    local rows = {}
    policy = dofile(test.find 'examples/policy_spares.lua')
    ctx = { db = { memory = { get = function(_, k) return rows[k] end, put = function(_, k, v) rows[k] = v end } } }
    view = { now = 1700000000000, quorum = 2, voters_up = 2, members = {
      { id = 1, role = 'voter', silent_ms = 0, tags = {} }, { id = 2, role = 'voter', silent_ms = 30000, tags = {} },
      { id = 3, role = 'voter', silent_ms = 0, tags = {} },
      { id = 4, role = 'learner', silent_ms = 0, caught_up = true, tags = {} },
      { id = 5, role = 'learner', silent_ms = 0, caught_up = true, tags = { spare = 'yes' } } } }
  end)

  it('has a spare take the place of a voter that is gone', function()
    assert.same({ op = 'replace', id = 2, with = 5, why = 'node 2 is gone; node 5 stood by' }, policy.review(ctx, view))
  end)

  it('waits for one that may come back, and only if somebody stands by', function()
    view.members[2].silent_ms = 5000
    assert.equal(15000, policy.review(ctx, view).wait)
    view.members[5].caught_up = false
    assert.is_nil(policy.review(ctx, view))
  end)

  it('replaces no second one within ten minutes', function()
    policy.review(ctx, view)
    view.now = view.now + 60000
    assert.equal(540000, policy.review(ctx, view).wait)
    view.now = view.now + 540000
    assert.equal('replace', policy.review(ctx, view).op)
  end)

  it('does nothing where no majority is left', function()
    view.voters_up = 1
    assert.is_nil(policy.review(ctx, view))
  end)

  it('lets spares join, and others by invitation', function()
    assert.is_true(policy.admit(ctx, view, { op = 'add', by = 'join', tags = { spare = 'yes' } }))
    assert.same({ nil, 'only spares join uninvited: start it with --tag spare=yes' },
      { policy.admit(ctx, view, { op = 'add', by = 'join', tags = {} }) })
    assert.is_true(policy.admit(ctx, view, { op = 'add', by = 'operator', tags = {} }))
  end)
end)
