-- Code that changes after formation: entries DEPLOY and MIGRATE (machine/deploy.h).
local machine = require 'spec.support.machine'
local snapshot = require 'spec.support.snapshot'
local core = require 'spec.support.core'

-- A module: `version`, the body of the command run(ctx, ...), and more fields.
local function module(version, body, more)
  return ("local m = { name = 'm', version = %d, state = { rows = 'map' }, commands = {}, queries = {}, timers = {} }\n"
    .. 'function m.commands.run(ctx, ...) %s end\n'
    .. 'function m.commands.put(ctx, k, v) ctx.db.rows:put(k, v) end\n'
    .. 'function m.queries.get(ctx, k) return ctx.db.rows:get(k) end\n%s\nreturn m'):format(version, body or '', more or '')
end

local function code(m)
  local list = {}
  for _, one in ipairs(assert(m:query('tidelock.code'))) do list[one.mount] = one end
  return list
end

local function in_force(m, mount)
  local one = code(m)[mount]
  return one and one.hash or ''
end

local function answer(ok, value)
  if ok then return value end
  return nil, value or { code = 'PARKED' }
end

local function deploy(m, mount, text, options)
  options = options or {}
  local bundle = text:sub(1, 1) == '\149' and text or assert(machine.bundle(mount, text))
  return answer(m:entry(8, machine.pack { kind = 'machine', mount = mount, expect = options.expect or in_force(m, mount),
    budget = options.budget } .. bundle))
end

local function undeploy(m, mount, flag)
  return answer(m:entry(8, machine.pack { kind = 'machine', mount = mount, expect = in_force(m, mount), [flag or 'undeploy'] = true }))
end

local function migrate(m, mount) return answer(m:entry(9, machine.pack(mount))) end

local function status(m) return m:status() end

-- The digest of the rows alone: answers are counted in the other.
local function rows(m) return tonumber(status(m).rows), tonumber(status(m).bytes) end

