-- cli/recover.lua: a stopped node's directory becomes a cluster of one, when the others are lost for good.
local files, sys, wire = require 'tidelock.files', require 'tidelock.sys', require 'tidelock.wire'
local restore = require 'cli.restore'

local recover = {
  summary = 'make a stopped node a cluster of one: when a majority is lost for good',
  usage = [[
tidelock recover --data DIR --force-new-cluster [--listen H:P]

When a majority of the nodes is lost for good, and their disks too. What this node has becomes a new cluster of one: its
snapshot and its whole log, also entries that the old cluster may never have committed; what others had and this one had not
is lost. Choose the node whose log goes furthest (tidelock log verify). No other node of the old cluster may start again.

The old files stay, under names that begin with before-recover. It may be run again after a crash: it goes on, or begins anew.

  --data DIR             the directory of a node that does not run
  --force-new-cluster    yes, that is meant
  --listen H:P           where the node will listen, if not where it did
  --yes                  do not ask (only a terminal is asked)
  --json                 what was recovered, as JSON]],
  options = { data = 'value', ['force-new-cluster'] = 'flag', listen = 'value', yes = 'flag', json = 'flag' },
}

local function confirm(cli)
  if not sys.isatty(0) or not sys.isatty(2) then return end
  io.stderr:write('go on? [y/N] ')
  local answer = io.stdin:read('*l') or ''
  if not answer:lower():match('^%s*y') then cli.stop(7, 'nothing was changed') end
end

function recover.run(options, rest, cli)
  if rest[1] then cli.stop(2, 'recover takes no words, only options') end
  if not options.data then cli.stop(2, 'recover needs --data DIR') end
  if not options['force-new-cluster'] then
    cli.stop(2, 'recover needs --force-new-cluster: it makes a new cluster of what this node alone has; see tidelock recover --help')
  end
  local who, bad, status = files.who(options.data)
  if not who then
    cli.stop(restore.exit_codes[status] or 1, bad or '', status == 'NOT_FOUND' and bad == 'not found' and
      (': no node\'s data is in ' .. options.data) or '')
  end
  if who.half then cli.say('a recover of ', options.data, ' did not end: going on with it')
  elseif who.cluster:find('[^0]') then -- else it never formed, and is refused below
    cli.say(('node %.0f of cluster %s becomes a cluster of its own at %s: what only others had is '
      .. 'lost, and none of them may start again. The old files stay, as %s/before-recover.*'):format(who.id, who.cluster,
      options.listen or who.address or '?', options.data))
    if not options.yes then confirm(cli) end
  end
  local report, why, code = files.recover(options.data, options.listen)
  if not report then cli.stop(restore.exit_codes[code] or 1, why) end
  if options.json then
    io.stdout:write(wire.pack_json(wire.pack {
      bytes = report.bytes, cluster = report.cluster, digest = report.digest, from_index = report.from, index = report.index,
      replayed = report.replayed, rows = report.rows }), '\n')
    return 0
  end
  if who.half then
    io.stdout:write(('%s is of cluster %s now\n'):format(options.data, report.cluster))
  else
    io.stdout:write(('%s is of cluster %s now: %.0f rows, digest %s, as of entry %.0f of the old cluster\n'):format(
      options.data, report.cluster, report.rows, report.digest, report.from))
    cli.say(('%.0f entries of the log after the last snapshot were applied; whether the last of them were ever committed '
      .. 'cannot be known here'):format(report.replayed))
  end
  cli.say('start it as before, without --cluster')
  return 0
end

return recover
