-- tidy_spec.lua: the shape of the source is tested: floors, doors, purity, sizes.
local function lines_of(command)
  local out, pipe = {}, assert(io.popen(command))
  for line in pipe:lines() do out[#out + 1] = line end
  pipe:close()
  return out
end

-- What each room may include, beside itself (DESIGN: an include points down only).
local below = {
  base = '', raft = 'base', state = 'base', wire = 'base raft', storage = 'base raft wire', script = 'base state wire',
  machine = 'base raft state wire script', replica = 'base raft state wire storage script machine', net = 'base raft wire',
  node = 'base raft state wire storage script machine replica net',
  sim = 'base raft state wire storage script machine replica',
  cli = 'base raft state wire storage script machine replica net node sim',
}

-- Each foreign library has one door.
local doors = { ['ev.h'] = 'net node', ['lua.h'] = 'script cli', ['lauxlib.h'] = 'script cli', ['lualib.h'] = 'script cli',
  ['luajit.h'] = 'script cli', ['pthread.h'] = 'node', ['threads.h'] = 'node', ['xxhash.h'] = 'base' }

local sources = lines_of("find src -name '*.[ch]' | sort")

local function each_line(f)
  for _, path in ipairs(sources) do
    local number = 0
    for line in io.lines(path) do
      number = number + 1
      f(path, number, line)
    end
  end
end

local function has(list, word) return (' ' .. list .. ' '):find(' ' .. word .. ' ', 1, true) ~= nil end

describe('the source', function()
  it('includes downward only', function()
    local wrong = {}
    each_line(function(path, number, line)
      local room, to = path:match('^src/(%w+)/'), line:match('^#include "(%w+)/')
      if to and to ~= room and not has(below[room], to) then wrong[#wrong + 1] = path .. ':' .. number .. ' ' .. line end
    end)
    assert.same({}, wrong)
  end)

  it('reaches each library through its door', function()
    local wrong = {}
    each_line(function(path, number, line)
      local room, header = path:match('^src/(%w+)/'), line:match('^#include <([%w/_.]+)>')
      if header and doors[header] and not has(doors[header], room) then wrong[#wrong + 1] = path .. ':' .. number .. ' ' .. header end
      if header and header:find('^msgpack') and room ~= 'wire' then wrong[#wrong + 1] = path .. ':' .. number .. ' ' .. header end
    end)
    assert.same({}, wrong)
  end)

  it('keeps raft/ and state/ pure: no symbol but their own, base, and memcpy and its kin', function()
    local build = os.getenv('TIDELOCK_BUILD') or 'build/release'
    for _, room in ipairs { 'raft', 'state' } do
      local allowed, wrong = { memcpy = true, memmove = true, memset = true, memcmp = true, _GLOBAL_OFFSET_TABLE_ = true,
        __stack_chk_fail = true }, {}
      for _, line in ipairs(lines_of(('nm --defined-only %s/%s/*.o %s/base/*.o'):format(build, room, build))) do
        local name = line:match('^%x+ [TDBR] (.+)$')
        if name then allowed[name] = true end
      end
      for _, line in ipairs(lines_of(('nm -u %s/%s/*.o'):format(build, room))) do
        local name = line:match('^%s+U (.+)$')
        if name and not allowed[name] then wrong[#wrong + 1] = room .. ' ' .. name end
      end
      assert.same({}, wrong)
    end
  end)

  it('plants the bugs that spec/sim/mutants.lua lists, each once there', function()
    local planted, listed = {}, {}
    each_line(function(path, _, line)
      if path == 'src/base/mutant.h' then return end
      for n in line:gmatch('MUTANT%((%d+)%)') do planted[tonumber(n)] = true end
    end)
    for line in io.lines('spec/sim/mutants.lua') do
      local n = tonumber(line:match('^  { (%d+), .* },$'))
      if n then
        assert(not listed[n], n)
        listed[n] = true
      end
    end
    assert.same(planted, listed)
  end)

  -- Names of source files stand in the debugger's part, which nothing loads.
  it('leaves nothing of them in the binary', function()
    local build = os.getenv('TIDELOCK_BUILD') or 'build/release'
    for _, file in ipairs { build .. '/tidelock', build .. '/libcore.so' } do
      local symbols, wrong = lines_of('nm ' .. file), {}
      assert(#symbols > 1000, 'nm says nothing of ' .. file)
      for _, line in ipairs(symbols) do
        if line:lower():find('mutant') then wrong[#wrong + 1] = line end
      end
      for _, line in ipairs(lines_of('strings -d ' .. file)) do
        if line:lower():find('mutant') then wrong[#wrong + 1] = line end
      end
      assert.same({}, wrong, file)
    end
    assert.same({}, lines_of('nm ' .. build .. '/base/mutant.o 2>/dev/null'))
  end)

  it('allocates through base/ alone', function()
    local wrong = {}
    each_line(function(path, number, line)
      if not path:find('^src/base/') and (line:find('[^_%w]malloc%(') or line:find('[^_%w]calloc%(')
        or line:find('[^_%w]realloc%(') or line:find('[^_%w]abort%(')) then wrong[#wrong + 1] = path .. ':' .. number end
    end)
    assert.same({}, wrong)
  end)

  it('has no file over 600 lines and no function over 75', function()
    local wrong = {}
    for _, path in ipairs(sources) do
      local number, start, name = 0, nil, nil
      for line in io.lines(path) do
        number = number + 1
        if line:find('^[%a].*%)$') or line:find('^[%a].*[,(]$') then name = line end
        if line:find('^{') then start = number end
        if line:find('^}') and start then
          if number - start > 75 and path:find('%.c$') then wrong[#wrong + 1] = path .. ': ' .. tostring(name) end
          start = nil
        end
      end
      if number > 600 then wrong[#wrong + 1] = path .. ': ' .. number .. ' lines' end
    end
    assert.same({}, wrong)
  end)

  it('begins each file with a comment that names it, and has no tabs or trailing blanks', function()
    local wrong = {}
    each_line(function(path, number, line)
      if number == 1 and not line:find('^/%* ' .. path:gsub('^src/', ''):gsub('%p', '%%%0')) then wrong[#wrong + 1] = path end
      if line:find('\t') or line:find('%s$') then wrong[#wrong + 1] = path .. ':' .. number end
    end)
    assert.same({}, wrong)
  end)

  it('has Lua that luacheck finds nothing in', function()
    assert.same({}, lines_of('make -s tidy-lua 2>&1 | grep -E "^    (lua|examples|spec)/"'))
  end)

  it('is formatted (make fmt)', function()
    assert.same({}, lines_of('clang-format --dry-run src/*/*.c src/*/*.h 2>&1 | sed -n "s/: warning.*//p" | head -20'))
  end)

  it('cites the paper in every file of raft/', function()
    for _, path in ipairs(lines_of("ls src/raft/*.c src/raft/*.h")) do
      local file = io.open(path)
      local text = file:read('*a')
      file:close()
      assert.truthy(text:find('§', 1, true) or text:find('Figure', 1, true) or text:find('paper', 1, true), path)
    end
  end)
end)
