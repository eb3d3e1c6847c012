-- cli/log.lua: looks into a stopped node's log.
local node, wire = require 'tidelock.node', require 'tidelock.wire'

local log = {}

-- What an entry holds, for people.
function log.describe(kind, payload)
  if kind == 'command' then
    local head = payload:byte(1)
    local skip = head >= 0xA0 and head < 0xC0 and 1 + head - 0xA0 or head == 0xD9 and 2 + payload:byte(2) or nil
    if skip then
      local ok, name = wire.unpack(payload:sub(1, skip))
      return (ok and name or '?') .. ' ' .. (wire.pack_json(payload:sub(skip + 1)) or '?')
    end
  elseif kind == 'batch' or kind == 'configuration' or kind == 'membership' or kind == 'observation' then return wire.pack_json(payload) or '?'
  elseif kind == 'deploy' then
    local ok, facts, bundle = wire.unpack_first(payload)
    return ok and wire.pack_json(wire.pack(facts)) .. ' ' .. #bundle .. ' bytes of code' or '?'
  elseif kind == 'migrate' then return (select(2, wire.unpack(payload)))
  elseif kind == 'bundle' then return #payload .. ' bytes of code' end
  return ''
end

function log.cut(text) return #text > 160 and text:sub(1, 157) .. '...' or text end

local command = {
  describe = log.describe, cut = log.cut,
  summary = "look into a stopped node's log",
  usage = [[
tidelock log cat DIR       its entries, one a line (--json: whole), and the snapshots beside it
tidelock log verify DIR    every checksum and number, of the snapshots too; exit 1 with file and offset if something is damaged
tidelock log replay DIR    what each entry answers when it is applied again (--json: whole), from the newest snapshot on

  --with [MOUNT=]FILE      replay: the commands whose answers would have been others had this code been in force in place
                           of its mount's from the beginning; exit 1 if there are any]],
  options = { json = 'flag', with = 'value' },
  run = function(options, words, cli)
    local what, dir = words[1], words[2]
    if what == 'replay' and dir and not words[3] then return require('cli.replay').run(options, dir, cli) end
    if (what ~= 'cat' and what ~= 'verify') or not dir or words[3] or options.with then
      cli.stop(2, 'log cat DIR, log verify DIR, or log replay DIR [--with FILE]')
    end
    local records, frames = 0, 0
    local function record(file, offset, index, term, stamp, kind, payload)
      records = records + 1
      if what == 'cat' and options.json then
        io.stdout:write(('{"index":%.0f,"term":%.0f,"stamp":%.0f,"kind":"%s","file":"%s","offset":%.0f,"payload":%s}\n')
          :format(index, term, stamp, kind, file, offset, wire.pack_json(wire.pack(log.describe(kind, payload)))))
      elseif what == 'cat' then
        io.stdout:write(('%6.0f  term %-3.0f %-13.0f %-13s %s\n'):format(index, term, stamp, kind,
          log.cut(log.describe(kind, payload))))
      end
      return true
    end
    local base
    local function tell(...)
      if what == 'cat' and not options.json then io.stdout:write('        ', string.format(...), '\n') end
    end
    local function frame(_, _, kind, first, last)
      if kind == 'segment' then
        if not base and last > 0 then tell('base: the log begins after entry %.0f', last) end
        base = base or last
        return true
      end
      frames = frames + 1
      if kind == 'cut' then
        tell('cut: entries from %.0f on were dropped, the log ended at %.0f', first, last)
        base = math.min(base, last)
      elseif kind == 'reset' then
        tell('reset: all entries were dropped for a snapshot, the log goes on after %.0f', last)
        base = last
      end
      return true
    end
    local ok, torn, term, voted = node.walk_log(dir, record, frame)
    if not ok then
      cli.say('tidelock: ', torn)
      return 1
    end
    local snapshots, why = node.snapshots(dir)
    if not snapshots then
      cli.say('tidelock: ', why)
      return 1
    end
    for _, snapshot in ipairs(snapshots) do
      tell('snapshot: %s holds what entries up to %.0f made, %.0f bytes%s', snapshot.file, snapshot.index, snapshot.bytes,
        snapshot.damaged and '; it is damaged: ' .. snapshot.damaged or '')
    end
    local newest, wrong = snapshots[1] and snapshots[1].index or 0, nil
    for _, snapshot in ipairs(snapshots) do wrong = wrong or snapshot.damaged end
    if not wrong and (base or 0) > newest then
      wrong = ('the log begins after entry %.0f, but the newest snapshot here ends with entry %.0f: what lies between is gone')
        :format(base, newest)
    end
    if wrong then
      cli.say('tidelock: ', wrong)
      return 1
    end
    if what == 'verify' then
      io.stdout:write(('%d entries in %d frames, all whole; term %.0f, voted for %.0f%s\n'):format(records, frames, term,
        voted, torn and '; ' .. torn .. ': the last write is not whole: a crash cut it short, and it was never acknowledged, or it '
          .. 'was damaged since' or ''))
      if #snapshots > 0 then
        io.stdout:write(('%d snapshots, all whole; the newest holds what entries up to %.0f made\n'):format(#snapshots,
          newest))
      end
    end
    return 0
  end,
}

return command