describe('a deploy', function()
  local m
  before_each(function() m = machine.new { t = module(1, 'return "one"') } end)

  it('takes effect at one index', function()
    assert.equal('one', m:call('t.run'))
    local value = assert(deploy(m, 't', module(2, 'return "two"')))
    assert.equal('two', m:call('t.run'))
    assert.same({ mount = 't', version = 2, unchanged = false, migrating = false, hash = in_force(m, 't') }, value)
    assert.same({ hash = value.hash, kind = 'machine', mount = 't', name = 'm', version = 2 }, code(m).t)
    assert.truthy(m:query('tidelock.code', 't'):find('return "two"', 1, true))
  end)

  it('keeps the rows, and has commands and queries that are new and none that are gone', function()
    m:call('t.put', 'k', 'v')
    assert(deploy(m, 't', (module(2):gsub('put', 'set'):gsub('rows:set', 'rows:put'))))
    assert.equal('v', m:query('t.get', 'k'))
    assert.equal('UNKNOWN_COMMAND', select(2, m:call('t.put', 'k', 'w')).code)
    assert.is_nil(m:call('t.set', 'k', 'w'))
    assert.equal('w', m:query('t.get', 'k'))
  end)

  it('conflicts when another bundle is in force than the one it was made against', function()
    local first = in_force(m, 't')
    assert(deploy(m, 't', module(2, 'return "two"')))
    local value, err = deploy(m, 't', module(3, 'return "three"'), { expect = first })
    assert.is_nil(value)
    assert.equal('CONFLICT', err.code)
    assert.equal('CONFLICT', select(2, deploy(m, 'u', module(1), { expect = first })).code)
    assert.equal('two', m:call('t.run'))
  end)

  it('of the same bundle says that nothing changed', function()
    local first = in_force(m, 't')
    assert(deploy(m, 't', module(2, 'return "two"')))
    assert.is_true(assert(deploy(m, 't', module(2, 'return "two"'), { expect = first })).unchanged)
  end)

  it('must raise the version of the same module', function()
    local _, err = deploy(m, 't', module(1, 'return "other"'))
    assert.equal('CONFLICT', err.code)
    assert.truthy(err.message:find('raise it', 1, true))
    assert.equal('one', m:call('t.run'))
    assert(deploy(m, 't', (module(1, 'return "other"'):gsub("'m'", "'n'", 1))))
    assert.equal('other', m:call('t.run'))
  end)

  it('of a module that cannot be loaded leaves all as it was', function()
    m:call('t.put', 'k', 'v')
    local count, bytes = rows(m)
    local bad = machine.pack { 1, 'machine', 't', 'module', { { 'module', 'return { name = 1 }' } } }
    local _, err = deploy(m, 't', bad)
    assert.equal('SCRIPT_ERROR', err.code)
    assert.equal('one', m:call('t.run'))
    assert.equal('v', m:query('t.get', 'k'))
    assert.same({ count, bytes }, { rows(m) })
  end)

  it('makes a new mount, whose init runs', function()
    assert(deploy(m, 'u', module(1, '', 'function m.init(ctx) ctx.db.rows:put("init", ctx.index) end')))
    assert.equal(m.index, m:query('u.get', 'init'))
    local _, err = deploy(m, 'w', module(1, '', 'function m.init(ctx) error{code="NO", message="not here"} end'))
    assert.equal('NO', err.code)
    assert.equal('', in_force(m, 'w'))
    assert.equal('UNKNOWN_COMMAND', select(2, m:call('w.run')).code)
  end)

  it('gives a mount code whose module was refused at formation', function()
    local bad = machine.pack { 1, 'machine', 'u', 'module', { { 'module', 'return { name = 1 }' } } }
    m:entry(3, bad)
    assert.equal('SCRIPT_ERROR', select(2, m:call('u.run')).code)
    assert(deploy(m, 'u', module(1, 'return "here"')))
    assert.equal('here', m:call('u.run'))
  end)

  it('is refused while timers are pending that it has no functions for', function()
    m = machine.new { t = module(1, 'return ctx.after(1000, "ring")', 'function m.timers.ring(ctx) end') }
    m:call('t.run')
    local _, err = deploy(m, 't', module(2))
    assert.equal('CONFLICT', err.code)
    assert.truthy(err.message:find('ring', 1, true))
    assert(deploy(m, 't', module(2, '', 'function m.timers.ring(ctx) ctx.db.rows:put("rang", true) end')))
    m.now = m.now + 1000
    m:due()
    assert.is_true(m:query('t.get', 'rang'))
  end)

  it('lets the collector have the code before', function()
    for version = 2, 5 do assert(deploy(m, 't', module(version))) end
    local before = tonumber(status(m).lua_bytes)
    for version = 6, 300 do assert(deploy(m, 't', module(version, 'return "' .. ('x'):rep(10000) .. '"'))) end
    assert.is_true(tonumber(status(m).lua_bytes) < before + 1000000)
  end)

  it('of nonsense is refused', function()
    for _, bytes in ipairs { '', '\192', machine.pack { kind = 'machine' }, machine.pack { kind = 'x', mount = 't', expect = '' },
      machine.pack { kind = 'machine', mount = 't', expect = '', colour = 1 }, machine.pack { kind = 'machine', mount = '', expect = '' } } do
      assert.equal('BAD_REQUEST', select(2, answer(m:entry(8, bytes))).code)
    end
    assert.equal('BAD_REQUEST', select(2, deploy(m, 'u', assert(machine.bundle('v', module(1))))).code)
    assert.equal('one', m:call('t.run'))
  end)
end)

