-- queue.lua: jobs that are leased to workers, tried again when a lease runs out, and laid aside after too many tries.
--
--   tidelock call queue.push mail '{"to":"ada"}' --delay 5s    7, the job
--   tidelock call queue.pull mail                             {"body":{"to":"ada"},"id":7,"lease":9,"tries":1}
--   tidelock call queue.done 7 9                              or queue.failed 7 9
local queue = { name = 'queue', version = 1, state = { jobs = 'map', ready = 'map', leased = 'map', dead = 'map' },
  commands = {}, queries = {}, timers = {} }

local TRIES = 3

local function ready(ctx, id, job)
  ctx.db.ready:put({ job.queue, id }, true)
  ctx.emit('ready', job.queue, id)
end

-- A job that was not done: it may be tried again, or has been tried enough.
local function back(ctx, id)
  local job = ctx.db.jobs:get(id)
  if job.tries < TRIES then return ready(ctx, id, job) end
  ctx.db.jobs:del(id)
  ctx.db.dead:put({ job.queue, id }, job)
  ctx.emit('dead', job.queue, id)
end

local function settle(ctx, id, lease)
  if ctx.db.leased:get(id) ~= lease then ctx.fail('CONFLICT', 'this lease of the job has run out') end
  ctx.db.leased:del(id)
end

queue.commands.push = {
  args = 'queue body:any [delay:ms]', help = 'a new job; its number',
  run = function(ctx, name, body, delay)
    if #name > 200 then return ctx.fail('BAD_ARGS', 'queue: a name of at most 200 bytes') end
    local id, job = ctx.id(), { queue = name, body = body, tries = 0 }
    ctx.db.jobs:put(id, job)
    if delay and delay > 0 then ctx.after(delay, 'ready', id) else ready(ctx, id, job) end
    return id
  end,
}

queue.commands.pull = {
  args = 'queue lease:ms=30s', help = 'the oldest job that is ready, or null',
  run = function(ctx, name, ms)
    local key = ctx.db.ready:first { name }
    if not key then return nil end
    local id, lease = key[2], ctx.id()
    local job = ctx.db.jobs:update(id, function(job)
      job.tries = job.tries + 1
      return job
    end)
    ctx.db.ready:del(key)
    ctx.db.leased:put(id, lease, { ttl = math.max(1, ms) })
    return { id = id, lease = lease, body = job.body, tries = job.tries }
  end,
}

queue.commands.done = { args = 'id:int lease:int', help = 'the job is done', run = function(ctx, id, lease)
  settle(ctx, id, lease)
  ctx.db.jobs:del(id)
end }

queue.commands.failed = { args = 'id:int lease:int', help = 'the job was not done', run = function(ctx, id, lease)
  settle(ctx, id, lease)
  back(ctx, id)
end }

queue.queries.count = { args = 'queue', help = 'jobs that are ready, and dead ones', run = function(ctx, name)
  return { ready = ctx.db.ready:len { name }, dead = ctx.db.dead:len { name } }
end }

function queue.timers.ready(ctx, id) ready(ctx, id, ctx.db.jobs:get(id)) end
function queue.on_expire(ctx, _, id) back(ctx, id) end

return queue
