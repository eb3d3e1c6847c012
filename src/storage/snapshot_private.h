/* storage/snapshot_private.h - what the writer and the reader of a snapshot file agree on. Private to storage/. */
#ifndef STORAGE_SNAPSHOT_PRIVATE_H
#define STORAGE_SNAPSHOT_PRIVATE_H

#include "storage/snapshot_file.h"

enum {
    SNAPSHOT_MAGIC = 0x31504E53,
    SNAPSHOT_LAYOUT = 1,
    SNAPSHOT_FRONT_BYTES = 16, /* before the head */
    CHUNK_HEADER_BYTES = 24,
    CHUNK_HASHED_BYTES = 16, /* of the header */
    CHUNK_ZSTD = 1,
    FOOTER_STORED_BYTES = 40,
    FOOTER_BYTES = CHUNK_HEADER_BYTES + FOOTER_STORED_BYTES
};

#define SECTION_FOOTER UINT32_MAX

struct chunk_header {
    uint32_t section;
    uint32_t flags;
    uint32_t stored; /* bytes */
    uint32_t plain;  /* bytes as they were */
    uint64_t hash;
};

/* What the hash of a chunk covers: its header up to the hash, and what is stored; seeded with its number. */
uint64_t chunk_hash(struct hasher *hasher, uint64_t number, const uint8_t header[CHUNK_HASHED_BYTES],
                    struct slice stored);
void chunk_header_encode(uint8_t at[CHUNK_HEADER_BYTES], const struct chunk_header *header);
struct chunk_header chunk_header_decode(const uint8_t at[CHUNK_HEADER_BYTES]);

/* The footer's bytes; file_bytes includes the footer in `seal`, and not on disk. */
void footer_encode(uint8_t at[FOOTER_STORED_BYTES], const struct snapshot_seal *seal);
struct snapshot_seal footer_decode(const uint8_t at[FOOTER_STORED_BYTES]);

/* Before `more` bytes are written behind `written`: asks for room, and makes what was written durable if it is as much as may
 * wait; *synced: bytes that are. */
enum status snapshot_sync_steadily(struct disk *disk, struct disk_file *file, uint64_t *synced, uint64_t written,
                                   uint64_t more) MUST_USE;

#endif
