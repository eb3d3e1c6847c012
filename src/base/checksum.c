/* base/checksum.c - see base/checksum.h. */
#include "base/checksum.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { POLYNOMIAL = (int)0x82F63B78 }; /* Castagnoli, reflected */

typedef uint32_t (*crc_function)(uint32_t crc, const uint8_t *at, size_t size);

static uint32_t table[8][256];

/* Eight tables, so that eight bytes are taken at a time. */
static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? (uint32_t)POLYNOMIAL : 0);
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xFF];
}

static uint32_t crc_table(uint32_t crc, const uint8_t *at, size_t size)
{
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word ^= crc;
        crc = table[7][word & 0xFF] ^ table[6][(word >> 8) & 0xFF] ^ table[5][(word >> 16) & 0xFF] ^
              table[4][(word >> 24) & 0xFF] ^ table[3][(word >> 32) & 0xFF] ^ table[2][(word >> 40) & 0xFF] ^
              table[1][(word >> 48) & 0xFF] ^ table[0][word >> 56];
        at += 8;
        size -= 8;
    }
    for (; size > 0; size--)
        crc = (crc >> 8) ^ table[0][(crc ^ *at++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const uint8_t *at, size_t size)
{
    uint64_t wide = crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        wide = __builtin_ia32_crc32di(wide, word);
        at += 8;
        size -= 8;
    }
    crc = (uint32_t)wide;
    for (; size > 0; size--)
        crc = __builtin_ia32_crc32qi(crc, *at++);
    return crc;
}

static crc_function best_way(void)
{
    return __builtin_cpu_supports("sse4.2") ? crc_hardware : crc_table;
}
#else
static crc_function best_way(void)
{
    return crc_table;
}
#endif

static _Atomic(crc_function) chosen;

static crc_function choose(void)
{
    /* Two threads may both come here: they write the same. */
    fill_table();
    crc_function way = best_way();
    atomic_store_explicit(&chosen, way, memory_order_release);
    return way;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    crc_function way = atomic_load_explicit(&chosen, memory_order_acquire);
    if (__builtin_expect(way == NULL, 0))
        way = choose();
    return ~way(~crc, data, size);
}

uint32_t crc32c_software(uint32_t crc, const void *data, size_t size)
{
    if (atomic_load_explicit(&chosen, memory_order_acquire) == NULL)
        (void)choose();
    return ~crc_table(~crc, data, size);
}

uint64_t hash64(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

struct hash128 hash128(const void *data, size_t size, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(data, size, seed);
    return (struct hash128){.lo = hash.low64, .hi = hash.high64};
}

/* XXH3 has one state for both widths. */
struct hasher {
    XXH3_state_t state;
};

struct hasher *hasher_new(uint64_t seed)
{
    struct hasher *hasher = mem_alloc_aligned(_Alignof(struct hasher), sizeof *hasher);
    XXH3_INITSTATE(&hasher->state);
    hasher_reset(hasher, seed);
    return hasher;
}

void hasher_free(struct hasher *hasher)
{
    mem_free(hasher);
}

void hasher_reset(struct hasher *hasher, uint64_t seed)
{
    (void)XXH3_128bits_reset_withSeed(&hasher->state, seed);
}

void hasher_add(struct hasher *hasher, const void *data, size_t size)
{
    (void)XXH3_128bits_update(&hasher->state, data, size);
}

uint64_t hasher_sum64(const struct hasher *hasher)
{
    return XXH3_64bits_digest(&hasher->state);
}

struct hash128 hasher_sum128(const struct hasher *hasher)
{
    XXH128_hash_t hash = XXH3_128bits_digest(&hasher->state);
    return (struct hash128){.lo = hash.low64, .hi = hash.high64};
}
