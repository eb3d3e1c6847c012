-- cli/limits.lua: the replicated limits, and changing one.
local wire, client = require 'tidelock.wire', require 'tidelock.client'
local call = require 'cli.call'

local limits = {
  summary = 'the limits that all nodes keep alike; change one',
  usage = [[
tidelock limits [NAME VALUE]

  tidelock limits                     all of them
  tidelock limits quota 1000000000    services may keep a gigabyte; prints what the limit was

A change is an entry of the log: it holds for all nodes from there on. A value out of range is refused with the range.

  --to H:P,...    nodes to ask (or TIDELOCK_TO)
  --timeout MS    give up after this long (5000)
  --json          {"ok":value,"index":n} or {"error":{...}}]],
  options = { to = 'value', timeout = 'value', json = 'flag' },
}

local function print_all(value)
  local _, all = wire.unpack(value)
  local names = {}
  for name in pairs(all) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do io.stdout:write(('%-16s %.0f\n'):format(name, all[name])) end
end

function limits.run(options, rest, cli)
  if #rest == 1 or #rest > 2 then cli.stop(2, 'limits takes nothing, or a name and a value') end
  local number = rest[2] and tonumber(rest[2])
  if rest[2] and (not number or number % 1 ~= 0 or number < 0 or number >= 2^53) then
    cli.stop(2, 'a limit is a whole number, not ', rest[2])
  end
  local c, why = client.new(call.addresses(options), { timeout = cli.number(options, 'timeout', 1, 600000) })
  if not c then cli.stop(2, '--to: ', why) end
  local asks = #rest == 0
  local value, err, index = c:raw('tidelock.limits', wire.pack(asks and {} or { rest[1], number }), {}, asks)
  c:close()
  if not value then
    call.print_error(options, err, cli)
    return call.exit_code(err, asks)
  end
  if asks and not options.json then print_all(value) else call.print_answer(options, value, index) end
  return 0
end

return limits
