-- cli/restore.lua: a directory for a node of a new cluster, of a snapshot's file.
local files, wire = require 'tidelock.files', require 'tidelock.wire'
local start = require 'cli.start'

local restore = {
  summary = "make a new cluster's data directory of a snapshot's file",
  usage = [[
tidelock restore FILE --data DIR [--format F]

Once for each node of the new cluster, all from the same file; then start each of them:

  tidelock restore kv.snapshot --data data1                (and data2, data3)
  tidelock start --id 1 --data data1 --listen 127.0.0.1:7301 --cluster 1=127.0.0.1:7301,2=...,3=...

The file is read wholly, and its digest compared, before anything is written. The services are in it: --machine is not needed.
A start refuses when the directories are of different files. The cluster is a new one, with an id of its own, whose
entries go on 4294967296 after the old one's.

  --data DIR       empty, or not there yet
  --format F       reads the file with this Lua module, in place of the format that it carries
  --json           what was restored, as JSON]],
  options = { data = 'value', format = 'value', json = 'flag' },
}

-- 6: in the way; 5: not there; 78: in use; 1: the file, or the disk.
restore.exit_codes = { EXISTS = 6, NOT_FOUND = 5, LOCKED = 78 }

function restore.run(options, rest, cli)
  local path = rest[1]
  if not path or rest[2] then cli.stop(2, 'tidelock restore FILE --data DIR') end
  if not options.data then cli.stop(2, 'restore needs --data DIR') end
  local report, why, status = files.restore(path, options.data, start.other('format', options.format, cli))
  if not report then cli.stop(restore.exit_codes[status] or 1, why) end
  if options.json then
    io.stdout:write(wire.pack_json(wire.pack {
      bytes = report.bytes, digest = report.digest, from_cluster = report.old_cluster, from_index = report.from,
      hash = report.hash, index = report.index, rows = report.rows, term = report.term }), '\n')
  else
    io.stdout:write(('%s holds the state of cluster %s at entry %.0f: %.0f rows, %.0f bytes, digest %s\n'):format(
      options.data, report.old_cluster, report.from, report.rows, report.bytes, report.digest))
    cli.say(('restore every directory of the new cluster from this file, then start each with --cluster; its first entry '
      .. 'will be %.0f'):format(report.index + 1))
  end
  return 0
end

return restore
