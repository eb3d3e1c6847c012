-- The tables in spec/README.md, of known bugs and of what async-raft tests and gets wrong, account for every one once, and name files
-- that are there and say so.
local function slurp(path)
  local file = assert(io.open(path), path .. ' is not there')
  local text = file:read('*a')
  file:close()
  return text
end

local function files_of(pattern)
  local pipe = io.popen('ls ' .. pattern .. ' 2>/dev/null')
  local text = pipe:read('*a')
  pipe:close()
  return text
end

local readme = slurp('spec/README.md')

-- The rows of the table whose head begins so: { { first cell, second cell }... }
local function rows_of(head)
  local rows = {}
  local body = assert(readme:match('\n| ' .. head .. ' |[^\n]*\n|[-|]+\n(.-)\n\n'), head)
  for line in (body .. '\n'):gmatch('([^\n]*)\n') do
    local first, second = line:match('^| (.-) | (.*) |$')
    rows[#rows + 1] = { assert(first, line), second }
  end
  return rows
end

-- "1, 3 to 5" and "S1, S3 to S5": the numbers.
local function numbers_of(cell)
  local list = {}
  for part in (cell .. ','):gmatch('%s*(.-)%s*,') do
    local from, to = part:match('^S?(%d+) to S?(%d+)$')
    from = from or part:match('^S?(%d+)$')
    assert(from, 'neither a number nor numbers: ' .. part)
    for n = tonumber(from), tonumber(to or from) do list[#list + 1] = n end
  end
  return list
end

local function each_once(head, last)
  local seen = {}
  for _, row in ipairs(rows_of(head)) do
    for _, n in ipairs(numbers_of(row[1])) do
      assert(not seen[n], head .. ' ' .. n .. ' stands there twice')
      seen[n] = row[2]
    end
  end
  for n = 1, last do assert(seen[n], head .. ' ' .. n .. ' is unaccounted for') end
  assert.equal(last, #seen)
  return seen
end

-- A spec in Lua says which bugs it shows: "bug 7", "bugs 7, 9".
local function says(path, n)
  for list in slurp(path):gmatch('%(?bugs? ([%d, ]+)%)') do
    for number in list:gmatch('%d+') do
      if tonumber(number) == n then return true end
    end
  end
  return false
end

local function holds(n, cell)
  local named = 0
  if cell:find('its file', 1, true) then
    named = named + 1
    assert.truthy(files_of(('spec/scenario/%03d_*.txt'):format(n)):find('txt'), 'no scenario ' .. n)
  end
  for path in cell:gmatch('`([^`]*%.%a+)`') do
    if path:find('%.txt$') then assert.truthy(files_of('spec/scenario/' .. path):find('txt'), path)
    elseif not path:find('NUMBER') then slurp(path) end
  end
  return named
end

describe('the table of known bugs', function()
  it('accounts for each of the 113 once, by files that say so, or by what it waits for', function()
    for n, cell in ipairs(each_once('number', 113)) do
      local shown = holds(n, cell)
      for path in cell:gmatch('`(spec/[^`]*_spec%.lua)`') do
        -- A row may name a file for some of its numbers only: "67 also".
        local only = cell:match('(%d+) also `' .. path:gsub('%p', '%%%0') .. '`')
        if not only or tonumber(only) == n then
          assert(says(path, n), ('%s does not say "bug %d"'):format(path, n))
          shown = shown + 1
        end
      end
      assert(shown > 0 or cell:find('^waits for '), 'bug ' .. n .. ' is neither shown nor waits for anything')
    end
  end)

  it('has a row for each scenario that is named by its number', function()
    local table_of = each_once('number', 113)
    for number in files_of('spec/scenario/[0-9]*.txt'):gmatch('/(%d+)_') do
      assert.truthy(table_of[tonumber(number)]:find('its file', 1, true), number)
    end
  end)
end)

describe('the table of async-raft', function()
  it('accounts for each of its ten tests once', function()
    local seen = {}
    for _, row in ipairs(rows_of('test')) do
      for name in row[1]:gmatch('`(%g-)`') do
        assert(not seen[name], name)
        seen[name] = true
        local path = row[2]:match('^`(%g-)`')
        if path then assert.truthy(slurp(path):find('function tests.' .. name .. '(', 1, true), name)
        else assert.truthy(row[2]:find('^waits for '), name) end
      end
    end
    for _, name in ipairs { 'initialization', 'singlenode', 'client_writes', 'client_reads', 'current_leader', 'compaction',
      'dynamic_membership', 'stepdown', 'non_voter_restart', 'shutdown' } do
      assert(seen[name], name)
      seen[name] = nil
    end
    assert.same({}, seen)
  end)

  it('accounts for each of its 18 defects once', function()
    for n, cell in ipairs(each_once('defect', 18)) do
      local path = cell:match('^`(spec/%g-_spec%.lua)`')
      if cell:find('sNN', 1, true) then assert.truthy(files_of(('spec/scenario/s%02d_*.txt'):format(n)):find('txt'), 'S' .. n)
      elseif path then assert.truthy(slurp(path):find('%(S' .. n .. '[,)]'), 'S' .. n)
      else assert.truthy(cell:find('^waits for '), 'S' .. n) end
    end
  end)
end)
