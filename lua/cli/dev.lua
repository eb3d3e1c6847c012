-- cli/dev.lua: a cluster on this machine, in a temporary directory, until Ctrl-C.
local sys, client, deploy = require 'tidelock.sys', require 'tidelock.client', require 'tidelock.deploy'

-- The text of a file; nil if it is not there.
local function content(path)
  local file = io.open(path, 'rb')
  if not file then return nil end
  local text = file:read('*a')
  file:close()
  return text
end

-- The files of a bundle on this disk, with what they were when it was made: a list of { path, text }.
local function files_of(built)
  local dir, list = built.path:match('^(.*/)[^/]*$') or '', {}
  for _, file in ipairs(built.files) do
    local path = file[1] == built.main and built.path or dir .. file[1]:gsub('%.', '/') .. '.lua'
    list[#list + 1] = { path, file[2] }
  end
  return list
end

-- Watches what was deployed from these words. -> a function to be called now and then
local function watcher(to, words, cli)
  local c = assert(client.new(to, { timeout = 10000 }))
  local watched = {}
  for i, word in ipairs(words) do
    local built = assert(deploy.build(word))
    watched[i] = { word = word, files = files_of(built), mount = built.mount }
  end
  local function redeploy(one)
    local built, why = deploy.build(one.word)
    if not built then return cli.say(why) end
    one.files = files_of(built)
    local before, err = deploy.look(c, built.mount)
    if not before then return cli.say(one.mount, ': ', err.message) end
    local answer, refused, index = deploy.send(c, built, before.hash, { any_version = true })
    if answer and answer.migrating then answer, refused = deploy.wait(c, built, index) end
    if not answer then return cli.say(one.mount, ' was not deployed: ', refused.code, ': ', refused.message) end
    cli.say(('%s deployed again, from entry %.0f on'):format(one.mount, index))
    for _, line in ipairs(deploy.diff(before, built)) do cli.say('  ', line) end
  end
  return function()
    for _, one in ipairs(watched) do
      local saved = false
      for _, file in ipairs(one.files) do
        local text = content(file[1])
        if text and text ~= file[2] then
          file[2], saved = text, true -- one that is refused is told of once
        end
      end
      if saved then redeploy(one) end
    end
  end
end

return {
  summary = 'a cluster on this machine, to try a service',
  usage = [[
tidelock dev [NAME=]FILE... [--nodes 3]

  tidelock dev examples/kv.lua

A file that is saved is deployed again; migrate runs if its version was raised. Ctrl-C ends it and cleans up.]],
  options = { nodes = 'value' },
  run = function(options, files, cli)
    if #files == 0 then cli.stop(2, 'dev which file? like: tidelock dev examples/kv.lua') end
    local nodes = cli.number(options, 'nodes', 1, 9) or 3
    local bundles = require('cli.start').bundle(files, cli, 1)
    local machines = {}
    for i, word in ipairs(files) do machines[i] = word end
    sys.on_interrupt()
    local c = require 'tidelock.cluster' { nodes = nodes, machines = machines, direct = true }
    local function finish(code)
      c:close()
      return code
    end
    local ok, why = pcall(function() c:wait_leader { within = 20000 } end)
    if not ok or sys.interrupted() then
      finish()
      cli.stop(sys.interrupted() and 130 or 1, tostring(why))
    end
    io.stdout:write(nodes, ' nodes run in ', c.dir, ' with ', #bundles, ' service', #bundles > 1 and 's' or '',
      '. Ctrl-C ends them. In another terminal:\n\n  export TIDELOCK_TO=', c.to, '\n')
    io.stdout:write('  ', sys.exe(), ' status\n')
    c:wait_equal()
    local mounts = c:leader():status().service.mounts
    local watches, watch = pcall(watcher, c.to, files, cli) -- before anybody is told that it is up
    if not watches then
      finish()
      cli.stop(sys.interrupted() and 130 or 1, tostring(watch))
    end
    for name in pairs(mounts) do
      local example = name == 'kv' and 'kv.set colour teal' or name .. '.COMMAND ARG...'
      io.stdout:write('  ', sys.exe(), ' call ', example, '\n')
    end
    io.stdout:flush()
    while not sys.interrupted() do
      sys.sleep(0.2)
      watch()
      for _, n in ipairs(c:nodes()) do
        if n.pid and not n:alive() then cli.say('node ', tostring(n.id), ' ended with ', tostring(n.exit), '; see ', n.log) end
      end
    end
    io.stdout:write('\nending\n')
    return finish(130)
  end,
}
