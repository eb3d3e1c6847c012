-- The wire floor: packing, entries, peer frames, requests.
local core = require 'spec.support.core'
local machine = require 'spec.support.machine'
local ffi = core.ffi
local C = core.load('raft/types.h', 'wire/pack.h', 'wire/entry.h', 'wire/message.h', 'wire/error.h', 'wire/request.h')

local OK, INCOMPLETE, INVALID, TOO_LARGE, TOO_DEEP, CORRUPT = 0, 1, 2, 3, 4, 5

local function check(bytes) return tonumber(C.pack_check(core.slice(bytes))) end

local function random_value(random, depth)
  local kind = random(depth > 3 and 5 or 7)
  if kind == 1 then return random(2) == 1
  elseif kind == 2 then return random(-1000000, 1000000)
  elseif kind == 3 then return random() * 1e10 - 5e9
  elseif kind <= 5 then
    local out = {}
    for i = 1, random(0, 40) do out[i] = string.char(random(kind == 4 and 127 or 255)) end
    return table.concat(out)
  end
  local out = {}
  for i = 1, random(0, 5) do
    if kind == 6 then out[i] = random_value(random, depth + 1) else out['k' .. random(99)] = random_value(random, depth + 1) end
  end
  return out
end

describe('packing', function()
  it('gives the shortest form of numbers', function()
    for value, hex in pairs { [0] = '00', [127] = '7F', [128] = 'CC80', [-1] = 'FF', [-33] = 'D0DF', [65536] = 'CE00010000',
      [1.5] = 'CB3FF8000000000000', [2 ^ 53] = 'CF0020000000000000' } do
      assert.equal(hex, (machine.pack(value):gsub('.', function(c) return ('%02X'):format(c:byte()) end)))
    end
  end)

  it('takes back what it gave, and is canonical', function()
    local random = core.random(11)
    for _ = 1, 2000 do
      local bytes = machine.pack(random_value(random, 1))
      assert.equal(OK, check(bytes))
      assert.equal(bytes, machine.pack(machine.unpack(bytes)))
    end
  end)

  it('never takes a value that is cut short', function()
    local bytes = machine.pack { 1, 'text', { a = { true, 1.5 } }, ('x'):rep(300) }
    for size = 0, #bytes - 1 do assert.equal(INCOMPLETE, check(bytes:sub(1, size))) end
  end)

  it('believes no count, no depth, no ext type', function()
    assert.equal(INCOMPLETE, check('\221\255\255\255\255'))
    assert.equal(INCOMPLETE, check('\223\127\255\255\255'))
    assert.equal(TOO_DEEP, check(('\145'):rep(40) .. '\192'))
    assert.equal(INVALID, check('\212\1\1'))
    assert.equal(INVALID, check('\193'))
    assert.equal(INVALID, check('\192\192'))
  end)

  it('survives mutated bytes (bug 49)', function()
    local random = core.random(12)
    for _ = 1, 5000 do
      local bytes = machine.pack(random_value(random, 1))
      local at = random(#bytes)
      check(bytes:sub(1, at - 1) .. string.char(random(0, 255)) .. bytes:sub(at + random(0, 2)))
    end
    assert.equal(OK, check('\192'))
  end)
end)

describe('an entry', function()
  local function encode(payload, previous)
    local out, entry = core.buffer(), ffi.new('struct entry[1]')
    entry[0].index, entry[0].term, entry[0].kind, entry[0].stamp_ms = 7, 3, 4, 1700000000000
    entry[0].payload = core.slice(payload)
    C.entry_encode(out, entry, previous or 0)
    return core.buffer_text(out), entry[0]
  end
  local function decode(bytes)
    local entry = ffi.new('struct entry[1]')
    return tonumber(C.entry_decode(core.slice(bytes), entry)), entry[0]
  end

  it('has the form that it had: crc and chain of a known record', function()
    local bytes, entry = encode('hello', 42)
    assert.equal(56, #bytes)
    assert.equal('18194727247749424413ULL', tostring(entry.chain))
    assert.equal(OK, (decode(bytes)))
  end)

  it('is refused with any byte flipped', function()
    local bytes = encode('some payload')
    for at = 1, #bytes do
      local flipped = bytes:sub(1, at - 1) .. string.char(bit.bxor(bytes:byte(at), 16)) .. bytes:sub(at + 1)
      assert.not_equal(OK, (decode(flipped)))
    end
  end)

  it('is incomplete when cut short', function()
    local bytes = encode('some payload')
    for size = 0, #bytes - 1 do assert.equal(INCOMPLETE, (decode(bytes:sub(1, size)))) end
  end)

  it('chains to the one before it', function()
    local bytes, entry = encode('x', 99)
    assert.equal(entry.chain, C.entry_chain(core.slice(bytes), 99))
    assert.not_equal(entry.chain, C.entry_chain(core.slice(bytes), 98))
  end)
end)

describe('a peer frame', function()
  local message, used = ffi.new('struct message[1]'), ffi.new('size_t[1]')

  local function frame()
    local m, out = ffi.new('struct message[1]'), core.buffer()
    m[0].type = 3
    m[0].wall_ms = 5
    m[0].raft.type, m[0].raft.from, m[0].raft.to, m[0].raft.term = 2, 1, 2, 9
    m[0].raft.append_entries.prev_log_index, m[0].raft.append_entries.last_index = 10, 12
    m[0].raft.append_entries.epoch = 4
    C.message_encode(out, m, 3)
    return core.buffer_text(out) .. 'abc'
  end

  it('comes back as it was, records and all', function()
    local bytes = frame()
    assert.equal(OK, tonumber(C.message_decode(core.slice(bytes), message, used)))
    assert.equal(#bytes, tonumber(used[0]))
    assert.equal(12, tonumber(message[0].raft.append_entries.last_index))
    assert.equal('abc', core.text(message[0].records))
    assert.equal(5, tonumber(message[0].wall_ms))
  end)

  -- Fills a message, encodes it, and gives what is decoded.
  local function there_and_back(fill, records)
    local m, out = ffi.new('struct message[1]'), core.buffer()
    fill(m[0])
    C.message_encode(out, m, #(records or ''))
    local bytes = core.buffer_text(out) .. (records or '')
    assert.equal(OK, tonumber(C.message_decode(core.slice(bytes), message, used)))
    return message[0], #bytes
  end

  it('says what digests are compared, and nothing if none is', function()
    local function heartbeat(asked, index)
      return function(m)
        m.type, m.raft.type, m.raft.from, m.raft.to = 3, C.RAFT_APPEND_RESPONSE, 1, 2
        m.digests.asked, m.digests.index, m.digests.digest.lo, m.digests.digest.hi = asked, index, 7, 8
      end
    end
    local got, long = there_and_back(heartbeat(300, 200))
    assert.same({ 300, 200, 7, 8 }, { tonumber(got.digests.asked), tonumber(got.digests.index), tonumber(got.digests.digest.lo),
      tonumber(got.digests.digest.hi) })
    local none, short = there_and_back(heartbeat(0, 0))
    assert.same({ 0, 0, 0 }, { tonumber(none.digests.asked), tonumber(none.digests.index), tonumber(none.digests.digest.lo) })
    assert.is_true(short < long)
  end)

  it('offers a snapshot, asks for it, and brings it piece by piece', function()
    local offer = there_and_back(function(m)
      m.type, m.raft.type, m.raft.from, m.raft.to = 3, C.RAFT_INSTALL_SNAPSHOT, 1, 2
      m.raft.install_snapshot.last_included_index, m.raft.install_snapshot.last_included_term = 90, 4
      m.raft.install_snapshot.epoch, m.snapshot.index, m.snapshot.bytes, m.snapshot.head_hash = 3, 90, 5000, 11
      m.snapshot.hash.lo, m.snapshot.hash.hi = 5, 6
    end)
    assert.same({ 90, 4, 3 }, { tonumber(offer.raft.install_snapshot.last_included_index),
      tonumber(offer.raft.install_snapshot.last_included_term), offer.raft.install_snapshot.epoch })
    assert.same({ 90, 5000, 11, 5, 6 }, { tonumber(offer.snapshot.index), tonumber(offer.snapshot.bytes),
      tonumber(offer.snapshot.head_hash), tonumber(offer.snapshot.hash.lo), tonumber(offer.snapshot.hash.hi) })
    local pull = there_and_back(function(m)
      m.type, m.pull.index, m.pull.offset, m.pull.progress, m.pull.again, m.pull.bad = 6, 90, 4096, 4100, true, false
    end).pull
    assert.same({ 90, 4096, 4100, true, false }, { tonumber(pull.index), tonumber(pull.offset), tonumber(pull.progress), pull.again,
      pull.bad })
    local piece = there_and_back(function(m) m.type, m.piece.index, m.piece.offset, m.piece.crc = 7, 90, 4096, 77 end, 'bytes')
    assert.same({ 4096, 77, 'bytes' }, { tonumber(piece.piece.offset), piece.piece.crc, core.text(piece.records) })
  end)

  it('carries a transfer, and for how long a voter stands by its leader', function()
    local function raft(kind, fill)
      return there_and_back(function(m)
        m.type, m.raft.type, m.raft.from, m.raft.to, m.raft.term = 3, kind, 1, 2, 9
        fill(m.raft)
      end).raft
    end
    assert.equal(9, tonumber(raft(C.RAFT_TIMEOUT_NOW, function() end).term))
    assert.is_true(raft(C.RAFT_REQUEST_VOTE, function(r) r.request_vote.transfer = true end).request_vote.transfer)
    assert.is_false(raft(C.RAFT_REQUEST_VOTE, function(r) r.request_vote.pre_vote = true end).request_vote.transfer)
    assert.equal(700, raft(C.RAFT_APPEND_RESPONSE, function(r) r.append_response.vote_wait_ms = 700 end).append_response.vote_wait_ms)
  end)

  it('is refused when its head or body is changed', function()
    local bytes, random = frame(), core.random(4)
    for _ = 1, 2000 do
      local at = random(#bytes - 3)
      local flipped = bytes:sub(1, at - 1) .. string.char((bytes:byte(at) + random(255)) % 256) .. bytes:sub(at + 1)
      assert.not_equal(OK, tonumber(C.message_decode(core.slice(flipped), message, used)))
    end
  end)

  it('says how many bytes it needs', function()
    local bytes = frame()
    assert.equal(INCOMPLETE, tonumber(C.message_decode(core.slice(bytes:sub(1, 20)), message, used)))
    assert.equal(#bytes, tonumber(used[0]))
    assert.equal(TOO_LARGE, tonumber(C.message_decode(core.slice(('\255'):rep(16)), message, used)))
    assert.equal(CORRUPT, tonumber(C.message_decode(core.slice(('\0'):rep(16)), message, used)))
  end)
end)

describe('a request', function()
  local request, used = ffi.new('struct request[1]'), ffi.new('size_t[1]')
  local why, answerable = ffi.new('const char *[1]'), ffi.new('bool[1]')
  local function decode(value)
    local bytes = type(value) == 'string' and value or machine.pack(value)
    return tonumber(C.request_decode(core.slice(bytes), request, used, why, answerable)), bytes
  end

  it('is read with its options', function()
    local status, bytes = decode { 0, 7, 'kv.set', { 'a', 1 }, { timeout_ms = 50, read = 'stale', query = true, forward = false } }
    assert.equal(OK, status)
    assert.equal('kv.set', core.text(request[0].name))
    assert.same({ 2, 50, tonumber(C.READ_STALE), true, false },
      { tonumber(request[0].args_count), request[0].timeout_ms, tonumber(request[0].read),
      request[0].query_only, request[0].forward })
    assert.equal(#bytes, tonumber(used[0]))
    assert.same({ 0, 0, 0, false },
      { tonumber(request[0].session.size), tonumber(request[0].seq), tonumber(request[0].done_below), request[0].dry_run })
  end)

  it('may be of a session, a dry run, and read on a lease', function()
    local status, bytes = decode { 0, 7, 'kv.set', {}, { session = '1f-9', seq = 12, done_below = 10, dry_run = true, read = 'lease' } }
    assert.equal(OK, status)
    assert.equal('1f-9', core.text(request[0].session))
    assert.same({ 12, 10, true, tonumber(C.READ_LEASE) }, { tonumber(request[0].seq), tonumber(request[0].done_below), request[0].dry_run,
      tonumber(request[0].read) })
    assert.equal(#bytes, tonumber(used[0]))
  end)

  for name, value in pairs { ['an unknown option'] = { 0, 7, 'kv.set', {}, { fast = true } }, ['a name that is no text'] = { 0, 7, 1, {} },
    ['arguments that are no list'] = { 0, 7, 'a.b', 'x' }, ['a bad read level'] = { 0, 7, 'a.b', {}, { read = 'fast' } },
    ['a session without a seq'] = { 0, 7, 'a.b', {}, { session = 's' } }, ['a seq without a session'] = { 0, 7, 'a.b', {}, { seq = 1 } },
    ['an empty session'] = { 0, 7, 'a.b', {}, { session = '', seq = 1 } }, ['seq 0'] = { 0, 7, 'a.b', {}, { session = 's', seq = 0 } },
    ['a session that is too long'] = { 0, 7, 'a.b', {}, { session = ('s'):rep(65), seq = 1 } },
    ['a seq that no number holds'] = { 0, 7, 'a.b', {}, { session = 's', seq = 2 ^ 53 + 2 } },
    ['done_below above seq'] = { 0, 7, 'a.b', {}, { session = 's', seq = 1, done_below = 2 } },
    ['a dry_run that is no boolean'] = { 0, 7, 'a.b', {}, { dry_run = 1 } } } do
    it('with ' .. name .. ' is refused, and can be answered', function()
      assert.equal(INVALID, (decode(value)))
      assert.is_true(answerable[0])
      assert.equal(7, tonumber(request[0].id))
    end)
  end

  it('has a size, which is larger for code', function()
    local mib = ('x'):rep(1024 * 1024)
    local two, nine = mib:rep(2), mib:rep(9)
    assert.equal(OK, (decode { 0, 7, 'a.b', { two:sub(101) } }))
    assert.equal(TOO_LARGE, (decode { 0, 7, 'a.b', { two } }))
    assert.equal(OK, (decode { 0, 7, 'tidelock.deploy', { two } }))
    assert.equal(OK, (decode { 0, 7, 'tidelock.deploy', { nine:sub(101) } }))
    assert.equal(TOO_LARGE, (decode { 0, 7, 'tidelock.deploy', { nine } }))
    local function begun(value) return machine.pack(value):sub(1, -2) end
    assert.equal(TOO_LARGE, (decode(begun { 0, 7, 'a.b', { two } })))
    assert.equal(INCOMPLETE, (decode(begun { 0, 7, 'tidelock.deploy', { two } })))
    assert.equal(TOO_LARGE, (decode(begun { 0, 7, 'tidelock.deploy', { nine } })))
    assert.equal(TOO_LARGE, (decode(begun { 0, -7, 'tidelock.deploy', { two } })))
  end)

  it('that is none is refused, and cannot be answered', function()
    for _, value in ipairs { { 1, 7, 'a.b', {} }, { 2, 'event', {} }, { 0, -1, 'a.b', {} } } do
      assert.equal(INVALID, (decode(value)))
      assert.is_false(answerable[0])
    end
  end)
end)

describe('the table of errors', function()
  it('is the contract', function()
    local rows = { BAD_REQUEST = '2 400 true', BAD_ARGS = '2 400 true', TOO_LARGE = '2 413 true', UNKNOWN_COMMAND = '2 404 true',
      NOT_FOUND = '5 404 true', EXISTS = '6 409 true', CONFLICT = '6 412 true', WRONG_CLUSTER = '3 503 true', PARKED = '3 503 true',
      SCRIPT_ERROR = '1 500 true', BUDGET = '1 500 true', DEPTH = '1 500 true', NOT_LEADER = '3 307 true', NO_LEADER = '3 503 true',
      BUSY = '3 503 true', TIMEOUT = '4 504 false', LOST = '4 504 false', DENIED = '7 403 true' }
    for name, expected in pairs(rows) do
      local row = C.error_row_named(name, #name)
      assert.equal(expected, ('%d %d %s'):format(row.exit_code, row.http_status, tostring(row.definite)))
    end
    assert.is_true(C.error_row_named('OUT_OF_STOCK', 12) == nil)
    assert.is_true(C.error_code_of_service('OUT_OF_STOCK', 12))
    assert.is_false(C.error_code_of_service('BUDGET', 6))
  end)
end)
