-- cli/new.lua: writes a service to begin with, its spec, and a scenario of a cluster that runs it.
local sys = require 'tidelock.sys'

local MODULE = [[
-- NAME.lua: counts things by name. A beginning: change it into what you need.
--
--   tidelock dev NAME.lua                      three nodes on this machine
--   tidelock call NAME.add apples 3
--   tidelock query NAME.get apples
--   tidelock check NAME.lua                    what would be refused
--   tidelock test                              NAME_spec.lua
--   tidelock test --check-determinism NAME.lua
--   tidelock sim NAME.lua --seeds 1..20        real nodes on virtual time, under faults
--   tidelock sim NAME_scenario.lua             a leader that is killed; `tidelock run` it, and the nodes are real

---@type tidelock.module
local NAME = { name = 'NAME', version = 1, state = { counts = 'map' }, commands = {}, queries = {} }

NAME.commands.add = {
  args = 'name n:int=1', help = 'count; the new number',
  ---@param ctx tidelock.ctx
  run = function(ctx, name, n)
    if n < 1 then return ctx.fail('BAD_ARGS', 'n: at least 1') end
    local count = ctx.db.counts:add(name, n)
    ctx.emit('added', name, count)
    return count
  end,
}

NAME.commands.take = {
  args = 'name n:int=1', help = 'take some away; what is left',
  ---@param ctx tidelock.ctx
  run = function(ctx, name, n)
    if n < 1 then return ctx.fail('BAD_ARGS', 'n: at least 1') end
    if (ctx.db.counts:get(name) or 0) < n then return ctx.fail('TOO_FEW', 'there are not so many') end
    return ctx.db.counts:add(name, -n)
  end,
}

NAME.queries.get = {
  args = 'name', help = 'how many',
  ---@param ctx tidelock.ctx
  run = function(ctx, name) return ctx.db.counts:get(name) or 0 end,
}

-- What a client of the simulator does next.
function NAME.workload(ctx) return { ctx.random(2) == 1 and 'add' or 'take', 'thing ' .. ctx.random(4), ctx.random(5) } end

-- What the simulator holds every node to, after every entry.
function NAME.invariant(ctx)
  for name, count in ctx.db.counts:pairs() do
    if count < 0 then return false, name .. ' is below zero' end
  end
end

return NAME
]]

local SPEC = [[
-- NAME_spec.lua: tidelock test NAME_spec.lua
local test = require 'tidelock.test'

describe('NAME', function()
  local h
  before_each(function()
    h = test.host 'NAME.lua'
    h:always(function(query) return query('get', 'apples') >= 0 end)
  end)

  it('counts', function()
    assert.equal(3, h:call('add', 'apples', 3))
    assert.equal(4, h:call('add', 'apples'))
    assert.emitted(h, 'added', 'apples', 4)
    assert.equal(4, h:query('get', 'apples'))
  end)

  it('gives no more than there is, and then changes nothing', function()
    h:call('add', 'apples', 2)
    local _, err = h:call('take', 'apples', 3)
    assert.equal('TOO_FEW', err.code)
    assert.holds(h, 'counts', { apples = 2 })
  end)

  it('is the same after a snapshot', function()
    h:call('add', 'apples', 2)
    h:through_snapshot()
    assert.equal(1, h:call('take', 'apples'))
  end)
end)
]]

local SCENARIO = [[
-- NAME_scenario.lua: the leader is killed while clients count; nothing is lost.
--
--   tidelock sim NAME_scenario.lua --seeds 1..20      on virtual time, as each seed has it
--   tidelock run NAME_scenario.lua                    three real processes
local here = arg[0]:match('^(.*/)') or ''
local c = require 'tidelock.cluster' { nodes = 3, machines = { NAME = here .. 'NAME.lua' } }

assert(c:call('NAME.add', 'apples', 3))
c:step('clients count, and the leader is killed', function()
  for client = 1, 3 do
    c:go(function()
      for _ = 1, 10 do c:call('NAME.add', 'pears') end -- some may end unknown
    end)
  end
  local old = c:leader():kill()
  c:wait_leader { not_node = old }
  old:start()
end)
c:step('all nodes are equal, and what was acknowledged is there', function()
  c:wait_equal()
  assert(c:query('NAME.get', 'apples') == 3)
  assert(c:query('NAME.get', 'pears') <= 30)
end)
]]

-- Mounts that are the host's own, and a function that the module's file would hide from itself.
local taken = { tidelock = true, watch = true, status = true, batch = true, require = true }

return {
  summary = 'write a service to begin with, its spec and a scenario',
  usage = 'tidelock new NAME [--dir DIR]\n\nWrites NAME.lua, a module with a workload and an invariant for the simulator, NAME_spec.lua, and\n'
    .. 'NAME_scenario.lua, a script that drives a cluster of it. Exit 6 if one of them is there.\n\n'
    .. '  tidelock new stock && tidelock test stock_spec.lua && tidelock sim stock_scenario.lua && tidelock dev stock.lua',
  options = { dir = 'value' },
  run = function(options, words, cli)
    local name = words[1]
    if #words ~= 1 or not name:match('^[a-z][a-z0-9_]*$') or #name > 48 then
      cli.stop(2, 'new: wants a name like stock: a to z, digits and _, at most 48')
    end
    if taken[name] or loadstring('local ' .. name) == nil then
      cli.stop(2, 'new: ', name, ' cannot be the name of a service: it is a word of Lua, or one that tidelock keeps for itself')
    end
    local directory = options.dir or '.'
    if options.dir then
      local ok, why = sys.mkdir(directory)
      if not ok then cli.stop(1, why) end
    end
    local files = { { name .. '.lua', MODULE }, { name .. '_spec.lua', SPEC }, { name .. '_scenario.lua', SCENARIO } }
    for _, file in ipairs(files) do
      file.path = (options.dir and directory .. '/' or '') .. file[1]
      local there = io.open(file.path, 'rb')
      if there then
        there:close()
        cli.stop(6, file.path, ': there is such a file already')
      end
    end
    for _, file in ipairs(files) do
      local out, why = io.open(file.path, 'wb')
      if not out then cli.stop(1, why) end
      out:write((file[2]:gsub('NAME', name)))
      if not out:close() then cli.stop(1, file.path, ': cannot be written') end
      io.stdout:write(file.path, '\n')
    end
    cli.say('next: tidelock test ', files[2].path, '; tidelock sim ', files[3].path, '; tidelock dev ',
      files[1].path)
  end,
}
