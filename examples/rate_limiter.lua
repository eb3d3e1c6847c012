-- rate_limiter.lua: token buckets. A bucket fills at a rate, up to a size; what is taken from it must be there.
--
--   tidelock call rate_limiter.take ada --cost 3       what is left: 7
--   tidelock call rate_limiter.take ada --cost 9       RATE_LIMITED, with {"retry_ms":2000}
local limiter = { name = 'rate_limiter', version = 1, state = { buckets = 'map' }, commands = {}, queries = {} }

-- What is in the bucket now. A bucket that is not there is full.
local function level(ctx, key, rate, size)
  local bucket = ctx.db.buckets:get(key)
  if not bucket then return size end
  return math.min(size, bucket.level + (ctx.now - bucket.at) * rate / 1000)
end

limiter.commands.take = {
  args = 'key cost:number=1 rate:number=1 size:number=10', help = 'take from a bucket that gets `rate` a second',
  run = function(ctx, key, cost, rate, size)
    if cost < 0 or cost > size or rate < 0.001 or size > 1e9 then
      return ctx.fail('BAD_ARGS', 'cost is from 0 to size, rate from 0.001, size to 1e9')
    end
    local now = level(ctx, key, rate, size)
    if now < cost then
      return ctx.fail('RATE_LIMITED', 'too much at once', { retry_ms = math.ceil((cost - now) / rate * 1000) })
    end
    local full_in = math.ceil((size - now + cost) / rate * 1000)
    ctx.db.buckets:put(key, { level = now - cost, at = ctx.now }, { ttl = math.max(1, full_in) }) -- full again: it need not be kept
    return now - cost
  end,
}

limiter.commands.reset = { args = 'key', help = 'fill a bucket', run = function(ctx, key) return ctx.db.buckets:del(key) end }

limiter.queries.level = {
  args = 'key rate:number=1 size:number=10', help = 'what is in a bucket',
  run = function(ctx, key, rate, size) return level(ctx, key, rate, size) end,
}

function limiter.workload(ctx) return { 'take', 'client ' .. ctx.random(3), ctx.random(10) } end

function limiter.invariant(ctx)
  for key, bucket in ctx.db.buckets:pairs() do
    if bucket.level < 0 then return false, key .. ' gave what it did not have' end
  end
end

return limiter
