-- tidelock/deploy.lua: changing the code of a cluster that runs: what the commands deploy, undeploy, code and dev, and scripts, share.
--
--   local deploy = require 'tidelock.deploy'
--   local built = deploy.build('kv=kv_v2.lua')              checked in a process of its own, which the parser may crash
--   local before = deploy.look(client, deploy.place(built)) what is in force: { hash, bundle, shape }; hash '' for nothing
--   local answer, err, index = deploy.send(client, built, before.hash, { budget = n })
--   local ok, err = deploy.wait(client, built, index) a migrate that returned 'more' has come to its end
--
-- A bundle is a list { format, kind, mount, main, { { name, source }, ... } } in MessagePack.
local node, wire, check = require 'tidelock.node', require 'tidelock.wire', require 'cli.check'

local deploy = {}

local function opened(bytes)
  local ok, list = wire.unpack(bytes)
  assert(ok and type(list) == 'table', 'not a bundle')
  return { bundle = bytes, kind = list[2], mount = list[3], main = list[4], files = list[5], hash = node.hash(bytes) }
end

-- The bundle of [MOUNT=]FILE, opened, with its shape; nil, why. kind: 'machine' (unless said), 'format' or 'policy'; known: no need to try
-- it out in another process.
function deploy.build(word, kind, known)
  local name, path = word:match('^([^=/]*)=(.*)$')
  if name and not name:match('^[a-z][a-z0-9_]*$') then
    return nil, word .. ': a mount is named by small letters, digits and _, and begins with a letter'
  end
  if not known and not check.survives(path or word) then return nil, word .. ': LuaJIT itself cannot load this file' end
  local bytes, why = node.bundle(name or '', path or word, kind or 'machine')
  if not bytes then return nil, why end
  local built = opened(bytes)
  built.path = path or word
  if built.kind == 'machine' then built.shape = deploy.shape(bytes) end
  return built
end

-- What a service's module is: { name, version, commands = { name = args or false }, queries, state, timers, init = bool, ... }
function deploy.shape(bytes)
  local packed, why = node.describe(bytes)
  if not packed then return nil, why end
  local _, shape = wire.unpack(packed)
  return shape
end

local no_args = wire.pack {}

-- Everything in force: a list of { hash, kind, mount, name, version }; nil, err
function deploy.list(client)
  local value, err = client:raw('tidelock.code', no_args, { query = true }, true)
  if not value then return nil, err end
  return (select(2, wire.unpack(value)))
end

-- Where a bundle has its place: its mount; '' for a format, '(policy)' for a policy.
function deploy.place(built) return built.kind == 'policy' and '(policy)' or built.mount end

-- What is in force at a place, opened, with its shape; { hash = '' } for nothing; nil, err.
function deploy.look(client, mount)
  local value, err = client:raw('tidelock.code', wire.pack { mount }, { query = true }, true)
  if not value then
    if err.code == 'NOT_FOUND' then return { hash = '' } end
    return nil, err
  end
  local found = opened(select(2, wire.unpack(value)))
  if found.kind == 'machine' then found.shape = deploy.shape(found.bundle) end
  return found
end

-- Puts it in force in place of what has the hash `expect`. options: budget, any_version -> the answer, nil, index; nil, err
function deploy.send(client, built, expect, options)
  options = options or {}
  local facts = { kind = built.kind, mount = built.mount, expect = expect, budget = options.budget, any_version = options.any_version }
  local value, err, index = client:raw('tidelock.deploy', wire.pack { facts, built.bundle }, {})
  if not value then return nil, err end
  return select(2, wire.unpack(value)), nil, index
end

-- Takes away what is at a place; with abort: ends a migration that goes on. -> true, nil, index; nil, err
function deploy.remove(client, mount, expect, abort)
  local kind = mount == '' and 'format' or mount == '(policy)' and 'policy' or 'machine'
  local facts = { kind = kind, mount = kind == 'machine' and mount or '', expect = expect, abort = abort or nil }
  local value, err, index = client:raw('tidelock.undeploy', wire.pack { facts }, {})
  if not value then return nil, err end
  return true, nil, index
