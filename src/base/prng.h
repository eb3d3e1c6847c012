/* base/prng.h - random numbers that a seed fixes: the same everywhere (xoshiro256**, seeded by splitmix64).
 *
 * Not for secrets. Depends on nothing.
 */
#ifndef BASE_PRNG_H
#define BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t state[4];
};

/* Seeds; every seed is good, 0 too. */
void prng_seed(struct prng *prng, uint64_t seed);

/* The next 64 random bits. */
uint64_t prng_next(struct prng *prng);

/* A number in 0 .. bound - 1, without bias. bound is at least 1. */
uint64_t prng_below(struct prng *prng, uint64_t bound);

/* A number in lo .. hi, both included. lo <= hi. */
uint64_t prng_between(struct prng *prng, uint64_t lo, uint64_t hi);

/* True with the chance of `parts` in a million. */
int prng_chance(struct prng *prng, uint32_t parts);

#endif
