-- cli/code.lua: the code that is in force, as the log has it.
local deploy, command, sys = require 'tidelock.deploy', require 'cli.deploy', require 'tidelock.sys'

-- Where a source goes below DIR/MOUNT: names come from the cluster, and must not lead elsewhere.
local function place(name)
  if name:find('^[%w_%-]+$') or name:find('^[%w_%-]+%.[%w_%-%.]+$') and not name:find('..', 1, true) then
    return (name:gsub('%.', '/')) .. '.lua'
  end
end

local function write(dir, name, source, cli)
  local path = dir
  local file = place(name)
  if not file then cli.stop(1, 'a source is called ', (name:gsub('[^%w_%-%./]', '?')), ': no file can be') end
  for part in file:gmatch('([^/]+)/') do
    path = path .. '/' .. part
    sys.mkdir(path)
  end
  path = dir .. '/' .. file
  local old = io.open(path, 'rb')
  if old then
    local same = old:read('*a') == source
    old:close()
    if not same then cli.stop(1, path, ' is there already, with other content') end
  end
  local out, why = io.open(path, 'wb')
  if not out then cli.stop(1, why) end
  assert(out:write(source) and out:close())
  io.stdout:write(path, '\n')
end

local function list(options, all, cli)
  if options.json then return command.done(options, all, 0, '', cli) end
  for _, one in ipairs(all) do
    io.stdout:write(('%-16s %s %.0f  %s\n'):format(one.mount == '' and '(' .. one.kind .. ')' or one.mount, one.name, one.version, one.hash))
  end
  return 0
end

return {
  summary = 'show or save the code that is in force',
  usage = [[
tidelock code                      mounts, modules, versions, hashes
tidelock code export [MOUNT] [DIR] the sources as they were deployed: DIR/MOUNT/FILE.lua (DIR: .)

  --to H:P,...   --timeout MS (60000)   --json]],
  options = { to = 'value', timeout = 'value', json = 'flag' },
  run = function(options, words, cli)
    if words[1] ~= nil and words[1] ~= 'export' or #words > 3 then cli.stop(2, 'code, or code export [MOUNT] [DIR]') end
    local c = command.client(options, cli)
    local all, err = deploy.list(c)
    if not all then return command.refused(options, err, cli, true) end
    if not words[1] then return list(options, all, cli) end
    local only, dir = words[2], words[3] or '.'
    local found = false
    for _, one in ipairs(all) do
      if only == nil or deploy.place(one) == only then
        found = true
        local code, why = deploy.look(c, deploy.place(one))
        if not code then return command.refused(options, why, cli, true) end
        local into = dir .. '/' .. (one.mount == '' and one.kind or one.mount)
        sys.mkdir(dir)
        sys.mkdir(into)
        for _, file in ipairs(code.files or {}) do write(into, file[1], file[2], cli) end
      end
    end
    if not found then cli.stop(5, only and 'there is no mount ' .. only or 'no code is in force') end
    return 0
  end,
}
