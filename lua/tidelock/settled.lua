-- tidelock/settled.lua: whether a cluster is at rest, by what its nodes say of themselves.

-- All up, one leader, everyone has applied what is committed, digests equal.
return function(list)
  local leader, digest, applied
  for _, node in ipairs(list) do
    if node.down or node.leader == 0 then return false end
    if node.role == 'leader' then leader = node end
    if (applied or node.applied) ~= node.applied or (digest or node.digest) ~= node.digest then return false end
    applied, digest = node.applied, node.digest
  end
  return leader ~= nil and next(leader.service) ~= nil and leader.applied == leader.last
end
