/* base/prng.c - see base/prng.h. */
#include "base/prng.h"

#include "base/check.h"

static uint64_t split_mix(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void prng_seed(struct prng *prng, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        prng->state[i] = split_mix(&seed);
}

static uint64_t rotate(uint64_t value, int by)
{
    return (value << by) | (value >> (64 - by));
}

uint64_t prng_next(struct prng *prng)
{
    uint64_t *s = prng->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    CHECK(bound > 0);
    uint64_t threshold = (0 - bound) % bound; /* numbers below it would favour small results */
    for (;;) {
        uint64_t value = prng_next(prng);
        if (value >= threshold)
            return value % bound;
    }
}

uint64_t prng_between(struct prng *prng, uint64_t lo, uint64_t hi)
{
    CHECK(lo <= hi);
    if (lo == 0 && hi == UINT64_MAX)
        return prng_next(prng);
    return lo + prng_below(prng, hi - lo + 1);
}

int prng_chance(struct prng *prng, uint32_t parts)
{
    return prng_below(prng, 1000000) < parts;
}