describe('migrate', function()
  local m
  before_each(function()
    m = machine.new { t = module(1, 'return "one"') }
    for i = 1, 10 do m:call('t.put', i, 'v' .. i) end
  end)

  -- Version 2 has the map `new` in place of `rows`.
  local function second(body)
    return ("local m = { name = 'm', version = 2, state = { new = 'map' }, commands = {}, queries = {} }\n"
      .. 'function m.migrate(ctx, from) %s end\n'
      .. 'function m.commands.run(ctx) return ctx.db.new:len() end\n'
      .. 'function m.queries.get(ctx, k) return ctx.db.new:get(k) end\n'
      .. 'function m.commands.old(ctx, k) return ctx.db.rows:get(k) end\nreturn m'):format(body)
  end

  it('reads maps that the module no longer names, which are gone when it has ended', function()
    local count = rows(m)
    assert(deploy(m, 't', second 'for k, v in ctx.db.rows:pairs() do ctx.db.new:put(k, from .. v) end'))
    assert.equal('1v7', m:query('t.get', 7))
    assert.equal(10, m:call('t.run'))
    assert.truthy(select(2, m:call('t.old', 1)).message:find("there is no map 'rows'", 1, true))
    assert.equal(count, (rows(m)))
  end)

  it('that fails leaves everything as it was', function()
    local count, bytes = rows(m)
    for _, body in ipairs { 'ctx.db.rows:clear() ctx.db.new:put(1, 2) error("no")', 'ctx.db.rows:clear() return nil, "no"',
      'ctx.db.rows:clear() while true do end', 'ctx.db.rows:clear() ctx.call("t.run")' } do
      local value, err = deploy(m, 't', second(body))
      assert.is_nil(value)
      assert.is_string(err.code)
      assert.same({ count, bytes }, { rows(m) })
      assert.equal('one', m:call('t.run'))
      assert.equal('v7', m:query('t.get', 7))
    end
  end)

  it('has a budget of its own: a limit, or of the deploy', function()
    local body = 'local n = 0 for i = 1, 3000000 do n = n + i end return n'
    assert.equal('BUDGET', select(2, deploy(m, 't', second(body), { budget = 1000000 })).code)
    assert.equal(100000000, m:limit('migrate_budget', 1000000))
    assert.equal('BUDGET', select(2, deploy(m, 't', second(body))).code)
    assert(deploy(m, 't', second(body), { budget = 100000000 }))
  end)

  local steps = 'local n = 0 for k, v in ctx.db.rows:pairs(nil, { limit = 4 }) do n = n + 1 '
    .. 'ctx.db.new:put(k, v) ctx.db.rows:del(k) end if n == 4 then return "more" end'

  it('goes on in further entries, while the mount is busy', function()
    m:entry(3, assert(machine.bundle('other', module(1, 'return "other"', 'm.commands.t = function(ctx) return ctx.call("t.run") end'))))
    local value = assert(deploy(m, 't', second(steps)))
    assert.is_true(value.migrating)
    assert.is_true(status(m).migrating)
    for _, name in ipairs { 't.run', 'other.t' } do
      local _, err = m:call(name)
      assert.equal('BUSY', err.code, name)
    end
    assert.equal('BUSY', select(2, m:query('t.get', 1)).code)
    assert.equal('BUSY', select(2, m:batch { { 'other.run', {} }, { 't.run', {} } }).code)
    assert.equal('BUSY', select(2, m:session('open', 1000)).code)
    assert.equal('BUSY', select(2, deploy(m, 'u', module(1))).code)
    assert.equal('other', m:call('other.run'))
    assert.is_true(migrate(m, 't'))
    assert.equal('BUSY', select(2, m:call('t.run')).code)
    assert.is_false(migrate(m, 't'))
    assert.is_false(status(m).migrating)
    assert.equal(10, m:call('t.run'))
    assert.is_nil(migrate(m, 't'))
    assert.equal(10, m:call('t.run'))
  end)

  it('is taken back wholly when a later step fails', function()
    local count, bytes = rows(m)
    local hash = in_force(m, 't')
    assert(deploy(m, 't', second(steps:gsub('if n == 4', 'if n < 4 then error("at the end") end if n == 4', 1))))
    assert.is_true(migrate(m, 't'))
    local _, err = migrate(m, 't')
    assert.truthy(err.message:find('at the end', 1, true))
    assert.equal(hash, in_force(m, 't'))
    assert.equal('one', m:call('t.run'))
    for i = 1, 10 do assert.equal('v' .. i, m:query('t.get', i)) end
    -- What is left: why it failed, and the number of the map that was not to be.
    local after, more = rows(m)
    assert.equal(count + 1, after)
    assert.is_true(more > bytes)
    assert.equal(hash, in_force(m, 't'))
    assert(deploy(m, 't', second(steps)))
    migrate(m, 't')
    migrate(m, 't')
    assert.equal(10, m:call('t.run'))
    assert.equal(count, (rows(m)))
  end)

  it('can be ended by an operator, and by a skip of its step', function()
    for _, way in ipairs { 'abort', 'skip' } do
      assert(deploy(m, 't', second(steps)))
      assert.is_true(migrate(m, 't'))
      if way == 'abort' then
        assert.is_true(undeploy(m, 't', 'abort'))
      else
        m.C.machine_skip(m.m, m.index + 1)
        assert.equal('SKIPPED', select(2, migrate(m, 't')).code)
      end
      assert.equal('one', m:call('t.run'))
      assert.equal('v7', m:query('t.get', 7))
    end
    assert.equal('NOT_FOUND', select(2, undeploy(m, 't', 'abort')).code)
  end)

  it('that asks for more and does nothing is refused', function()
    local _, err = deploy(m, 't', second 'ctx.emit("topic", "key", 1) return "more"')
    assert.truthy(err.message:find('changed nothing', 1, true))
    assert.same({}, m.events)
    assert.equal('one', m:call('t.run'))
  end)

  it('lets nothing happen in time meanwhile, and all of it afterwards', function()
    local timed = "m.timers.ring = function(ctx) ctx.db.rows:put('rang', true) end"
    m = machine.new { t = module(1, 'return "one"'), u = module(1, 'return ctx.after(10, "ring")', timed) }
    for i = 1, 10 do m:call('t.put', i, 'v' .. i) end
    m:call('u.run')
    assert(deploy(m, 't', second(steps)))
    m.now = m.now + 1000
    assert.equal(2 ^ 64, tonumber(status(m).next_due_ms))
    m:due()
    assert.is_nil(m:query('u.get', 'rang'))
    migrate(m, 't')
    migrate(m, 't')
    assert.is_true(tonumber(status(m).next_due_ms) <= m.now)
    m:due()
    assert.is_true(m:query('u.get', 'rang'))
  end)

  it('keeps a refusal for being busy out of a session', function()
    local session = m:session('open', 100000)
    assert(deploy(m, 't', second(steps)))
    local ok, err = m:ticket(session, 1, 1, 't.run')
    assert.is_false(ok)
    assert.equal('BUSY', err.code)
    assert.is_true(m:session('keep', session))
    assert.equal('BUSY', select(2, m:session('end', session)).code)
    migrate(m, 't')
    migrate(m, 't')
    local again, value = m:ticket(session, 1, 1, 't.run')
    assert.is_true(again)
    assert.equal(10, value)
  end)
end)

