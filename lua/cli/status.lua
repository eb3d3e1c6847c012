-- cli/status.lua: every member's own word on itself.
local wire, client, sys = require 'tidelock.wire', require 'tidelock.client', require 'tidelock.sys'
local call, settled = require 'cli.call', require 'tidelock.settled'

local status = {
  summary = 'members, roles, term, commit, applied, lag, digests',
  usage = [[
tidelock status [--wait]

  --to H:P,...    any node (or TIDELOCK_TO)
  --wait          until there is a leader and every member is up and has applied all; exit 3 if that takes too long
  --timeout MS    for --wait (5000)
  --json          all of it]],
  options = { to = 'value', wait = 'flag', timeout = 'value', json = 'flag' },
}

-- Asks all at once, each once, so that one that is dead or hangs costs no more than the time-out. -> the first that answers, or nil
local function ask(addresses, timeout)
  local asked, first = {}, nil
  for address in addresses:gmatch('[^,]+') do
    local c = client.new(address, { timeout = timeout })
    if c then
      c:begin_status()
      asked[#asked + 1] = c
    end
  end
  local deadline = sys.now() + timeout / 1000
  for _, c in ipairs(asked) do
    first = first or c:end_status(deadline)
    c:close()
  end
  return first
end

-- Asks one node, then each member it names, for `timeout` ms each. -> list by id, or nil
function status.gather(addresses, timeout)
  local first = ask(addresses, timeout)
  if not first then return nil end
  local list, asked = {}, {}
  for i, member in ipairs(first.members) do
    if member.id ~= first.id then asked[i] = client.new(member.address, { timeout = timeout }) end
    if asked[i] then asked[i]:begin_status() end
  end
  local deadline = sys.now() + timeout / 1000
  for i, member in ipairs(first.members) do
    local answer = member.id == first.id and first
    if asked[i] then
      answer = asked[i]:end_status(deadline)
      asked[i]:close()
    end
    list[i] = answer or { id = member.id, down = true }
    if not answer or answer.role == 'forming' then list[i].why = member.complaint ~= '' and member.complaint or nil end
    list[i].address = member.address
  end
  return list
end

-- What a parked node says, and what may be done about it while others serve.
local function parked(node, others)
  return ('  PARKED at entry %d: %s%s'):format(node.parked_at, node.parked_why,
    others and ("; tidelock rebuild %d: it takes the leader's state"):format(node.id) or '')
end

local function print_plain(list)
  local commit, others = 0, false
  for _, node in ipairs(list) do
    commit = math.max(commit, node.commit or 0)
    others = others or node.role == 'leader' and node.parked_at == 0
  end
  for _, node in ipairs(list) do
    if node.down then
      io.stdout:write(('%d  %-21s down%s\n'):format(node.id, node.address, node.why and ': refused: ' .. node.why or ''))
    else
      io.stdout:write(('%d  %-21s %-9s term %d  commit %d  applied %d  lag %d  digest %s at %d%s\n'):format(
        node.id, node.address, node.role, node.term, node.commit, node.applied, commit - node.applied, node.digest,
        node.applied, node.parked_at > 0 and parked(node, others)
          or node.why and '  refused: ' .. node.why or ''))
    end
  end
  for _, node in ipairs(list) do
    local s = not node.down and node.snapshot
    if s and (s.index > 0 or s.doing ~= '' or s.failed ~= '') then
      local newest = s.index == 0 and 'no snapshot' or
        ('snapshot at %d, %d bytes, %d s old'):format(s.index, s.bytes, math.floor(s.age / 1000))
      io.stdout:write(('%d  %s, log after %d%s%s\n'):format(node.id, newest, node.base,
        s.doing ~= '' and ('; %s %d%%'):format(s.doing, s.percent) or '',
        s.failed ~= '' and '; failed: ' .. s.failed or ''))
    end
    if not node.down and node.agreed.differs then
      io.stdout:write(('%d  THIS NODE HAS ANOTHER STATE than the majority\n'):format(node.id))
    end
  end
  for _, node in ipairs(list) do
    if not node.down and node.service.mounts then
      local quota = node.service.limits.quota
      io.stdout:write(('state %d bytes in %d rows%s, %d sessions, %d timers%s\n'):format(node.quota_bytes, node.rows,
        quota > 0 and (' (quota %.0f bytes)'):format(quota) or '', node.sessions, node.timers,
        node.timers_failed > 0 and (', %d failed'):format(node.timers_failed) or ''))
      local names = {}
      for name in pairs(node.service.mounts) do names[#names + 1] = name end
      table.sort(names)
      for _, name in ipairs(names) do
        local mount = node.service.mounts[name]
        io.stdout:write(('mount %s: %s version %d, code %s\n'):format(name, mount.module, mount.version, mount.hash))
      end
      local refused = {}
      for name in pairs(node.service.refused or {}) do refused[#refused + 1] = name end
      table.sort(refused)
      for _, name in ipairs(refused) do
        io.stdout:write(('mount %s: REFUSED: %s\n'):format(name, node.service.refused[name]))
      end
      local policy = node.service.policy
      if policy.name ~= 'manual' then io.stdout:write(('policy %s version %d, code %s\n'):format(policy.name, policy.version, policy.hash)) end
      if policy.alarm then
        io.stdout:write(('policy %s FAILED, and is as manual until it is deployed anew: %s\n'):format(policy.name, policy.alarm))
      end
      local migration = node.service.migration
      if migration and migration.mount then
        io.stdout:write(('mount %s: is being migrated from version %d, %d steps so far; BUSY until then\n'):format(migration.mount,
          migration.from, migration.steps))
      elseif migration then
        local failed = migration.failed
        io.stdout:write(('mount %s: its last migration failed and was taken back: %s: %s\n'):format(failed.mount, failed.code,
          failed.message))
      end
      return
    end
  end
end

function status.run(options, rest, cli)
  if rest[1] then cli.stop(2, 'status takes no words') end
  local timeout = cli.number(options, 'timeout', 1, 600000) or 5000
  local deadline = sys.now() + timeout / 1000
  local list
  repeat
    list = status.gather(call.addresses(options), math.max(50, math.min(1000, (deadline - sys.now()) * 500)))
    if not options.wait or list and settled(list) then break end
    sys.sleep(0.05)
    if sys.now() >= deadline then
      cli.say('tidelock: not settled in time')
      return 3
    end
  until false
  if not list then cli.stop(3, 'no node answers at ', call.addresses(options)) end
  if options.json then
    io.stdout:write(wire.pack_json(wire.pack({ nodes = list })), '\n')
  else print_plain(list) end
  return 0
end

return status
