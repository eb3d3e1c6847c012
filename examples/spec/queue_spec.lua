-- tidelock test examples/spec/queue_spec.lua
local test = require 'tidelock.test'

describe('queue', function()
  local h
  before_each(function() h = test.host 'examples/queue.lua' end)

  it('gives jobs in the order in which they came, each once', function()
    h:call('push', 'mail', 'one')
    h:call('push', 'mail', 'two')
    h:call('push', 'other', 'three')
    assert.equal('one', h:call('pull', 'mail').body)
    assert.equal('two', h:call('pull', 'mail').body)
    assert.is_nil(h:call('pull', 'mail'))
    assert.equal('three', h:call('pull', 'other').body)
  end)

  it('forgets what is done', function()
    h:call('push', 'mail', 'one')
    local job = h:call('pull', 'mail')
    h:call('done', job.id, job.lease)
    h:advance(3600000)
    assert.same({ queue = {} }, h:state())
    local _, err = h:call('done', job.id, job.lease)
    assert.equal('CONFLICT', err.code)
  end)

  it('gives a job again when its lease has run out; the first worker is refused', function()
    h:call('push', 'mail', 'one')
    local first = h:call('pull', 'mail', { lease = 1000 })
    h:advance(999)
    assert.is_nil(h:call('pull', 'mail'))
    h:through_snapshot():advance(1)
    local second = h:call('pull', 'mail')
    assert.equal(first.id, second.id)
    assert.equal(2, second.tries)
    local _, err = h:call('done', first.id, first.lease)
    assert.equal('CONFLICT', err.code)
  end)

  it('lays a job aside after three tries', function()
    h:call('push', 'mail', 'poison')
    for try = 1, 3 do
      local job = h:call('pull', 'mail', { lease = 1000 })
      assert.equal(try, job.tries)
      if try == 2 then h:call('failed', job.id, job.lease) else h:advance(1000) end
    end
    assert.same({ ready = 0, dead = 1 }, h:query('count', 'mail'))
    assert.emitted(h, 'dead', 'mail')
  end)

  it('holds a job back for a time', function()
    h:call('push', 'mail', 'later', { delay = '5s' })
    h:call('push', 'mail', 'now')
    assert.equal('now', h:call('pull', 'mail').body)
    assert.is_nil(h:call('pull', 'mail'))
    h:advance(5000)
    assert.equal('later', h:call('pull', 'mail').body)
  end)
end)
