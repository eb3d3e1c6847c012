-- cli/call.lua: one command or query from the shell. query.lua is the same with another word.
local sys, wire, client = require 'tidelock.sys', require 'tidelock.wire', require 'tidelock.client'

local call = {
  summary = 'run a command (or a query) of the service',
  usage = [==[
tidelock call MOUNT.NAME ARG...

  tidelock call kv.set colour teal
  tidelock call kv.set colour teal --nx              options of the command by name
  tidelock call --batch commands.json                one entry, all or nothing: [["kv.set", ["a", 1]], ...]
  tidelock call tidelock.session_open 30000          a session for 30 seconds; then ..._keep ID, ..._end ID

  --to H:P,...       nodes to ask (or TIDELOCK_TO; default 127.0.0.1:7301..7303)
  --timeout MS       give up after this long (5000)
  --read LEVEL       of a query: linearizable (default), lease (trusts clocks, see limits: lease_drift_ms) or stale
  --batch FILE       a file of commands; - is standard input
  --session ID       once, however often it is sent: a session of tidelock.session_open
  --seq N            its number there (the clock, in microseconds): the same one again gets the first answer; lower ones are done
  --dry-run          run it on the leader and take it back: {"answer":value,"events":[[topic,key,data],...]}
  --json             print {"ok":value,"index":n} or {"error":{...}}
  --text             all words are text

A word is JSON if it begins with { [ or ", is true, false or null, or is a plain decimal number; else it is text. After -- all
words are arguments. An argument of the service that is named like an option here: by position, or as '{"to": "x"}'.]==],
}

local own = { to = 'value', timeout = 'value', read = 'value', batch = 'value', json = 'flag', text = 'flag',
  session = 'value', seq = 'value', ['dry-run'] = 'flag' }
call.raw = true

function call.addresses(options)
  return options.to or os.getenv('TIDELOCK_TO') or '127.0.0.1:7301,127.0.0.1:7302,127.0.0.1:7303'
end

-- A word of the shell as packed bytes.
local function pack_word(word, as_text, cli)
  local first = word:sub(1, 1)
  local number = word:match('^-?%d+%.?%d*$') and tonumber(word)
  local plain = number and wire.pack_json(wire.pack(number)) == word
  local json = first == '{' or first == '[' or first == '"' or word == 'true' or word == 'false' or word == 'null' or plain
  if as_text or not json then return wire.pack(word) end
  local bytes, why = wire.json_pack(word)
  if not bytes then
    cli.stop(2, 'the word ', #word > 60 and word:sub(1, 57) .. '...' or word, ' ', why, '; --text takes words as they are')
  end
  return bytes
end

-- The list of arguments as packed bytes: words, then options by name.
local function pack_args(words, named, as_text, cli)
  local parts, count = {}, #words
  for i, word in ipairs(words) do parts[i] = pack_word(word, as_text, cli) end
  if #named > 0 then
    table.sort(named, function(a, b) return a[1] < b[1] end)
    for i = 2, #named do
      if named[i][1] == named[i - 1][1] then cli.stop(2, 'BAD_ARGS: --', named[i][1], ' is given twice') end
    end
    local map = { string.char(0x80 + #named) }
    for _, pair in ipairs(named) do
      map[#map + 1] = wire.pack(pair[1])
      map[#map + 1] = pair[2] == true and wire.pack(true) or pack_word(pair[2], as_text, cli)
    end
    count = count + 1
    parts[count] = table.concat(map)
  end
  local head = count < 16 and string.char(0x90 + count)
    or string.char(0xDC, math.floor(count / 256), count % 256)
  return head .. table.concat(parts)
end

-- Splits our own options from those of the service's command.
local function split(words, cli)
  local options, rest, named, at, plain = {}, {}, {}, 1, false
  while words[at] do
    local word = words[at]
    local name, value = word:match('^%-%-([%w_-]+)=?(.*)$')
    if plain or not name then
      if word == '--' and not plain then plain = true
      elseif word == '-h' and not plain then options.help = true
      else rest[#rest + 1] = word end
    elseif name == 'help' then options.help = true
    elseif own[name] == 'flag' then options[name] = true
    else
      local given = word:find('=', 1, true) ~= nil
      local following = words[at + 1]
      if not given and following and not following:match('^%-%-') and (own[name] or #rest > 0 and not call.flags[name]) then
        value, at, given = following, at + 1, true
      end
      if own[name] and not given then cli.stop(2, '--', name, ' wants a value') end
      if own[name] then options[name] = value else named[#named + 1] = { name, given and value or true } end
    end
    at = at + 1
  end
  return options, rest, named
end

-- Names that are flags wherever they are declared in what ships; others take the word after them, or are given as --x=y.
call.flags = { nx = true }

function call.exit_code(err, is_query)
  local definite, code = wire.error_row(err.code)
  if definite == nil then return 1 end
  if is_query and not definite then return 3 end
  if err.definite == false and not is_query then return 4 end
  return code
end

-- Text as the service meant it: what is not UTF-8 comes as bin, and is shown as JSON.
local function is_text(packed)
  local head = packed:byte(1)
  return head >= 0xA0 and head <= 0xBF or head >= 0xD9 and head <= 0xDB
end

function call.print_answer(options, value, index)
  local json = wire.pack_json(value)
  if options.json then
    io.stdout:write(('{"ok":%s,"index":%.0f}\n'):format(json, index or 0))
    return
  end
  if not is_text(value) then io.stdout:write(json, '\n') return end
  local _, text = wire.unpack(value)
  -- Raw to a pipe or a file; a terminal is not to be steered by what is stored.
  if sys.isatty(1) then
    text = text:gsub('[%c\127]', function(c)
      return c ~= '\n' and c ~= '\t' and ('\\x%02x'):format(c:byte()) or nil
    end)
  end
  io.stdout:write(text, '\n')
end

function call.print_error(options, err, cli)
  if options.json then
    io.stdout:write('{"error":', wire.pack_json(wire.pack(err)), '}\n')
  else
    local message = err.message or ''
    local unsaid = err.definite == false and not message:find('outcome is unknown', 1, true)
    cli.say(err.code, ': ', message, unsaid and '; the outcome is unknown' or '')
  end
end

local function read_batch(path, cli)
  local file = path == '-' and io.stdin or io.open(path, 'rb')
  if not file then cli.stop(2, '--batch ', path, ': cannot be read') end
  local bytes, problem = wire.json_pack(file:read('*a'))
  if not bytes then cli.stop(2, '--batch ', path, ' ', problem) end
  local head = bytes:byte(1)
  if not (head >= 0x90 and head <= 0x9F or head == 0xDC or head == 0xDD) then
    cli.stop(2, '--batch ', path, ' must be a list of commands: [["kv.set", ["a", 1]], ...]')
  end
  return bytes
end

-- Without a number of the caller's own the clock gives one, and what is older than two time-outs is let go.
local function session_flags(options, timeout, cli)
  if not options.session then
    if options.seq then cli.stop(2, '--seq goes with --session') end
    return {}
  end
  local seq = cli.number(options, 'seq', 1, 2^53 - 1)
  if seq then return { session = options.session, seq = seq, done_below = seq } end
  seq = math.floor(sys.wall() * 1e6)
  return { session = options.session, seq = seq, done_below = seq - 2 * timeout * 1000 }
end

-- Asks the host itself for something, with --to --timeout --json of `options`: prints its answer. -> exit status
function call.host(name, args, options, cli)
  local c, why = client.new(call.addresses(options), { timeout = cli.number(options, 'timeout', 1, 600000) })
  if not c then cli.stop(2, '--to: ', why) end
  local value, err, at = c:raw(name, wire.pack(args), {})
  c:close()
  if not value then
    call.print_error(options, err, cli)
    return call.exit_code(err, false)
  end
  call.print_answer(options, value, at)
  return 0
end

local reads = { linearizable = true, lease = true, stale = true }

function call.go(words, cli, is_query)
  local options, rest, named = split(words, cli)
  if options.help then
    io.stdout:write(require('cli.help').of(is_query and require('cli.query') or call))
    return 0
  end
  if options.read and not reads[options.read] then
    cli.stop(2, '--read ', options.read, ': there are linearizable, lease and stale')
  end
  local name, args = table.remove(rest, 1), nil
  if options.batch then
    if name or is_query then cli.stop(2, '--batch stands alone, and is of commands') end
    name, args = 'tidelock.batch', read_batch(options.batch, cli)
  elseif not name then cli.stop(2, 'what to call? like: tidelock call kv.set a 1')
  elseif not name:find('.', 1, true) then cli.stop(2, name, ': write it with its mount, like kv.', name)
  else args = pack_args(rest, named, options.text, cli) end
  local timeout = cli.number(options, 'timeout', 1, 600000)
  local c, why = client.new(call.addresses(options), { timeout = timeout })
  if not c then cli.stop(2, '--to: ', why) end
  local flags = session_flags(options, timeout or 5000, cli)
  local tries = options['dry-run'] and not is_query
  if tries then flags.dry_run = true end
  if is_query then flags.query = true end
  if options.read then flags.read = options.read end
  local value, err, index = c:raw(name, args, flags, is_query or tries)
  c:close()
  if not value then
    local code = call.exit_code(err, is_query or tries)
    call.print_error(options, err, cli)
    if code == 4 and flags.seq then
      cli.say(('tidelock: the same again tells what came of it, and does it once: --session %s --seq %.0f'):format(flags.session, flags.seq))
    end
    return code
  end
  call.print_answer(options, value, index)
  return 0
end

function call.run(words, cli) return call.go(words, cli, false) end

return call
