-- cli/check.lua: what would be refused.
local node, sys = require 'tidelock.node', require 'tidelock.sys'

-- LuaJIT's parser can be crashed by a text: a process of its own finds that out. True: it lives through the file.
local function survives(word)
  local pid = sys.spawn({ sys.exe(), 'check', '--here', word }, '/dev/null')
  local code = pid and sys.wait(pid, true)
  return code == 0 or code == 1
end

return {
  summary = 'say what would be refused in a service, a snapshot format or a policy',
  usage = 'tidelock check [NAME=]FILE...\n\nA file is a service; if it has write and read, a snapshot format; if it has review,\n'
    .. 'admit or observe, a membership policy.\n'
    .. 'Prints FILE:LINE: what; what to do. Exit 1 if anything is refused.\n\n'
    .. '  --here   load the file in this very process, which a hostile one may crash',
  options = { here = 'flag' },
  survives = survives,
  run = function(options, files, cli)
    if #files == 0 then cli.stop(2, 'check which file?') end
    local refused = false
    for _, word in ipairs(files) do
      local name, path = word:match('^([%w_]+)=(.*)$')
      local bytes, why
      if options.here or survives(word) then
        bytes, why = node.bundle(name or '', path or word, 'any')
      else
        why = word .. ": LuaJIT itself cannot load this file; leave out what was written last until it can"
      end
      if not bytes then
        refused = true
        io.stdout:write(why, '\n')
      end
    end
    return refused and 1 or 0
  end,
}
