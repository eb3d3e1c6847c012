-- cli/undeploy.lua: takes a service away, with its rows.
local deploy, command = require 'tidelock.deploy', require 'cli.deploy'

return {
  summary = 'take a service away, with all its rows',
  usage = [[
tidelock undeploy MOUNT

Its maps, its timers and its code are gone from that entry on. Another mount's code that calls it is not looked at.

  --abort            end a migration of the mount that goes on: everything is as before its deploy
  --yes              do not ask; only a terminal is asked
  --to H:P,...   --timeout MS (60000)   --json]],
  options = { abort = 'flag', yes = 'flag', to = 'value', timeout = 'value', json = 'flag' },
  run = function(options, words, cli)
    local mount = words[1]
    if #words ~= 1 then cli.stop(2, 'undeploy which mount?') end
    local c = command.client(options, cli)
    local before, err = deploy.look(c, mount)
    if not before then return command.refused(options, err, cli, true) end
    local question = options.abort and 'end the migration of ' .. mount .. '?' or 'remove ' .. mount .. ' and all its rows?'
    if not command.agreed(options, cli, question) then return 1 end
    local ok, why, index = deploy.remove(c, mount, before.hash, options.abort)
    if not ok then return command.refused(options, why, cli) end
    return command.done(options, true, index, mount .. (options.abort and ' is as it was' or ' is gone'), cli)
  end,
}
