-- The sandbox's libraries beside LuaJIT's own, both interpreted: luajit spec/bench/library.lua (from the root, after make).
-- Prints nanoseconds a call: sandbox, LuaJIT, ratio. The sandbox's calls pay for budget and hook too.
package.path = './?.lua;' .. package.path
require('jit').off()
local machine = require 'spec.support.machine'

local list = {
  { 'match a key', "local a, b = ('user:12345'):match('^(%a+):(%d+)$')" },
  { 'find a byte', "local a = ('a line of text, as they come, 42'):find(',', 1, true)" },
  { 'find a class', "local a = ('a line of text, as they come, 42'):find('%d')" },
  { 'gmatch words', "for w in ('a line of text, as they come, 42'):gmatch('%a+') do end" },
  { 'gsub trim', "local a = ('   padded text   '):gsub('^%s+', ''):gsub('%s+$', '')" },
  { 'gsub escape', "local a = ('<a href=\"x\">&</a>'):gsub('[<>&\"]', { ['<'] = '&lt;', ['>'] = '&gt;' })" },
  { 'split a line', "for field in ('one,two,three,four,five,six,seven'):gmatch('[^,]*') do end" },
  { 'sort 20', "local t = { 5, 3, 8, 1, 9, 2, 7, 4, 6, 0, 15, 13, 18, 11, 19, 12, 17, 14, 16, 10 } table.sort(t)" },
  { 'insert, concat', "local t = {} for i = 1, 10 do table.insert(t, 'x') end local s = table.concat(t, ',')" },
  { 'floor, max, bor', "local a = math.floor(1.5) + math.max(1, 2) + bit.bor(1, 2)" },
  { 'sub and byte', "local s = 'some text' local a, b = s:sub(3, 6), s:byte(4)" },
}

local count = tonumber(arg[1]) or 10000
local body = {}
for i, one in ipairs(list) do body[i] = ('C.c%d = function(_, n) for _ = 1, n do %s end end'):format(i, one[2]) end
local source = "local m = { name = 'm', version = 1, state = {}, commands = {}, queries = {} }\nlocal C = m.queries\n"
  .. table.concat(body, '\n') .. '\nreturn m'
local m, native = machine.new { t = source }, assert(loadstring(source))()

local function ns(f)
  local best = math.huge
  for _ = 1, 5 do
    local started = os.clock()
    f()
    best = math.min(best, os.clock() - started)
  end
  return best / count * 1e9
end

for i, one in ipairs(list) do
  local ours = ns(function() assert(not select(2, m:query('t.c' .. i, count))) end)
  local theirs = ns(function() native.queries['c' .. i](nil, count) end)
  print(('%-14s %7.0f %7.0f  %.2f'):format(one[1], ours, theirs, ours / theirs))
end
