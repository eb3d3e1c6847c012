-- A spec of tidelock.test itself, run by `tidelock test`: spec/cli/test_spec.lua does.
local test = require 'tidelock.test'

describe('a host', function()
  local h
  before_each(function() h = test.host { kv = 'examples/kv.lua', 'examples/lock.lua' } end)

  it('calls and queries by mount, and gives nil and an error', function()
    assert.is_nil((h:call('kv.set', 'a', 1)))
    assert.equal(1, h:query('kv.get', 'a'))
    local value, err = h:query('kv.get', 'b')
    assert.is_nil(value)
    assert.same({ code = 'NOT_FOUND', message = 'there is no such key' }, err)
    assert.equal('NOT_FOUND: there is no such key', tostring(err))
    assert.equal('UNKNOWN_COMMAND', select(2, h:call('kv.nothing')).code)
  end)

  it('refuses what no value may be, as a node does', function()
    for _, odd in ipairs { 0 / 0, 1 / 0, -1 / 0 } do assert.equal('BAD_ARGS', select(2, h:call('kv.set', 'a', odd)).code) end
    assert.error_matches(function() h:call('kv.set', 'a', print) end, '^spec/cli/desk/host.lua:%d+: .*a function is no value')
  end)

  it('takes a dry run back', function()
    assert.same(1, h:dry_run('lock.acquire', 'door', 'ada').token)
    assert.same(1, h:call('lock.acquire', 'door', 'ada').token)
    assert.equal(1, #h:events())
  end)

  it('has the time that it is given, and random numbers of its seed', function()
    local function token(seed)
      local s = test.host('examples/session_store.lua', { seed = seed, now = 5000 })
      assert.equal(5000, s:now())
      return (s:call('open', 'ada'))
    end
    assert.equal(token(1), token(1))
    assert.are_not.equal(token(1), token(2))
  end)

  it('does what is due at its time, in order', function()
    h:call('kv.set', 'b', 1, { ttl = 20 })
    h:call('kv.set', 'a', 1, { ttl = 10 })
    h:advance(100)
    local keys = {}
    for i, event in ipairs(h:events 'expired') do keys[i] = event.key end
    assert.same({ 'a', 'b' }, keys)
    assert.equal(1700000000100, h:now())
  end)

  it('has sessions: a request sent again is done once, and a session ends', function()
    local session = h:session { ttl = 5000 }
    local client = h:with { session = session }
    local first = client:call('lock.acquire', 'door', 'ada')
    client:call('lock.release', 'door', first.token)
    assert.same(first, h:with({ session = session, seq = 1 }):call('lock.acquire', 'door', 'ada'))
    h:advance(4000)
    h:keep(session)
    h:advance(4000)
    assert.equal(1, h:status().sessions)
    h:advance(1000)
    assert.equal(0, h:status().sessions)
    assert.equal('SESSION_EXPIRED', select(2, client:call('kv.set', 'a', 1)).code)
  end)

  it('goes on from a snapshot, in any format', function()
    h:call('kv.set', 'a', { 1, 2, { x = 'y' } }, { ttl = 1000 })
    local state, digest = h:state(), h:digest()
    h:through_snapshot():through_snapshot 'examples/formats/jsonl.lua'
    assert.same(state, h:state())
    assert.equal(digest, h:digest())
    assert.error_matches(function() h:through_snapshot 'examples/kv.lua' end, 'host.lua:%d+: .*kv.lua')
  end)

  it('holds what must always hold after each entry', function()
    h:always(function(query) return query 'kv.count' < 2, 'two keys' end)
    h:call('kv.set', 'a', 1)
    assert.has_error(function() h:call('kv.set', 'b', 1) end, 'what must always hold does not, after kv.set: two keys')
  end)

  it('shows rows and events', function()
    h:call('lock.acquire', 'door', 'ada')
    h:call('lock.acquire', 'door', 'bob', { wait = true })
    h:call('kv.set', 'x', true)
    assert.same({ kv = { rows = { x = true } }, lock = { held = { door = { owner = 'ada', token = 1, ttl = 30000 } },
      waiting = { ['["door",2]'] = { owner = 'bob', ttl = 30000 } } } }, h:state())
    assert.holds(h, 'kv.rows', { x = true })
    assert.is_not.holds(h, 'kv.rows', {})
    assert.emitted(h, 'lock.granted', 'door', { owner = 'ada', token = 1, ttl = 30000 })
    assert.is_not.emitted(h, 'granted', 'window')
  end)

  it('says what a file lacks, and which there is not', function()
    assert.error_matches(function() test.host 'nothing.lua' end, 'nothing.lua')
    assert.error_matches(function() test.host('examples/kv.lua', { seeds = 1 }) end, 'there is no option seeds')
  end)
end)

describe('a service with mistakes', function()
  it('is told where a copy was written to and lost', function()
    local h = test.host 'spec/cli/desk/mistakes.lua'
    assert.error_matches(function() h:call 'forgets' end,
      'host.lua:%d+: mistakes.forgets: mistakes.lua:6: this writes to the copy of a row that rows gave at mistakes.lua:5')
  end)

  it('is told of a timer that fails', function()
    local h = test.host 'spec/cli/desk/mistakes.lua'
    h:call 'arm'
    assert.error_matches(function() h:advance(10) end, '1 of what was due failed')
    h:call 'arm'
    h:advance(10, { may_fail = true })
  end)

  it('is told of a timer that never ends', function()
    local h = test.host 'spec/cli/desk/mistakes.lua'
    h:call 'again'
    assert.error_matches(function() h:advance(10) end, 'something is still due')
  end)
end)
