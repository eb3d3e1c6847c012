-- tidelock/report.lua: what happened to a cluster, as one HTML page: who led when, what was done to whom, what clients were told.
--
-- The page stands alone: no script, no font, nothing fetched. All text in it is escaped.
local report = {}

local WIDTH, LEFT, LANE, TOP = 1100, 90, 34, 30
local COLUMNS = 275 -- of the clients' lane, 4 wide
local MARKS_MAX = 2000

local colours = { leader = '#2b7a4b', candidate = '#d99a2b', ['pre-candidate'] = '#e6c27a', follower = '#9db4c8', forming = '#d7dde2',
  formed = '#d7dde2', down = '#ffffff' }

local escapes = { ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;', ['"'] = '&quot;', ["'"] = '&#39;' }

-- Text as it may stand in HTML and in its attributes.
function report.escape(text)
  return (tostring(text):gsub('[&<>"\']', escapes):gsub('[%z\1-\8\11-\31\127]', '?'))
end
local escape = report.escape

local function seconds(ms) return ('%.3f s'):format(ms / 1000) end

-- From what was seen of a node: a list of { from, to, role, term }.
local function spans(list, finish)
  local out = {}
  for i, one in ipairs(list) do
    out[i] = { from = one.at, to = list[i + 1] and list[i + 1].at or finish, role = one.role or 'down', term = one.term }
  end
  return out
end

local function node_lane(add, x, y, id, list, finish)
  add(('<text x="8" y="%d">node %d</text>'):format(y + 20, id))
  for _, span in ipairs(spans(list, finish)) do
    local from, width = x(span.from), math.max(0.5, x(span.to) - x(span.from))
    local what = ('node %d: %s%s, %s to %s'):format(id, span.role, span.term and ', term ' .. ('%.0f'):format(span.term) or '',
      seconds(span.from), seconds(span.to))
    add(('<rect x="%.2f" y="%d" width="%.2f" height="22" fill="%s" stroke="#778"%s><title>%s</title></rect>'):format(from, y + 4, width,
      colours[span.role] or '#eeeeee', span.role == 'down' and ' stroke-dasharray="3 3"' or ' stroke-opacity="0.3"', escape(what)))
    if span.role == 'leader' and width > 40 then
      add(('<text x="%.2f" y="%d" fill="#fff">term %.0f</text>'):format(from + 4, y + 20, span.term))
    end
  end
end

local function kind_of(call)
  if not call.ended or call.err and not call.err.definite then return 'unknown' end
  return call.err and 'refused' or 'ok'
end

-- How many calls ended when, and how: columns of a height by the most of them.
local function client_lane(add, y, calls, finish)
  local columns, most = {}, 1
  for _, call in ipairs(calls) do
    local at = math.min(COLUMNS, math.floor((call.ended or call.began) / finish * COLUMNS) + 1)
    local column = columns[at] or { ok = 0, refused = 0, unknown = 0 }
    columns[at] = column
    local kind = kind_of(call)
    column[kind] = column[kind] + 1
    most = math.max(most, column.ok + column.refused + column.unknown)
  end
  add(('<text x="8" y="%d">clients</text>'):format(y + 40))
  for i = 1, COLUMNS do
    local column, base = columns[i], y + 56
    for _, kind in ipairs { 'ok', 'refused', 'unknown' } do
      local count = column and column[kind] or 0
      if count > 0 then
        local height = math.max(1, count / most * 50)
        base = base - height
        add(('<rect x="%.2f" y="%.2f" width="3.5" height="%.2f" fill="%s"><title>%d %s</title></rect>'):format(
          LEFT + (i - 1) * (WIDTH - LEFT) / COLUMNS, base, height,
          kind == 'ok' and '#4a7fb5' or kind == 'refused' and '#d99a2b' or '#c0392b', count, kind))
      end
    end
  end
end

local function axis(add, x, y, finish)
  for i = 0, 10 do
    local at = finish * i / 10
    add(('<line x1="%.2f" y1="%d" x2="%.2f" y2="%d" stroke="#ccd"/><text x="%.2f" y="16" text-anchor="middle">%s</text>'):format(
      x(at), TOP - 8, x(at), y, x(at), escape(seconds(at))))
  end
end

local function marks(add, x, y, events)
  for i, event in ipairs(events) do
    if i > MARKS_MAX then break end
    local to = event.node and TOP + event.node * LANE or y
    local from = event.node and to - LANE or TOP
    local is_fault = event.kind ~= 'step' and event.kind ~= 'note'
    add(('<line x1="%.2f" y1="%d" x2="%.2f" y2="%d" stroke="%s" stroke-width="%s"><title>%s %s</title></line>'):format(x(event.at), from,
      x(event.at), to, is_fault and '#c0392b' or '#556', is_fault and '2' or '1', seconds(event.at), escape(event.text)))
  end
end

local function drawing(data)
  local finish = math.max(1, data.finish)
  local function x(at) return LEFT + at / finish * (WIDTH - LEFT - 10) end
  local lines, bottom = {}, TOP + #data.nodes * LANE
  local function add(line) lines[#lines + 1] = line end
  add(('<svg viewBox="0 0 %d %d" role="img">'):format(WIDTH, bottom + 70))
  axis(add, x, bottom + 60, finish)
  for id, list in ipairs(data.nodes) do node_lane(add, x, TOP + (id - 1) * LANE, id, list, finish) end
  client_lane(add, bottom, data.calls, finish)
  marks(add, x, bottom, data.events)
  add('</svg>')
  return table.concat(lines, '\n')
end

local function totals(calls)
  local count = { ok = 0, refused = 0, unknown = 0 }
  for _, call in ipairs(calls) do count[kind_of(call)] = count[kind_of(call)] + 1 end
  return ('Calls: %d ok, %d refused, %d with an unknown outcome.'):format(count.ok, count.refused, count.unknown)
end

-- data: title, mode, seed (of mode sim), finish (ms), nodes (for each a list of { at, role, term }), events ({ at, kind, text, node }),
-- calls (as tidelock.calls keeps them) -> the page
function report.page(data)
  local rows = {}
  for i, event in ipairs(data.events) do
    if i > MARKS_MAX then
      rows[#rows + 1] = ('<tr><td></td><td></td><td>%d more</td></tr>'):format(#data.events - MARKS_MAX)
      break
    end
    rows[#rows + 1] = ('<tr class="%s"><td>%s</td><td>%s</td><td>%s</td></tr>'):format(escape(event.kind), seconds(event.at),
      escape(event.kind), escape(event.text))
  end
  local world = data.mode == 'sim' and ('on virtual time, seed %.0f'):format(data.seed) or 'on real processes'
  return ([[<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title><style>
body { font: 14px/1.4 sans-serif; margin: 2em; color: #223; } svg { width: 100%%; font: 11px sans-serif; }
td { padding: 0 1em 0 0; vertical-align: top; } td:first-child { font-variant-numeric: tabular-nums; text-align: right; }
tr.step td { font-weight: bold; padding-top: 0.5em; } b { font-weight: normal; padding: 0 0.4em; border: 1px solid #889; }
</style></head><body><h1>%s</h1>
<p>%d nodes %s, %s. %s</p>
<p><b style="background:#2b7a4b;color:#fff">leader</b> <b style="background:#d99a2b">candidate</b>
<b style="background:#9db4c8">follower</b> <b style="border-style:dashed">down</b>; red lines: faults. Point at something to read it.</p>
%s
<table>
%s
</table></body></html>
]]):format(escape(data.title), escape(data.title), #data.nodes, world, seconds(data.finish), totals(data.calls), drawing(data),
    table.concat(rows, '\n'))
end

return report
