-- failover.lua: what failover.sh found, as a table. Ends with 1 if a run failed, or a write was lost or done twice.
--
--   tidelock run spec/bench/peers/failover.lua failover.jsonl failover.txt
local rows = {
  { 'leader killed', 'kill', 'gap_ms' }, { 'leadership transferred', 'transfer', 'gap_ms' },
  { 'the command for it, program included', 'transfer', 'command_ms' }, { 'nothing happens', nil, 'before_ms' },
}
local shares = { 0, 0.5, 0.9, 0.99, 1 }
local runs, peers, loads, wrong, ended = {}, {}, {}, {}, {}

local function sum(peer, name, kind)
  local total = 0
  for _, run in ipairs(runs[peer]) do
    if not kind or run.kind == kind then total = total + run[name] end
  end
  return total
end

local function read(path)
  for line in io.lines(path) do
    local run = { kind = line:match('"kind":"(%l+)"'), peer = line:match('"peer":"(%l+)"') }
    for name, value in line:gmatch('"([%w_]+)":(-?[%d.]+)') do run[name] = tonumber(value) end
    if run.lost > 0 or run.doubled > 0 then
      wrong[#wrong + 1] = ('%s, %s %d: %d lost, %d done twice'):format(run.peer, run.kind, run.run, run.lost, run.doubled)
    end
    if run.kind == 'end' then ended[run.peer] = run
    else
      if not runs[run.peer] then
        runs[run.peer] = {}
        peers[#peers + 1] = run.peer
      end
      table.insert(runs[run.peer], run)
      loads[#loads + 1] = run.load1
      if run.exit ~= 0 or run.from == run.to then
        wrong[#wrong + 1] = ('%s, %s %d: ended with %d, node %d led and then %d'):format(run.peer, run.kind, run.run, run.exit,
          run.from, run.to)
      end
    end
  end
end

-- Nearest rank, of a list in order.
local function at(list, share) return list[math.max(1, math.ceil(share * #list))] end

local function values(peer, kind, name)
  local list = {}
  for _, run in ipairs(runs[peer]) do
    if not kind or run.kind == kind then list[#list + 1] = run[name] end
  end
  table.sort(list)
  return list
end

local function print_table()
  print('| ms | | min | p50 | p90 | p99 | max |\n|---|---|---|---|---|---|---|')
  for _, row in ipairs(rows) do
    local lists, label = {}, row[1]
    for i, peer in ipairs(peers) do
      lists[i] = values(peer, row[2], row[3])
      local cells = {}
      for j, share in ipairs(shares) do cells[j] = ('%.1f'):format(at(lists[i], share)) end
      print(('| %s | %s | %s |'):format(label, peer, table.concat(cells, ' | ')))
      label = ''
    end
    if #lists == 2 then
      local cells = {}
      for j, share in ipairs(shares) do cells[j] = ('**%.2f**'):format(at(lists[1], share) / at(lists[2], share)) end
      print(('| | %s / %s | %s |'):format(peers[1], peers[2], table.concat(cells, ' | ')))
    end
  end
end

read(arg[1])
print('The longest time between two acknowledged writes, of a client that writes to one node after the other each millisecond;'
  .. '\nand what the command took. Below 1 tidelock is quicker.\n')
print_table()
print('\nConditions:\n')
for line in io.lines(arg[2]) do print(line) end
table.sort(loads)
print(('- load average of the last minute, at each run: %.2f to %.2f, in the middle %.2f'):format(loads[1], loads[#loads],
  at(loads, 0.5)))
for _, peer in ipairs(peers) do
  local last, pauses = ended[peer], values(peer, nil, 'pause_ms')
  print(('- %s: %d kills and transfers, %d writes acknowledged of %d, %d refused; %s; the client itself stood still for %.1f ms (p50),'
    .. ' %.1f (p99), %.1f (max) in its runs'):format(peer, #runs[peer], sum(peer, 'acknowledged'), sum(peer, 'sent'),
    sum(peer, 'refused'), last and ('in the end %d there, lost %d, done twice %d'):format(last.here, last.lost, last.doubled)
      or 'NOT LOOKED AT in the end', at(pauses, 0.5), at(pauses, 0.99), at(pauses, 1)))
  if not last then wrong[#wrong + 1] = peer .. ': the runs did not come to their end' end
end
if #wrong > 0 then print('- NOT CLEAN: ' .. table.concat(wrong, '; ')) end
return #wrong == 0 and 0 or 1