describe('an undeploy', function()
  it('takes maps and timers away, and no number comes twice', function()
    local more = "m.commands.id = function(ctx) return ctx.id() end m.timers.ring = function(ctx) end"
    local m = machine.new { t = module(1, 'return ctx.after(10, "ring")', more), u = module(1, 'return "u"') }
    local empty = { rows(m) }
    m:call('t.put', 1, 'one')
    m:entry(4, machine.pack 't.run' .. machine.pack { n = 0 })
    assert.equal(1, m:call('t.id'))
    assert.is_true(undeploy(m, 't'))
    assert.equal('UNKNOWN_COMMAND', select(2, m:call('t.run')).code)
    assert.equal('u', m:call('u.run'))
    assert.equal(0, tonumber(status(m).timers))
    assert(deploy(m, 't', module(1, '', more)))
    assert.is_nil(m:query('t.get', 1))
    assert.equal(2, m:call('t.id'))
    assert.is_true(rows(m) <= empty[1] + 3)
    assert.equal('NOT_FOUND', select(2, undeploy(m, 'w')).code)
  end)

  it('is not undone by a bundle of formation that comes late', function()
    local m = machine.new { t = module(1, 'return "t"') }
    m:call('t.put', 1, 'one')
    assert.is_true(undeploy(m, 't'))
    local catalog = core.buffer()
    m.C.machine_catalog(m.m, catalog)
    assert.equal(1, machine.unpack_all(core.buffer_text(catalog))[1])
  end)
end)

