-- spec/support/disk_log.lua: a log on a simulated disk beside a model of it, for specs that break the disk.
--
-- The model keeps the whole history (term and chain by index), also of what was compacted away, and what each operation in
-- flight may leave: a list of stages, of which a restart must find exactly one.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('base/checksum.h', 'raft/types.h', 'wire/entry.h', 'storage/disk.h', 'storage/identity.h', 'storage/storage.h',
  'sim/sim_disk.h')

local OK = 0
local disk_log = { segment_bytes = 32768 }

function disk_log.open(disk, seed)
  local storage, why = ffi.new('struct storage *[1]'), core.buffer()
  local options = ffi.new('struct storage_options[1]', { { segment_bytes = disk_log.segment_bytes, seed = seed or 5 } })
  local status = tonumber(C.storage_open(disk, options, storage, why))
  return status == OK and storage[0] or nil, status, core.buffer_text(why)
end

function disk_log.model()
  return { history = { [0] = { term = 0, chain = ffi.new('uint64_t', 0) } }, base = 0, last = 0, term = 0, stages = nil }
end

local function stage(model)
  local history = {}
  for index, at in pairs(model.history) do history[index] = at end
  return { history = history, base_least = model.loose or model.base, base_most = model.base, least = model.last, most = model.last }
end

-- Adds `count` entries to a history from `last` + 1 on; gives their records.
local function extend(history, last, count, term, bytes)
  local records, entry = core.buffer(), ffi.new('struct entry[1]')
  for i = last + 1, last + count do
    entry[0].index, entry[0].term, entry[0].kind, entry[0].payload = i, term, 4, core.slice(('p'):rep(bytes))
    C.entry_encode(records, entry, history[i - 1].chain)
    history[i] = { term = term, chain = entry[0].chain }
  end
  return records
end

local function shorten(history, last)
  for index in pairs(history) do if index > last then history[index] = nil end end
end

local function adopt(model, found, base, last)
  model.history, model.base, model.last, model.stages = found.history, base, last, nil
  shorten(model.history, last)
  model.term = math.max(model.term, model.history[last].term)
end

-- One unit: { count =, bytes =, term =, cut =, reset = { index, term, chain } }. True if it was done.
function disk_log.write(storage, model, what)
  local w, count = ffi.new('struct storage_write[1]'), what.count or 0
  local stages = { stage(model) }
  local after = stage(model)
  if what.cut then
    w[0].cut_from = what.cut
    after.least, after.most = what.cut - 1, what.cut - 1
    shorten(after.history, what.cut - 1)
    stages[#stages + 1] = after
  elseif what.reset then
    local at = what.reset
    w[0].reset, w[0].base = true, { index = at.index, term = at.term, chain = at.chain }
    after.base_least, after.base_most, after.least, after.most = at.index, at.index, at.index, at.index
    after.history = { [at.index] = { term = at.term, chain = at.chain } }
    stages[#stages + 1] = after
  else
    stages[1] = after
  end
  local records = extend(after.history, after.most, count, what.term or model.term, what.bytes or 20)
  w[0].first, w[0].last = after.most + 1, after.most + count
  after.most = after.most + count
  local part = ffi.new('struct slice[1]', { C.buffer_slice(records) })
  w[0].records, w[0].records_count = part, count > 0 and 1 or 0
  model.stages = stages
  if tonumber(C.storage_write(storage, w)) ~= OK then return false end
  if what.reset then model.loose = nil end
  adopt(model, after, after.base_most, after.most)
  return true
end

-- Gives back what lies at or below `index`. Gives the status; what a failure left is in the stages.
function disk_log.compact(storage, model, index, segments)
  local more = ffi.new('bool[1]')
  local before = stage(model)
  before.base_most = math.max(index, model.base)
  model.stages = { before }
  local status = tonumber(C.storage_compact(storage, index, segments or 100, more))
  local base = tonumber(C.storage_base(storage).index)
  assert(base >= model.base and (base <= index or base == model.base), 'a base above what is wanted no more')
  if status == OK then model.stages, model.loose = nil, nil
  else model.loose = before.base_least end -- what is gone may come back with a restart
  model.base = base
  return status, more[0]
end

-- All that the storage says of its entries, against a stage. Nil, or what is wrong.
local function differs(storage, at)
  local base, last = C.storage_base(storage), tonumber(C.storage_last_index(storage))
  local from = tonumber(base.index)
  if from < at.base_least or from > at.base_most then return ('base %d, not %d to %d'):format(from, at.base_least, at.base_most) end
  if last < at.least or last > at.most then return ('last %d, not %d to %d'):format(last, at.least, at.most) end
  local known = at.history[from]
  if not known or known.term ~= tonumber(base.term) or known.chain ~= base.chain then return 'the base is another entry' end
  if C.storage_last_chain(storage) ~= at.history[last].chain then return 'the last entry is another one' end
  if tonumber(C.storage_last_term(storage)) ~= at.history[last].term then return 'the last term' end
  local records, got, entry, index = core.buffer(), ffi.new('raft_index[1]'), ffi.new('struct entry[1]'), from
  while index < last do
    records.size = 0
    if tonumber(C.storage_read(storage, index + 1, last, 30000, records, got)) ~= OK then return ffi.string(C.storage_why(storage)) end
    local offset = 0
    while offset < tonumber(records.size) do
      if tonumber(C.entry_decode(C.slice_make(records.data + offset, records.size - offset), entry)) ~= OK then return 'a record' end
      index = index + 1
      if at.history[index].chain ~= entry[0].chain then return 'entry ' .. index .. ' is another one' end
      offset = offset + entry[0].size
    end
  end
  if from > 0 and from <= last
    and tonumber(C.storage_read(storage, from, last, 30000, records, got)) ~= C.STATUS_NOT_FOUND then return 'reads below the base' end
  local runs, position = ffi.new('const struct raft_run *[1]'), 0
  local count = tonumber(C.storage_runs(storage, runs))
  if (count == 0) ~= (from == last) then return 'runs without entries, or entries without runs' end
  if count > 0 and tonumber(runs[0][0].first) ~= from + 1 then return 'runs do not begin after the base' end
  for i = from + 1, last do
    if position < count and tonumber(runs[0][position].first) == i then position = position + 1 end
    if tonumber(runs[0][position - 1].term) ~= at.history[i].term then return 'the term of entry ' .. i end
  end
end

-- The storage is what the model says (nothing is in flight), or one of the stages; the model follows it.
function disk_log.check(storage, model, where)
  local stages, wrong = model.stages or { stage(model) }, {}
  for _, at in ipairs(stages) do
    local what = differs(storage, at)
    if not what then
      adopt(model, at, tonumber(C.storage_base(storage).index), tonumber(C.storage_last_index(storage)))
      return
    end
    wrong[#wrong + 1] = what
  end
  error(where .. ': ' .. table.concat(wrong, '; '), 0)
end

-- What snapshot an entry would end.
function disk_log.base_at(model, index)
  local at = model.history[index]
  return { index = index, term = at.term, chain = at.chain }
end

return disk_log
