-- cli/replay.lua: `log replay`: applies a stopped node's log once more, and once with other code.
--
-- Which entries count is known only at the log's end, for a cut drops what was there: so the log is read twice. Entries at its end
-- may never have been committed: this node cannot tell.
local node, wire, machine, deploy, log = require 'tidelock.node', require 'tidelock.wire', require 'tidelock.machine',
  require 'tidelock.deploy', require 'cli.log'

local replay = {}

-- The number of the record that counts, by index, and the index of the entry that each SKIP names.
local function survey(dir, cli)
  local count, last, counts, skips = 0, 0, {}, {}
  local function record(_, _, index, _, _, kind, payload)
    count = count + 1
    counts[index], last = count, index
    if kind == 'skip' then
      local ok, list = wire.unpack(payload)
      skips[index] = ok and list[1] or nil
    end
    return true
  end
  local function frame(_, _, kind, first, end_index)
    if kind == 'cut' then
      for index = first, last do counts[index], skips[index] = nil, nil end
      last = math.min(last, end_index)
    elseif kind == 'reset' then
      counts, skips, last = {}, {}, end_index
    end
    return true
  end
  local ok, why = node.walk_log(dir, record, frame)
  if not ok then cli.stop(1, why) end
  return counts, skips, last
end

-- A machine of the newest snapshot, or of nothing; and the index that it has applied.
local function begin(dir, cli)
  local snapshots, why = node.snapshots(dir)
  if not snapshots then cli.stop(1, why) end
  for _, snapshot in ipairs(snapshots) do
    if not snapshot.damaged then
      local m, wrong = machine.open(dir, snapshot.index)
      if not m then cli.stop(1, wrong) end
      return m, snapshot.index
    end
  end
  return machine.open(), 0
end

-- Puts the other code in force, once its mount is there. -> whether it is
local function put_other(m, other, cli, index)
  if not m:has(other.mount) then return false end
  local ok, err = m:put_code(other.bundle)
  if ok then return true end
  local _, map = wire.unpack(err)
  cli.stop(1, ('%s cannot take over after entry %.0f: %s: %s'):format(other.path, index, map.code, map.message))
end

local function shown(ok, answer)
  if ok == nil then return '' end
  if ok then return wire.pack_json(answer) end
  local _, map = wire.unpack(answer)
  return ('%s: %s'):format(map.code, map.message or '')
end

local function show(options, index, kind, payload, ok, answer, other_ok, other_answer)
  local what = log.describe(kind, payload)
  if options.json then
    local with = other_answer and (',"with":%s,"with_ok":%s'):format(wire.pack_json(other_answer), tostring(other_ok)) or ''
    io.stdout:write(('{"index":%.0f,"kind":"%s","what":%s,"ok":%s,"answer":%s%s}\n'):format(index, kind, wire.pack_json(wire.pack(what)),
      tostring(ok == nil and 'null' or ok), answer and wire.pack_json(answer) or 'null', with))
  elseif other_answer then
    io.stdout:write(('%6.0f  %s\n        was  %s\n        with %s\n'):format(index, log.cut(what), log.cut(shown(ok, answer)),
      log.cut(shown(other_ok, other_answer))))
  else
    io.stdout:write(('%6.0f  %-8s %s%s\n'):format(index, kind, log.cut(what), ok ~= nil and '  -> ' .. log.cut(shown(ok, answer)) or ''))
  end
end

-- What these entries had the policy, or whoever asked, decide; and that the policy failed at one.
local asked = { membership = true, observation = true }
local alarm

local function show_decision(options, m, index)
  local _, told = wire.unpack((m:membership()))
  local d = told.decision
  if d and d.index == index and not options.json then
    local changes = {}
    for i, c in ipairs(d.changes) do changes[i] = c[1] .. ' ' .. ('%.0f'):format(c[2]) .. (c[3] > 0 and (' with %.0f'):format(c[3]) or '') end
    io.stdout:write(('        decided by %s%s: %s: %s\n'):format(d.by, d.force and ' (forced)' or '', table.concat(changes, ', '), d.why))
  elseif d and d.index == index then
    io.stdout:write(('{"index":%.0f,"decision":%s}\n'):format(index, wire.pack_json(wire.pack(d))))
  end
  if told.alarm and told.alarm ~= alarm and not options.json then
    io.stdout:write(('        the policy %s failed: %s\n'):format(told.policy, told.alarm))
  end
  alarm = told.alarm
end

local function deploys(payload, mount)
  local ok, facts = wire.unpack_first(payload)
  return ok and facts.mount == mount
end

local compared = { command = true, batch = true }

function replay.run(options, dir, cli)
  local other, why
  if options.with then
    other, why = deploy.build(options.with)
    if not other then cli.stop(1, why) end
  end
  local counts, skips, last = survey(dir, cli)
  local m, applied = begin(dir, cli)
  local with = other and begin(dir, cli)
  local placed = with and put_other(with, other, cli, applied)
  for index, skipped in pairs(skips) do
    if index > applied and skipped > applied then
      m:note_skip(skipped)
      if with then with:note_skip(skipped) end
    end
  end
  local count, changed, compared_count, parked = 0, 0, 0, nil
  local ok, wrong = node.walk_log(dir, function(_, _, index, _, _, kind, payload, record)
    count = count + 1
    if counts[index] ~= count or index <= applied then return true end
    local good, answer = m:apply_record(record)
    if good == nil and answer then
      parked = ('entry %.0f parks a node: %s'):format(index, answer)
      return false
    end
    if not with then
      show(options, index, kind, payload, good, answer)
      if asked[kind] then show_decision(options, m, index) end
      return true
    end
    if kind == 'deploy' and deploys(payload, other.mount) then with:note_skip(index) end -- in its place, the other code stays
    local with_good, with_answer = with:apply_record(record)
    if with_good == nil and with_answer then
      parked = ('entry %.0f parks a node with %s: %s'):format(index, other.path, with_answer)
      return false
    end
    if compared[kind] then
      compared_count = compared_count + 1
      if good ~= with_good or answer ~= with_answer then
        changed = changed + 1
        show(options, index, kind, payload, good, answer, with_good, with_answer)
      end
    end
    if not placed then placed = put_other(with, other, cli, index) end
    return true
  end, function() return true end)
  if not ok then cli.stop(1, wrong) end
  if parked then cli.stop(1, parked) end
  if with and not placed then cli.stop(5, 'no mount ', other.mount, ' ever was in this log') end
  if with then
    cli.say(('%d of %d commands would have had another answer with %s'):format(changed, compared_count, other.path))
  else
    cli.say(('entries %.0f to %.0f; those at the end may never have been committed'):format(applied + 1, last))
  end
  return changed > 0 and 1 or 0
end

return replay
