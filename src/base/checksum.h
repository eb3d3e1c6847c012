/* base/checksum.h - CRC32C (Castagnoli) for damage, XXH3 for chains and digests.
 *
 * CRC32C runs in hardware where the CPU has it (decided once, at first use); both ways give the same number.
 */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t lo;
    uint64_t hi;
};

/* CRC32C of `size` bytes, continued from `crc` (0 to begin): crc32c(crc32c(0, a), b) is the crc of a followed by b. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* The same without the CPU's instruction: for the spec that holds both ways against each other. */
uint32_t crc32c_software(uint32_t crc, const void *data, size_t size);

/* XXH3, 64 bits, seed 0. */
uint64_t hash64(const void *data, size_t size);

/* XXH3, 128 bits, with a seed. */
struct hash128 hash128(const void *data, size_t size, uint64_t seed);

/* The same functions over bytes that come in parts. */
struct hasher;

struct hasher *hasher_new(uint64_t seed);
void hasher_free(struct hasher *hasher);
/* Begins anew. */
void hasher_reset(struct hasher *hasher, uint64_t seed);
void hasher_add(struct hasher *hasher, const void *data, size_t size);
/* Of all that was added since; more may be added afterwards. */
uint64_t hasher_sum64(const struct hasher *hasher);
struct hash128 hasher_sum128(const struct hasher *hasher);

#endif
