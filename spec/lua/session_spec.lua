-- Sessions through the machine alone: exactly once by (session, seq), held against a plain model over random histories.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'

local module = [[
local function add(ctx, n) return { ctx.db.rows:add('n', n), ctx.session } end
return { name = 'm', version = 1, state = { rows = 'map', ended = 'map' },
  commands = {
    add = add,
    owned = { session = true, run = add },
    through = function(ctx, n) return ctx.call('m.owned', n) end,
    refuse = function(ctx, why) ctx.db.rows:put('torn', 1) return nil, { code = 'NOT_FOUND', message = why } end,
    large = function(ctx, n) return ('x'):rep(n) end,
    fickle = function(ctx) ctx.db.rows:put('fickle', 1) end,
  },
  queries = {
    n = function(ctx) return ctx.db.rows:get('n') or 0 end,
    session = function(ctx) return ctx.session == nil end,
    ended = function(ctx)
      local list = {}
      for k, v in ctx.db.ended:pairs() do list[#list + 1] = v end
      return list
    end,
  },
  on_session_end = function(ctx, session)
    ctx.db.ended:put(ctx.id(), session)
    if ctx.db.rows:get('fickle') then error('no') end
    ctx.emit('ended', session)
  end }
]]

local function code(_, err) return err and err.code end

describe('a session', function()
  local m, s
  before_each(function()
    m = machine.new { m = module }
    s = m:session('open', 10000)
  end)

  it('has a text, which is another for each', function()
    assert.truthy(s:match('^%x+%-%x+$'), s)
    assert.not_equal(s, m:session('open', 10000))
    assert.equal(2, tonumber(m:status().sessions))
  end)

  it('gives a retry the first answer, byte for byte, and runs nothing (bug 91)', function()
    for _, call in ipairs { { 'm.add', 5 }, { 'm.refuse', 'gone' }, { 'm.none' }, { 'm.large', 100000 }, { 'm.add', {} } } do
      s = m:session('open', 10000)
      local ok, _, bytes = m:ticket(s, 1, 0, unpack(call))
      local n = m:query('m.n')
      m:call('m.add', 1)
      for _ = 1, 3 do
        local again, _, same = m:ticket(s, 1, 0, unpack(call))
        assert.equal(ok, again)
        assert.equal(bytes, same)
      end
      assert.equal(n + 1, m:query('m.n'))
    end
    assert.same({ n = 10 }, { n = m:query('m.n') })
  end)

  it('is asked for by who wants one', function()
    assert.equal('NO_SESSION', code(m:call('m.owned', 1)))
    assert.equal('NO_SESSION', code(m:call('m.through', 1)))
    assert.equal('NO_SESSION', code(m:batch { { 'm.add', { 1 } }, { 'm.owned', { 1 } } }))
    assert.equal(0, m:query('m.n'))
    assert.same({ 1, s }, (select(2, m:ticket(s, 1, 0, 'm.owned', 1))))
    assert.same({ 3, s }, (select(2, m:ticket(s, 2, 0, 'm.through', 2))))
    assert.same({ 5 }, m:call('m.add', 2))
    assert.is_true(m:query('m.session'))
  end)

  it('is of a whole batch', function()
    local payload = machine.pack { { 'm.add', { 1 } }, { 'm.owned', { 2 } } } .. machine.pack { s, 1, 0 }
    local _, first, bytes = m:entry(5, payload)
    assert.same({ { 1, s }, { 3, s } }, first)
    assert.equal(bytes, (select(3, m:entry(5, payload))))
    assert.equal(3, m:query('m.n'))
  end)

  it('is refused when it is unknown or has ended', function()
    assert.equal('SESSION_EXPIRED', code(nil, select(2, m:ticket('nobody', 1, 0, 'm.add', 1))))
    assert.is_true(m:session('end', s))
    assert.equal('SESSION_EXPIRED', code(nil, select(2, m:ticket(s, 1, 0, 'm.add', 1))))
    for _, verb in ipairs { 'keep', 'end' } do assert.equal('SESSION_EXPIRED', code(m:session(verb, s))) end
    assert.equal(0, m:query('m.n'))
    assert.same({ s }, m:query('m.ended'))
  end)

  it('forgets answers below done_below, and takes no more of those', function()
    for seq = 1, 5 do m:ticket(s, seq, 0, 'm.add', 1) end
    local rows = tonumber(m:status().rows)
    m:ticket(s, 6, 4, 'm.add', 1)
    assert.equal(rows - 2, tonumber(m:status().rows)) -- 3 answers less, one more
    for seq = 1, 3 do assert.equal('SESSION_EXPIRED', code(nil, select(2, m:ticket(s, seq, 0, 'm.add', 1)))) end
    for seq = 4, 6 do assert.same({ seq, s }, (select(2, m:ticket(s, seq, 0, 'm.add', 1)))) end
    assert.equal(6, m:query('m.n'))
  end)

  it('keeps a bounded window: of answers, and of bytes', function()
    m:limit('session_answers', 3)
    for seq = 1, 3 do m:ticket(s, seq, 0, 'm.add', 1) end
    assert.equal('BUSY', code(nil, select(2, m:ticket(s, 4, 0, 'm.add', 1))))
    assert.same({ 2, s }, (select(2, m:ticket(s, 2, 0, 'm.add', 1))))
    assert.same({ 4, s }, (select(2, m:ticket(s, 4, 2, 'm.add', 1))))
    m:limit('session_bytes', 1024)
    m:limit('session_answers', 1000)
    m:ticket(s, 5, 5, 'm.large', 2000)
    assert.equal('BUSY', code(nil, select(2, m:ticket(s, 6, 5, 'm.add', 1))))
    assert.same({ 5, s }, (select(2, m:ticket(s, 6, 6, 'm.add', 1))))
  end)

  it('is refused a ticket that makes no sense', function()
    for _, ticket in ipairs { { s, 0, 0 }, { s, 1, 2 }, { s, 'x', 0 }, { 5, 1, 0 }, { s, 1 }, { s, 1, 0, 0 }, { '', 1, 0 },
      { ('s'):rep(65), 1, 0 }, { s, 2 ^ 53 + 2, 0 }, 'x' } do
      local ok, err = m:entry(4, machine.pack 'm.add' .. machine.pack { 1 } .. machine.pack(ticket))
      assert.is_false(ok)
      assert.equal('BAD_REQUEST', err.code)
    end
    for _, what in ipairs { { 'open', 1 }, { 'open', 'x' }, { 'open', 1e12 },
      { 'shut', s }, { 'keep', 5 }, { 'keep', '' }, { 'open' }, 'x', {} } do
      local ok, err = m:entry(6, machine.pack(what))
      assert.is_false(ok)
      assert.equal('BAD_ARGS', err.code)
    end
  end)

  it('ends when its ttl has passed: by the stamp first, then by a DUE (bug 92)', function()
    m.now = m.now + 9999
    assert.is_true((m:ticket(s, 1, 0, 'm.add', 1)))
    m.now = m.now + 9999
    assert.is_true(m:session('keep', s))
    m.now = m.now + 10000
    assert.equal('SESSION_EXPIRED', code(nil, select(2, m:ticket(s, 1, 0, 'm.add', 1))))
    assert.equal('SESSION_EXPIRED', code(m:session('keep', s)))
    assert.same({}, m:query('m.ended'))
    assert.equal(1, tonumber(m:status().sessions))
    assert.is_true(tonumber(m:status().next_due_ms) <= m.now)
    m:due()
    assert.same({ s }, m:query('m.ended'))
    assert.same({ { m.index, 1, 'm.ended', s } }, m.events)
    assert.equal(0, tonumber(m:status().sessions))
    assert.equal(tostring(0xffffffffffffffffULL), tostring(m:status().next_due_ms))
  end)

  it('is not ended by a DUE that comes too early', function()
    m.now = m.now + 6000
    m:session('keep', s)
    m.now = m.now + 4000
    m:due()
    assert.is_true(m:session('keep', s))
    m.now = m.now + 10000
    m:due()
    assert.same({ s }, m:query('m.ended'))
  end)

  it('has its ttl again in a new term, unless it was refused before', function()
    local other = m:session('open', 10000)
    m.now = m.now + 3600 * 1000
    assert.equal('SESSION_EXPIRED', code(m:session('keep', other)))
    m.term = 2
    m:entry(1, '')
    assert.equal('SESSION_EXPIRED', code(m:session('keep', other)))
    m:due()
    assert.same({ other }, m:query('m.ended'))
    m.now = m.now + 9999
    assert.is_true((m:ticket(s, 1, 0, 'm.add', 1)))
    m.now = m.now + 10000
    assert.equal('SESSION_EXPIRED', code(m:session('keep', s)))
  end)

  it('whose on_session_end fails is gone all the same, and what that did is undone', function()
    m:call('m.fickle')
    m:session('end', s)
    assert.same({}, m:query('m.ended'))
    assert.same({}, m.events)
    assert.equal(1, tonumber(m:status().timers_failed))
    assert.equal(0, tonumber(m:status().sessions))
  end)

  it('counts for no quota, and is told to all mounts in the order of their names', function()
    m = machine.new { m = module, a = (module:gsub("name = 'm'", "name = 'a'")), z = (module:gsub("name = 'm'", "name = 'z'")) }
    m:limit('quota', 1)
    s = m:session('open', 10000)
    for seq = 1, 20 do assert.is_true((m:ticket(s, seq, 0, 'm.large', 1000))) end
    assert.equal(0, tonumber(m:status().quota_bytes))
    m:limit('quota', 0)
    m:session('end', s)
    assert.same({ { m.index, 1, 'a.ended', s }, { m.index, 2, 'm.ended', s }, { m.index, 3, 'z.ended', s } }, m.events)
  end)
end)

-- The model: what the contract says, in plain tables.
local function new_model(now) return { now = now, grant = 0, n = 0, id = 0, sessions = {}, ended = {}, limit = 4 } end

local function end_of(model, s) return s.over or math.max(s.seen, model.grant) + s.ttl end

local function finish(model, text)
  model.ended[#model.ended + 1] = text
  model.sessions[text] = nil
end

local function first(model)
  local least
  for text, s in pairs(model.sessions) do
    local l = least and model.sessions[least]
    if not l or end_of(model, s) < end_of(model, l) or (end_of(model, s) == end_of(model, l) and s.id < l.id) then least = text end
  end
  return least
end

local function due(model)
  while first(model) and end_of(model, model.sessions[first(model)]) <= model.now do finish(model, first(model)) end
end

local function alive(model, text)
  local s = model.sessions[text]
  if not s then return nil end
  if model.now < end_of(model, s) then return s end
  s.over = end_of(model, s)
end

local function model_ticket(model, text, seq, done_below, n)
  local s = alive(model, text)
  if not s then return 'SESSION_EXPIRED' end
  s.seen = model.now
  s.done = math.max(s.done, done_below)
  local kept = 0
  for at in pairs(s.answers) do
    if at < s.done then s.answers[at] = nil else kept = kept + 1 end
  end
  if seq < s.done then return 'SESSION_EXPIRED' end
  if not s.answers[seq] then
    if kept >= 5 then return 'BUSY' end
    if n < 0 then s.answers[seq] = 'NOT_FOUND'
    else
      model.n = model.n + n
      s.answers[seq] = model.n
    end
  end
  return s.answers[seq]
end

-- One random step on the machine and the model.
local function step(random, m, model, names)
  local roll = random(100)
  m.now = m.now + (random(3) == 1 and random(2500) or 0)
  model.now = m.now
  local text = names[random(#names + 1)] or 'nobody'
  if roll <= 50 then
    local seq, n = random(12), random(10) - 3
    local done = random(4) == 1 and random(seq + 1) - 1 or 0
    local ok, value
    if n < 0 then ok, value = m:ticket(text, seq, done, 'm.refuse', 'x') else ok, value = m:ticket(text, seq, done, 'm.add', n) end
    assert.equal(model_ticket(model, text, seq, done, n), ok and value[1] or value.code)
  elseif roll <= 65 then
    local ttl = 500 * random(6)
    local live = 0
    for _ in pairs(model.sessions) do live = live + 1 end
    if live >= model.limit then finish(model, first(model)) end
    local opened = m:session('open', ttl)
    model.id = model.id + 1
    model.sessions[opened] = { ttl = ttl, seen = m.now, id = model.id, done = 0, answers = {} }
    names[#names + 1] = opened
    if #names > 8 then table.remove(names, 1) end
  elseif roll <= 75 then
    local s = alive(model, text)
    if s then s.seen = m.now end
    assert.equal(s and true or nil, (m:session('keep', text)))
  elseif roll <= 80 then
    local s = alive(model, text)
    if s then finish(model, text) end
    assert.equal(s and true or nil, (m:session('end', text)))
  elseif roll <= 83 then
    m.term = (m.term or 1) + 1
    model.grant = m.now
    m:entry(1, '')
  else
    m:due()
    due(model)
  end
  assert.same(model.ended, m:query('m.ended'))
  assert.equal(model.n, m:query('m.n'))
  local count = 0
  for _ in pairs(model.sessions) do count = count + 1 end
  assert.equal(count, tonumber(m:status().sessions))
end

describe('sessions over random histories', function()
  it('are those of the model, the table full or not, through a snapshot at every twentieth step (bug 93)', function()
    snapshot.with_disk(function(disk)
      for seed = 1, 20 do
        local random = core.random(seed)
        local m, names = machine.new { m = module }, {}
        m:limit('sessions', 4)
        m:limit('session_answers', 5)
        local model = new_model(m.now)
        model.grant = m.now
        for at = 1, 200 do
          step(random, m, model, names)
          if at % 20 == 0 then
            assert.equal('OK', (snapshot.take(m, disk, 'a')))
            local built = assert(snapshot.build(disk, 'a'))
            assert.equal(m:digest(), built:digest())
            built.term, built.now = m.term, m.now
            for _, one in ipairs { m, built } do one:due() end
            due(model)
            assert.equal(m:digest(), built:digest())
            m = built
          end
        end
      end
    end)
  end)
end)
