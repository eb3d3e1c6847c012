-- The length of an argument in which a hole was made.
return { name = 'm', version = 1,
  commands = { drop = { args = 'list:any', run = function(ctx, list)
    if type(list) ~= 'table' or #list < 3 then return ctx.fail('BAD_ARGS', 'a list of three') end
    list[#list] = nil
    list[2] = nil
    return #list
  end } } }
