-- Nodes that join and leave, on whole nodes (replica/members.c, change.c, observe.c): numbers are those of the list in spec/README.md.
local W = require 'spec.support.replicas'

describe('a cluster of one', function()
  it('lets in whom an operator invited, as a learner, and makes voters of it', function()
    local w = W.formed { nodes = 3, founders = 1 }
    assert.equal(1, w:call(0, 'counter.add', 'a').value)
    local denied = w:join(1, 0)
    assert.equal('DENIED', denied.code)
    assert.truthy(denied.message:find('tidelock members add 2=h:7301', 1, true))
    assert.same({ invited = 2 }, w:change(0, { { op = 'add', id = 2, address = 'h:7301' } }).value)
    assert.truthy(w:join(1, 0).value.decision)
    w:until_members(0, { 'voter', 'learner' })
    w:until_true('it caught up', function() return w:members(0).members[2].caught_up end)
    assert.truthy(w:change(0, { { op = 'promote', id = 2 } }).value.decision)
    w:until_members(0, { 'voter', 'voter' })
    assert.equal(2, w:call(1, 'counter.add', 'a').value)
    w:equal()
    local lines = w:history(1)
    assert.equal(2, #lines)
    assert.same({ true, true }, { lines[1].done, lines[2].done })
    assert.same({ 'join', 'operator' }, { lines[1].by, lines[2].by })
  end)
end)
