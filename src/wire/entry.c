/* wire/entry.c - see wire/entry.h. */
#include "wire/entry.h"

#include <string.h>

#include "base/check.h"
#include "base/checksum.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they lie in memory");

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static void store32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static void store64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, 8);
}

size_t entry_size(size_t payload_bytes)
{
    return (ENTRY_HEADER_BYTES + payload_bytes + 7) & ~(size_t)7;
}

void entry_encode(struct buffer *out, struct entry *entry, uint64_t previous_chain)
{
    size_t size = entry_size(entry->payload.size);
    CHECK(size <= ENTRY_BYTES_MAX);
    CHECK(entry->index > 0);
    uint8_t *at = buffer_reserve(out, size);
    store64(at + size - 8, 0); /* the padding; overwritten where there is none */
    store32(at + 4, (uint32_t)size);
    store64(at + 8, entry->index);
    store64(at + 16, entry->term);
    store64(at + 24, previous_chain);
    store64(at + 32, entry->stamp_ms);
    at[40] = entry->kind;
    at[41] = entry->flags;
    at[42] = 0;
    at[43] = 0;
    store32(at + 44, (uint32_t)entry->payload.size);
    if (entry->payload.size > 0)
        memcpy(at + ENTRY_HEADER_BYTES, entry->payload.data, entry->payload.size);
    entry->chain = hash64(at + 8, size - 8);
    entry->size = (uint32_t)size;
    store64(at + 24, entry->chain);
    store32(at, crc32c(0, at + 4, size - 4));
    out->size += size;
}

enum status entry_peek(struct slice bytes, struct entry *entry)
{
    if (bytes.size < ENTRY_HEADER_BYTES)
        return STATUS_INCOMPLETE;
    const uint8_t *at = bytes.data;
    uint32_t size = load32(at + 4);
    uint32_t payload = load32(at + 44);
    if (size > ENTRY_BYTES_MAX || payload > ENTRY_BYTES_MAX || size != entry_size(payload))
        return STATUS_CORRUPT;
    if (bytes.size < size)
        return STATUS_INCOMPLETE;
    entry->index = load64(at + 8);
    entry->term = load64(at + 16);
    entry->chain = load64(at + 24);
    entry->stamp_ms = load64(at + 32);
    entry->kind = at[40];
    entry->flags = at[41];
    entry->size = size;
    entry->payload = slice_make(at + ENTRY_HEADER_BYTES, payload);
    return STATUS_OK;
}

enum status entry_decode(struct slice bytes, struct entry *entry)
{
    enum status status = entry_peek(bytes, entry);
    if (status != STATUS_OK)
        return status;
    const uint8_t *at = bytes.data;
    if (load32(at) != crc32c(0, at + 4, entry->size - 4))
        return STATUS_CORRUPT;
    if (entry->index == 0 || at[42] != 0 || at[43] != 0)
        return STATUS_CORRUPT;
    for (size_t i = ENTRY_HEADER_BYTES + entry->payload.size; i < entry->size; i++)
        if (at[i] != 0)
            return STATUS_CORRUPT;
    return STATUS_OK;
}

uint64_t entry_chain(struct slice record, uint64_t previous_chain)
{
    CHECK(record.size >= ENTRY_HEADER_BYTES);
    /* The chain's own field is hashed as the previous chain: put it there for the moment of hashing, in a copy of the
     * record when it is small, so that shared bytes are never touched. */
    uint8_t small[1024];
    struct buffer large = {0};
    uint8_t *copy = small;
    if (record.size > sizeof small)
        copy = buffer_reserve(&large, record.size);
    memcpy(copy, record.data, record.size);
    store64(copy + 24, previous_chain);
    uint64_t chain = hash64(copy + 8, record.size - 8);
    buffer_close(&large);
    return chain;
}

const char *entry_kind_name(uint8_t kind)
{
    static const char *const names[ENTRY_KINDS] = {
        "unknown", "noop",   "configuration", "bundle", "command", "batch",      "session",
        "due",     "deploy", "migrate",       "limit",  "skip",    "membership", "observation",
    };
    return kind < ENTRY_KINDS ? names[kind] : "unknown";
}