end

-- The migration is over: what it led to is in force, unless somebody ended it.
local function still_there(client, built)
  local now, err = deploy.look(client, deploy.place(built))
  if not now then return nil, err end
  if now.hash == built.hash then return true end
  return nil, { code = 'CONFLICT', definite = true, message = built.mount .. ': its migration was ended (tidelock undeploy --abort)' }
end

-- Waits until the migration that began at entry `index` has ended; `tell`(steps) once a second. Whichever node is asked may be behind:
-- what it says counts from that entry on. -> true; nil, { code, message }: it failed and was taken back, or no node says
function deploy.wait(client, built, index, tell)
  local mount = built.mount
  local heard, told = client.now(), client.now()
  while true do
    local status, err = client:status()
    if status then heard = client.now() elseif client.now() - heard > client.timeout then return nil, err end
    if status and status.applied >= index then
      local migration = status.service.migration
      if not migration then return still_there(client, built) end
      if migration.failed then return migration.failed.mount ~= mount or nil, migration.failed end
      if tell and client.now() - told >= 1000 then
        tell(migration.steps)
        told = client.now()
      end
    end
    client.sleep(50)
  end
end

-- All of it: in place of what is in force now, and its migrate has ended. -> the answer; nil, err
function deploy.change(client, built, options)
  local before, err = deploy.look(client, deploy.place(built))
  if not before then return nil, err end
  local answer, refused, index = deploy.send(client, built, before.hash, options)
  if not answer then return nil, refused end
  if answer.migrating then
    local ok, failed = deploy.wait(client, built, index)
    if not ok then return nil, failed end
  end
  return answer
end

-- --- the difference of two bundles -----------------------------------------------------------------------------------------

local function sorted(...)
  local names, seen = {}, {}
  for _, map in ipairs { ... } do
    for name in pairs(map) do
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
  end
  table.sort(names)
  return names
end

local function lines_of(text)
  local count = {}
  for line in (text .. '\n'):gmatch('(.-)\n') do count[line] = (count[line] or 0) + 1 end
  return count
end

-- Lines of `to` that `from` has not, counted with repetition.
local function more(from, to)
  local n = 0
  for line, count in pairs(to) do n = n + math.max(0, count - (from[line] or 0)) end
  return n
end

-- By name; the main one under `main`, for a new version often comes in a file of another name.
local function sources(opened_bundle, main)
  local map = {}
  for _, file in ipairs(opened_bundle.files or {}) do map[file[1] == opened_bundle.main and main or file[1]] = file[2] end
  return map
end

local kinds = { { 'commands', 'command' }, { 'queries', 'query' }, { 'timers', 'timer' }, { 'state', 'map' } }

-- One line a difference, in the manner of diff: '+' new, '-' gone, '~' changed.
function deploy.diff(before, after)
  local out = {}
  local function say(...) out[#out + 1] = string.format(...) end
  local old, new = before.shape or {}, after.shape or {}
  for _, kind in ipairs(kinds) do
    local was, is = old[kind[1]] or {}, new[kind[1]] or {}
    for _, name in ipairs(sorted(was, is)) do
      if was[name] == nil then say('+ %s %s%s', kind[2], name, is[name] and ' ' .. is[name] or '')
      elseif is[name] == nil then
        say('- %s %s%s', kind[2], name, kind[2] == 'map' and (new.migrate and ': migrate can read it, then its rows are removed'
          or ': its rows are removed') or '')
      elseif was[name] ~= is[name] then
        say('~ %s %s: %s -> %s', kind[2], name, was[name] or '(not declared)', is[name] or '(not declared)')
      end
    end
  end
  local from, to = sources(before, after.main), sources(after, after.main)
  for _, name in ipairs(sorted(from, to)) do
    if not from[name] then say('+ source %s', name)
    elseif not to[name] then say('- source %s', name)
    elseif from[name] ~= to[name] then
      local a, b = lines_of(from[name]), lines_of(to[name])
      say('~ source %s: %d lines more, %d lines less', name, more(a, b), more(b, a))
    end
  end
  return out
end

return deploy