describe('a deploy of a format', function()
  local function format(version, word)
    return assert(machine.format(("return { name = 'f', version = %d,\n"
      .. 'write = function(out, view) out:write("%s\\n") for mount, name, map in view:maps() do for k, v in map:pairs() do\n'
      .. 'out:pack({ mount, name, k, v }) end end end,\n'
      .. 'read = function(inp, ctx) inp:read(%d) while true do local ok, row = inp:unpack() if not ok then return true end\n'
      .. 'ctx.db[row[1]][row[2]]:put(row[3], row[4]) end end }'):format(version, word, #word + 1)))
  end
  local function change(m, bundle, expect)
    return answer(m:entry(8, machine.pack { kind = 'format', mount = '', expect = expect or in_force(m, ''),
      undeploy = bundle == nil or nil } .. (bundle or '')))
  end

  it('is what snapshots are written in from then on', function()
    snapshot.with_disk(function(disk)
      local m = machine.new { t = module(1) }
      m:call('t.put', 'k', 'v')
      assert(change(m, format(1, 'first')))
      assert.equal('OK', (snapshot.take(m, disk, 'a')))
      assert.equal('f', core.ffi.string(select(2, assert(snapshot.build(disk, 'a'))).format))
      assert.equal('CONFLICT', select(2, change(m, format(1, 'again'))).code)
      assert.equal('CONFLICT', select(2, change(m, format(2, 'second'), 'x')).code)
      assert.equal(1, code(m)[''].version)
      assert(change(m, format(2, 'second')))
      assert.equal('OK', (snapshot.take(m, disk, 'b')))
      local built = assert(snapshot.build(disk, 'b'))
      assert.equal('v', built:query('t.get', 'k'))
      assert.is_true(change(m))
      assert.equal('', in_force(m, ''))
      assert.equal('OK', (snapshot.take(m, disk, 'c')))
      assert.equal('rows', core.ffi.string(select(2, assert(snapshot.build(disk, 'c'))).format))
    end)
  end)
end)

-- Random histories of deploys and commands: a machine that is built of a snapshot at every step goes on as the one that never was.
describe('any history of deploys', function()
  local function text(random, name, version)
    local maps = { 'rows' }
    if random(2) == 1 then maps[#maps + 1] = 'extra' .. random(3) end
    local state = {}
    for i, map in ipairs(maps) do state[i] = map .. " = 'map'" end
    local hooks = ({ '', 'function m.migrate(ctx, from) for k, v in ctx.db.rows:pairs() do ctx.db.rows:put(k, v + from) end end',
      'function m.migrate(ctx, from) local n = ctx.db.rows:len() ctx.db.rows:put("step", ctx.db.rows:get("step") or 0) '
        .. 'if ctx.db.rows:add("step", 1) % 3 ~= 0 then return "more" end end',
      'function m.migrate(ctx, from) ctx.db.rows:clear() ctx.db.rows:put("step", 0) error("fails") end',
      'function m.migrate(ctx, from) if ctx.db.rows:add("step", 1) % 3 ~= 2 then ctx.db.rows:del(2) return "more" end '
        .. 'error("late") end' })[random(5)]
    if random(3) == 1 then hooks = hooks .. '\nfunction m.upgrade_row(map, key, row, from) return row + from end' end
    return ("local m = { name = '%s', version = %d, state = { %s }, commands = {}, timers = {} }\n"
      .. 'function m.commands.add(ctx, k, n) ctx.after(n, "ring", k) return ctx.db.rows:add(k, n * %d) end\n'
      .. 'function m.commands.ttl(ctx, k, n) ctx.db.%s:put(k, n, { ttl = n }) return ctx.id() end\n'
      .. 'function m.timers.ring(ctx, k) ctx.db.rows:add(k, 1) end\n%s\nreturn m'):format(name, version, table.concat(state, ', '), version,
      maps[random(#maps)], hooks)
  end

  -- One step of the history: a function of a machine, which gives what it answered.
  local function draw(random, versions)
    local mount = ({ 't', 'u', 'w' })[random(3)]
    local what = random(10)
    if what <= 2 then
      versions[mount] = (versions[mount] or 1) + random(0, 1)
      local module_text = text(random, 'm' .. random(2), versions[mount])
      return function(m) return deploy(m, mount, module_text) end
    elseif what == 3 then
      local flag = random(3) == 1 and 'undeploy' or 'abort'
      return function(m) return undeploy(m, mount, flag) end
    elseif what <= 5 then
      return function(m) return migrate(m, mount) end
    elseif what == 6 then
      return function(m) return m:due() end
    end
    local command, k, n = random(2) == 1 and 'add' or 'ttl', random(5), random(2000)
    return function(m) return m:call(mount .. '.' .. command, k, n) end
  end

  it('is the same through a snapshot at every step', function()
    for seed = 1, tonumber(os.getenv 'SEEDS') or 12 do
      math.randomseed(seed)
      snapshot.with_disk(function(disk)
        local straight, versions = machine.new { t = text(math.random, 'm1', 1), u = text(math.random, 'm2', 1) }, {}
        local through = assert(snapshot.take(straight, disk, 'a') == 'OK') and assert(snapshot.build(disk, 'a'))
        for step = 1, 60 do
          local act = draw(math.random, versions)
          local now = straight.now + math.random(0, 500)
          straight.now, through.now = now, now
          local one, two = { act(straight) }, { act(through) }
          assert.same(one, two, 'seed ' .. seed .. ' step ' .. step)
          assert.equal(straight:digest(), through:digest(), 'seed ' .. seed .. ' step ' .. step)
          assert.equal('OK', (snapshot.take(through, disk, 's' .. step)))
          through = assert(snapshot.build(disk, 's' .. step))
        end
      end)
    end
  end)
end)
