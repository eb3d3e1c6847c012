-- What the simulator's own clients were told, as a history: the collecting (sim/books_history.h), and that a seed fails by it.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/trace.h', 'sim/books.h', 'sim/books_history.h', 'wire/pack.h')

C.log_setup(C.LOG_ERROR, C.LOG_TEXT)

local function pack(...)
  local out = core.buffer()
  for _, value in ipairs { ... } do
    if value == 'nil' then C.pack_nil(out)
    elseif type(value) == 'number' then C.pack_i64(out, value)
    elseif type(value) == 'table' then C.pack_array(out, #value)
    else C.pack_text(out, core.slice(value)) end
    if type(value) == 'table' and value[1] then
      local inner = pack(unpack(value))
      C.buffer_append(out, inner, #inner)
    end
  end
  return core.buffer_text(out)
end

local KINDS = { get = 0, put = 1, append = 2, cas = 3, incr = 4, del = 5 }
local ENDS = { ok = 1, fail = 2, info = 3 }

-- Each row is an operation, one after another: kind, arguments, its end, what it gave.
local function judge(rows)
  local books = ffi.gc(C.books_history_new(), C.books_history_free)
  for i, row in ipairs(rows) do
    local args = pack(row[2])
    local op = C.books_history_begin(books, i, i * 10, KINDS[row[1]], core.slice(args), row.checked ~= false)
    local gave = row[4] and pack(row[4]) or ''
    C.books_history_end(books, op, i * 10 + 5, ENDS[row[3]], core.slice(gave))
  end
  local why = ffi.new('char[1600]')
  if C.books_history_fine(books, why, 1600) then return true end
  return false, ffi.string(why)
end

describe('the history of the books', function()
  it('takes commands and answers as they went over the wire', function()
    assert.is_true(judge { { 'put', { 1, 'k', 'aa' }, 'ok', 'whatever' }, { 'get', { 'k' }, 'ok', 'aa' },
      { 'append', { 2, 'k', 'v2' }, 'ok' }, { 'cas', { 3, 'k', 'aav2', 'x' }, 'ok', 1 },
      { 'cas', { 4, 'k', 'y', 'z' }, 'ok', 0 }, { 'get', { 'k' }, 'ok', 'x' }, { 'del', { 5, 'k' }, 'ok', 1 }, { 'get', { 'k' }, 'ok', 'nil' },
      { 'incr', { 6, 'n', 1 }, 'ok', 1 }, { 'incr', { 7, 'n', 1 }, 'fail' }, { 'incr', { 8, 'n', 1 }, 'info' },
      { 'get', { 'n' }, 'ok', 2 }, { 'del', { 9, 'n' }, 'ok', 'a list', checked = false } })
  end)

  it('says what is wrong, with the last events of its key', function()
    local fine, why = judge { { 'put', { 1, 'k', ('a'):rep(700) }, 'ok' }, { 'put', { 2, 'l', 'b' }, 'ok' },
      { 'cas', { 3, 'k', 'x', 'y' }, 'info' }, { 'get', { 'k' }, 'ok', 'nil' }, { 'get', { 'l' }, 'ok', 'nil' } }
    assert.is_false(fine)
    assert.equal('the history of key k is not linearizable, by its first 8 events; the last of them:\n'
      .. '  10 ms, client 1: 0 is put aaaaaaaaaaaa...(700)\n  15 ms, client 1: ok 0\n  30 ms, client 3: 2 is cas =x y\n'
      .. '  35 ms, client 3: info 2\n  40 ms, client 4: 3 is get\n  45 ms, client 4: ok 3 nil\n'
      .. '  the key can have been =aaaaaaaaaaaa...(700)', why)
    for _, rows in ipairs { { { 'incr', { 1, 'n', 1 }, 'ok', 2 } }, { { 'incr', { 1, 'n', 1 }, 'ok', 'x' } },
      { { 'del', { 1, 'k' }, 'ok', 1 } }, { { 'del', { 1, 'k' }, 'ok', 'nil' } }, { { 'get', { 'k' }, 'ok', {} } },
      { { 'put', { 1, 'k', 'a' }, 'fail' }, { 'get', { 'k' }, 'ok', 'a' } } } do
      assert.is_false((judge(rows)), rows[1][1])
    end
  end)

  it('fails the seed in which one answer is wrong', function()
    local buffer = core.buffer()
    C.books_bundles(buffer)
    local bundles = core.buffer_text(buffer)
    local books = ffi.gc(C.books_new(3), C.books_free)
    local options = ffi.new('struct swarm_options', { seed = 3, clients = 8, commands_per_second = 100, fault_ms = 3000,
      faults = 0, bundles = core.slice(bundles), workload = C.books_workload(books) })
    local truth, count, wrong = options.workload.ended, 0, pack('never')
    local lie = ffi.cast('void (*)(void *, uint32_t, uint64_t, enum swarm_outcome, const struct replica_world_reply *)',
      function(context, client, began, outcome, reply)
        local told = ffi.new('struct replica_world_reply', reply[0])
        local text = core.text(reply[0].value)
        -- Only get gives a text.
        local head = outcome == C.SWARM_OK and text:byte(1) or 0
        if head >= 0xA0 and head <= 0xBF or head >= 0xD9 and head <= 0xDB then
          count = count + 1
          if count == 10 then told.value = core.slice(wrong) end
        end
        truth(context, client, began, outcome, told)
      end)
    options.workload.ended = lie
    local run = ffi.gc(C.swarm_new(options), C.swarm_free)
    local report = ffi.new('struct swarm_report')
    C.swarm_run(run, report)
    assert(report.broken ~= nil, 'the seed did not fail')
    assert.truthy(ffi.string(report.broken):find('is not linearizable', 1, true), ffi.string(report.broken))
    assert.equal('verdict', ffi.string(report.phase))
    C.swarm_free(ffi.gc(run, nil))
    lie:free()
  end)
end)
