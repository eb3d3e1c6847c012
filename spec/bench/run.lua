-- run.lua: kv.set at several depths, three nodes on this machine, through the leader.
--
--   make bench        (or: tidelock run spec/bench/run.lua LOAD_PROGRAM SECONDS)
local c = require 'tidelock.cluster' { nodes = 3, machines = { kv = 'examples/kv.lua' }, mode = 'live', direct = true }
local ok, why = pcall(function()
  local leader = c:wait_leader {}
  c:wait_equal {}
  for _, shape in ipairs { { 1, 1 }, { 16, 4 }, { 16, 16 }, { 16, 64 }, { 16, 256 } } do
    os.execute(('%s %s %d %d %s 64'):format(arg[1], leader:address(), shape[1], shape[2], arg[2] or '3'))
  end
  c:wait_equal {}
end)
if not ok then io.stderr:write(tostring(why), '\n') end
c:close()
return ok and 0 or 1
