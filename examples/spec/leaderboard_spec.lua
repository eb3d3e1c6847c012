-- tidelock test examples/spec/leaderboard_spec.lua
local test = require 'tidelock.test'

describe('leaderboard', function()
  local h
  before_each(function()
    h = test.host 'examples/leaderboard.lua'
    h:call('submit', 'chess', 'ada', 1800)
    h:call('submit', 'chess', 'bob', 1600)
    h:call('submit', 'go', 'cyd', 5)
  end)

  it('has the best first, each board for itself', function()
    assert.same({ { 'ada', 1800 }, { 'bob', 1600 } }, h:query('top', 'chess'))
    assert.same({ { 'ada', 1800 } }, h:query('top', 'chess', 1))
    assert.equal(2, h:query('rank', 'chess', 'bob'))
    assert.equal(1, h:query('rank', 'go', 'cyd'))
  end)

  it('keeps the best score of a player', function()
    assert.same({ best = 1600, rank = 2 }, h:call('submit', 'chess', 'bob', 100))
    assert.same({ best = 1900, rank = 1 }, h:call('submit', 'chess', 'bob', 1900))
    assert.same({ { 'bob', 1900 }, { 'ada', 1800 } }, h:query('top', 'chess'))
    assert.emitted(h, 'leader', 'chess', { player = 'bob', score = 1900 })
  end)

  it('forgets a player', function()
    assert.is_true(h:call('remove', 'chess', 'ada'))
    assert.is_false(h:call('remove', 'chess', 'ada'))
    assert.same({ { 'bob', 1600 } }, h:query('top', 'chess'))
  end)
end)
