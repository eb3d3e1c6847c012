-- The --cluster line (replica/formation.h): what is taken, and what is refused before it is pinned for good.
local core = require 'spec.support.core'
local ffi = core.ffi
local C = core.load('raft/types.h', 'storage/identity.h', 'replica/formation.h')

local function parse(line)
  local members, count, why = ffi.new('struct identity_member[32]'), ffi.new('size_t[1]'), core.buffer()
  if tonumber(C.formation_parse_line(line, members, count, why)) ~= 0 then return nil, core.buffer_text(why) end
  local out = {}
  for i = 0, tonumber(count[0]) - 1 do
    out[#out + 1] = tonumber(members[i].id) .. '=' .. ffi.string(members[i].address)
  end
  return table.concat(out, ',')
end

describe('a --cluster line', function()
  for line, want in pairs { ['1=a:1'] = '1=a:1', ['3=c:3,1=a:1,2=b:2'] = '1=a:1,2=b:2,3=c:3',
    ['7=[::1]:7301'] = '7=[::1]:7301', ['1=127.0.0.1:65535'] = '1=127.0.0.1:65535' } do
    it('may be ' .. line, function() assert.equal(want, parse(line)) end)
  end

  for _, line in ipairs { '', '1', '1=', '1=a', '1=a:', '1=:7301', '1=a:0', '1=a:65536', '1=a:99999', '1=a:73x', '0=a:1', 'x=a:1',
    '1=a:1,', ',1=a:1', '1=a:1,,2=b:2', '1=a:1 2=b:2', '1=a:1, 2=b:2', '1=a:1;2=b:2', '1=a:1,1=b:2', '1=a:1,2=a:1', '1=::1:7301',
    '-1=a:1', '1=a b:1', '1=a:1\n', '9999999999999999999=a:1' } do
    it(('is refused as %q'):format(line), function()
      local members, why = parse(line)
      assert.is_nil(members)
      assert.truthy(why:find('--cluster', 1, true), why)
    end)
  end
end)
