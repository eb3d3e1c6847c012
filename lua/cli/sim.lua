-- cli/sim.lua: plays a scenario.
return {
  summary = 'play a scenario on a few cores, step by step',
  usage = 'tidelock sim FILE.txt\n\nPrints the transcript. Exit 1 if what is expected is not so, a check breaks, or the transcript is not\n'
    .. 'the one below the line of dashes; 78 if the file makes no sense.\n\n  tidelock sim spec/scenario/026_figure_8.txt',
  run = function(_, files, cli)
    if #files ~= 1 then cli.stop(2, 'sim plays one file: tidelock sim FILE.txt') end
    if not files[1]:find('%.txt$') then cli.stop(2, files[1], ': a scenario is a file that ends in .txt') end
    local ok, output, why, kind = require('tidelock.scenario').run(files[1])
    io.stdout:write(output)
    if not ok then cli.stop(kind == 'input' and 78 or 1, why) end
  end,
}
