-- history_client.lua: a client of kv on a few keys that writes its history down, until it is killed.
--
--   tidelock run spec/live/history_client.lua ADDRESSES NAME FILE
local sys = require 'tidelock.sys'
local to, name, path = arg[1], arg[2], arg[3]
local client = require 'tidelock.client'.new(to, { timeout = 3000 })
local history = assert(require 'tidelock.history'.open(path))
math.randomseed(tonumber(name:match('%d+')) * 100 + tonumber(name:match('%d+$')))

local KEYS, count, last = 3, 0, {}

local function value()
  count = count + 1
  return name .. '.' .. count
end

-- A definite NOT_FOUND or CONFLICT is an answer: the key was read.
local function cas(op, err)
  if err and (err.code == 'NOT_FOUND' or err.code == 'CONFLICT') then return history:ok(op, 0) end
  return history:ended(op, 1, err)
end

while true do
  local key, draw = 'history-' .. math.random(KEYS), math.random(10)
  if draw <= 4 then
    local op = history:inv(name, 'get', key)
    local got, err = client:query('kv.get', key)
    if err and err.code == 'NOT_FOUND' then got, err = nil, nil end
    if not err then last[key] = got end
    history:ended(op, got, err)
  elseif draw <= 7 then
    local new = value()
    local op = history:inv(name, 'put', key, new)
    history:ended(op, client:call('kv.set', key, new))
  elseif draw <= 9 then
    local old, new = last[key] or 'none', value()
    local op = history:inv(name, 'cas', key, old, new)
    local _, err = client:call('kv.cas', key, old, new)
    cas(op, err)
  else
    local op = history:inv(name, 'del', key)
    history:ended(op, client:call('kv.del', key))
  end
  sys.sleep(math.random() * 0.004)
end
