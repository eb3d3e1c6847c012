-- Golden transcripts: commands, a line of dashes, and what the cores said, with virtual milliseconds in brackets.
--
--   seed N | nodes N | run MS | propose N | crash WHO | start WHO | isolate WHO | mend        WHO: leader, old, or an id
--
-- GOLDEN=rewrite (make golden) writes the transcripts anew: a difference is reviewed like code, never edited by hand.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('raft/types.h', 'raft/raft.h', 'sim/core_world.h')

local function files()
  local out, pipe = {}, io.popen('ls spec/scenario/*.txt')
  for line in pipe:lines() do out[#out + 1] = line end
  pipe:close()
  return out
end

local function play(commands)
  local options = ffi.new('struct core_world_options[1]')
  for k, v in pairs { seed = 1, nodes = 3, delay_ms_max = 3, write_ms_max = 2, election_ms = 150, heartbeat_ms = 30, trace = true } do
    options[0][k] = v
  end
  local world, old
  local function ready()
    if not world then world = ffi.gc(C.core_world_new(options), C.core_world_free) end
    return world
  end
  local function who(word)
    if word == 'leader' then
      old = C.core_world_leader(ready())
      return old
    end
    return word == 'old' and old or tonumber(word) - 1
  end
  local function cut(node, on)
    for i = 0, options[0].nodes - 1 do
      C.core_world_cut(world, node, i, on)
      C.core_world_cut(world, i, node, on)
    end
  end
  local verbs = {
    seed = function(n) options[0].seed = tonumber(n) end,
    nodes = function(n) options[0].nodes = tonumber(n) end,
    run = function(ms)
      local broken = C.core_world_run(ready(), tonumber(ms))
      assert(broken == nil, broken ~= nil and ffi.string(broken))
    end,
    propose = function(n) assert(C.core_world_propose(ready(), who 'leader', tonumber(n))) end,
    crash = function(w) C.core_world_crash(ready(), who(w)) end,
    start = function(w) C.core_world_start(ready(), who(w)) end,
    isolate = function(w) ready() cut(who(w), true) end,
    mend = function() for i = 0, options[0].nodes - 1 do cut(i, false) end end,
  }
  for line in commands:gmatch('[^\n]+') do
    local verb, word = line:match('^(%w+)%s*(%w*)')
    if verb and line:sub(1, 1) ~= '#' then assert(verbs[verb], 'no such command: ' .. line)(word) end
  end
  return ffi.string(C.core_world_trace(world))
end

describe('the transcript of', function()
  for _, path in ipairs(files()) do
    it(path, function()
      local file = assert(io.open(path))
      local commands, expected = file:read('*a'):match('^(.-)%-%-%-%-\n(.*)$')
      file:close()
      local got = play(commands)
      if os.getenv('GOLDEN') == 'rewrite' then
        file = assert(io.open(path, 'w'))
        file:write(commands, '----\n', got)
        file:close()
      else
        assert.equal(expected, got)
      end
      assert.truthy(#got > 0)
    end)
  end
end)
