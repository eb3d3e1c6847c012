-- cli/check.lua: what would be refused.
local node = require 'tidelock.node'

return {
  summary = 'say what would be refused in a module',
  usage = 'tidelock check [NAME=]FILE...\n\nPrints FILE:LINE: what; what to do. Exit 1 if anything is refused.',
  options = {},
  run = function(_, files, cli)
    if #files == 0 then cli.stop(2, 'check which file?') end
    local refused = false
    for _, word in ipairs(files) do
      local name, path = word:match('^([%w_]+)=(.*)$')
      local bytes, why = node.bundle(name or '', path or word)
      if not bytes then
        refused = true
        io.stdout:write(why, '\n')
      end
    end
    return refused and 1 or 0
  end,
}
