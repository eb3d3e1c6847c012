-- cli/log.lua: looks into a stopped node's log.
local node, wire = require 'tidelock.node', require 'tidelock.wire'

local function describe(kind, payload)
  if kind == 'command' then
    local head = payload:byte(1)
    local skip = head >= 0xA0 and head < 0xC0 and 1 + head - 0xA0 or head == 0xD9 and 2 + payload:byte(2) or nil
    if skip then
      local ok, name = wire.unpack(payload:sub(1, skip))
      return (ok and name or '?') .. ' ' .. (wire.pack_json(payload:sub(skip + 1)) or '?')
    end
  elseif kind == 'batch' or kind == 'configuration' then return wire.pack_json(payload) or '?'
  elseif kind == 'bundle' then return #payload .. ' bytes of code' end
  return ''
end

local function cut(text) return #text > 160 and text:sub(1, 157) .. '...' or text end

return {
  summary = "look into a stopped node's log",
  usage = [[
tidelock log cat DIR       its entries, one a line (--json: whole)
tidelock log verify DIR    every checksum and number; exit 1 with file and offset if something is damaged]],
  options = { json = 'flag' },
  run = function(options, words, cli)
    local what, dir = words[1], words[2]
    if (what ~= 'cat' and what ~= 'verify') or not dir or words[3] then cli.stop(2, 'log cat DIR, or log verify DIR') end
    local records, frames = 0, 0
    local function record(file, offset, index, term, stamp, kind, payload)
      records = records + 1
      if what == 'cat' and options.json then
        io.stdout:write(('{"index":%.0f,"term":%.0f,"stamp":%.0f,"kind":"%s","file":"%s","offset":%.0f,"payload":%s}\n')
          :format(index, term, stamp, kind, file, offset, wire.pack_json(wire.pack(describe(kind, payload)))))
      elseif what == 'cat' then
        io.stdout:write(('%6.0f  term %-3.0f %-13.0f %-13s %s\n'):format(index, term, stamp, kind,
          cut(describe(kind, payload))))
      end
      return true
    end
    local function frame(_, _, kind, first, last)
      frames = frames + 1
      if what == 'cat' and kind == 'cut' and not options.json then
        io.stdout:write(('        cut: entries from %.0f on were dropped, the log ended at %.0f\n'):format(first, last))
      end
      return true
    end
    local ok, torn, term, voted = node.walk_log(dir, record, frame)
    if not ok then
      cli.say('tidelock: ', torn)
      return 1
    end
    if what == 'verify' then
      io.stdout:write(('%d entries in %d frames, all whole; term %.0f, voted for %.0f%s\n'):format(records, frames, term,
        voted, torn and '; ' .. torn .. ': the last write is not whole: a crash cut it short, and it was never acknowledged, or it '
          .. 'was damaged since' or ''))
    end
    return 0
  end,
}
