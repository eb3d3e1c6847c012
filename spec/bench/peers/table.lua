-- table.lua: what run.sh found, as one table: figures, and tidelock / peer for each round's pair of runs.
--
--   tidelock run spec/bench/peers/table.lua results.jsonl conditions.txt
local names = { etcd = 'etcd', libraft = 'C raft', redis = 'Redis, one node' }
local peers, rows, seen, runs, limits, others, bad = {}, {}, {}, {}, {}, {}, {}

local function add(to, key, value)
  to[key] = to[key] or {}
  table.insert(to[key], value)
end

-- middle, lowest, highest
local function spread(list)
  local sorted = {}
  for i, value in ipairs(list or {}) do sorted[i] = value end
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return nil end
  return (sorted[math.floor((n + 1) / 2)] + sorted[math.floor(n / 2) + 1]) / 2, sorted[1], sorted[n]
end

local function thousands(number)
  local text = ('%.0f'):format(number)
  local more
  repeat text, more = text:gsub('^(%d+)(%d%d%d)', '%1,%2') until more == 0
  return text
end

local function read(path)
  for line in io.lines(path) do
    local function field(name) return tonumber(line:match('"' .. name .. '":([-%d.]+)')) end
    local limit, peer = line:match('"limit":"([%w_]+)"'), line:match('"peer":"(%w+)"')
    if limit then add(limits, limit, field('p50_us')) end
    if peer then
      local outstanding = field('outstanding')
      local key = peer .. ' ' .. outstanding
      if not seen[peer] and peer ~= 'tidelock' then peers[#peers + 1] = peer end
      if not seen[outstanding] then rows[#rows + 1] = outstanding end
      seen[peer], seen[outstanding] = true, true
      add(runs, key, { round = field('round'), rate = field('ops_s'), p50 = field('p50_us'), p99 = field('p99_us'),
        other = field('other_cpu') })
      add(others, 1, field('other_cpu'))
      local lost = field('errors') + field('unanswered')
      if lost > 0 then bad[#bad + 1] = ('%s at %d, round %d: %d'):format(peer, outstanding, field('round'), lost) end
    end
  end
end

local function middle(key, name)
  local list = {}
  for i, run in ipairs(runs[key] or {}) do list[i] = run[name] end
  return (spread(list))
end

-- A run beside which others used half a core or more says little.
local function disturbed(key)
  for _, run in ipairs(runs[key]) do
    if run.other >= 0.5 then return true end
  end
  return false
end

local function figures(key)
  if not runs[key] then return '-' end
  return ('%s (%s, %s)%s'):format(thousands(middle(key, 'rate')), thousands(middle(key, 'p50')), thousands(middle(key, 'p99')),
    disturbed(key) and ' *' or '')
end

local function ratio(peer, outstanding)
  local list, ours = {}, {}
  for _, run in ipairs(runs['tidelock ' .. outstanding] or {}) do ours[run.round] = run.rate end
  for _, run in ipairs(runs[peer .. ' ' .. outstanding] or {}) do
    if ours[run.round] then list[#list + 1] = ours[run.round] / run.rate end
  end
  local mid, low, high = spread(list)
  if not mid then return '-' end
  return #list == 1 and ('**%.2f**'):format(mid) or ('**%.2f** (%.2f to %.2f)'):format(mid, low, high)
end

local function print_table()
  local heads, rule = { 'outstanding', 'tidelock' }, { '---', '---' }
  for _, peer in ipairs(peers) do
    for _, head in ipairs { names[peer] or peer, 'tidelock / ' .. (names[peer] or peer) } do
      heads[#heads + 1], rule[#rule + 1] = head, '---'
    end
  end
  print('| ' .. table.concat(heads, ' | ') .. ' |\n|' .. table.concat(rule, '|') .. '|')
  for _, outstanding in ipairs(rows) do
    local cells = { thousands(outstanding), figures('tidelock ' .. outstanding) }
    for _, peer in ipairs(peers) do
      cells[#cells + 1] = figures(peer .. ' ' .. outstanding)
      cells[#cells + 1] = ratio(peer, outstanding)
    end
    print('| ' .. table.concat(cells, ' | ') .. ' |')
  end
end

-- The aim (DESIGN): p50 at one client < 1.5 x (one synced append + two round trips). A round trip has two costs: between
-- processes on one core, and across cores, where an idle one has to wake. The first makes the harder aim.
local function print_aim()
  local p50 = middle('tidelock 1', 'p50')
  if not (p50 and limits.trip_1) then return end
  print(('\np50 of tidelock with one outstanding: %.0f us. The aim is less than 1.5 x (one synced append + two round trips).\n')
    :format(p50))
  print('| synced append, us | round trip, us | aim, us | p50 / (append + two trips) | |\n|---|---|---|---|---|')
  for _, writers in ipairs { { 'append_3', 'three writers at once, as three nodes on one disk' }, { 'append_1', 'one writer' } } do
    for _, cores in ipairs { { 'trip_1', 'on one core' }, { 'trip_2', 'across cores' } } do
      local append, trip = spread(limits[writers[1]]), spread(limits[cores[1]])
      local floor = append + 2 * trip
      print(('| %.1f, %s | %.1f, %s | %.0f | %.2f | %s |'):format(append, writers[2], trip, cores[2], 1.5 * floor, p50 / floor,
        p50 < 1.5 * floor and 'reached' or 'missed'))
    end
  end
end

read(arg[1])
print('Durable commands a second (p50, p99 in us), and tidelock / peer from runs right beside each other; above 1 tidelock is ahead.\n'
  .. '* beside a run of it something else used half a core or more.\n')
print_table()
print_aim()
print('\nConditions:\n')
for line in io.lines(arg[2]) do print(line) end
local mid, _, high = spread(others[1])
if mid then print(('- CPU beside peer and client (the kernel\'s own threads included): %.2f cores, at most %.2f'):format(mid, high)) end
if #bad > 0 then print('- NOT CLEAN, refused or unanswered requests: ' .. table.concat(bad, '; ')) end
