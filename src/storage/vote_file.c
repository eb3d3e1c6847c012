/* storage/vote_file.c - see storage/vote_file.h. */
#include "storage/vote_file.h"

#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/mutant.h"
#include "base/memory.h"
#include "base/trace.h"
#include "storage/storage.h"

enum { VOTE_MAGIC = 0x31565454, VOTE_BYTES = 40, SLOTS = 2 };

static const char file_name[] = "vote";

static void fill(uint8_t *block, uint64_t counter, raft_term term, node_id voted_for)
{
    memset(block, 0, DISK_BLOCK_BYTES);
    uint32_t magic = VOTE_MAGIC;
    memcpy(block + 4, &magic, 4);
    memcpy(block + 8, &counter, 8);
    memcpy(block + 16, &term, 8);
    memcpy(block + 24, &voted_for, 8);
    uint32_t crc = crc32c(0, block + 4, VOTE_BYTES - 4);
    memcpy(block, &crc, 4);
}

/* Takes what a slot says if it is whole and newer than what is known. */
static bool take(const uint8_t *block, struct vote_file *vote)
{
    uint32_t crc = 0;
    uint32_t magic = 0;
    uint64_t counter = 0;
    memcpy(&crc, block, 4);
    memcpy(&magic, block + 4, 4);
    memcpy(&counter, block + 8, 8);
    bool whole = crc == crc32c(0, block + 4, VOTE_BYTES - 4) || MUTANT(69);
    if (magic != VOTE_MAGIC || !whole || counter == 0)
        return false;
    if (counter > vote->counter) {
        vote->counter = counter;
        memcpy(&vote->term, block + 16, 8);
        memcpy(&vote->voted_for, block + 24, 8);
    }
    return true;
}

static enum status write_slots(struct disk *disk, struct vote_file *vote)
{
    fill(vote->block, vote->counter, vote->term, vote->voted_for);
    for (uint64_t slot = 0; slot < (MUTANT(71) ? 1 : SLOTS); slot++) {
        enum status status =
            disk->write_at(disk, vote->file, slot * DISK_BLOCK_BYTES, vote->block, DISK_BLOCK_BYTES);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status read_slots(struct disk *disk, struct vote_file *vote, struct buffer *why)
{
    size_t good = 0;
    for (uint64_t slot = 0; slot < SLOTS; slot++) {
        size_t got = 0;
        enum status status =
            disk->read_at(disk, vote->file, slot * DISK_BLOCK_BYTES, vote->block, DISK_BLOCK_BYTES, &got);
        if (status != STATUS_OK)
            return status;
        if (got == DISK_BLOCK_BYTES && take(vote->block, vote))
            good++;
    }
    if (good > 0) {
        if (good == SLOTS)
            return STATUS_OK;
        /* No answer left before both slots were written, so the other one knows all that was promised. */
        LOG(LOG_WARN, "log", "one of the two slots of file vote was torn or damaged; mended from the other");
        return write_slots(disk, vote);
    }
    const char text[] =
        "file vote, offset 0: both slots are damaged, so this node cannot know what it promised: set "
        "the directory aside and let the node join anew";
    buffer_append(why, text, sizeof text - 1);
    return STATUS_CORRUPT;
}

static enum status missing(struct buffer *why)
{
    const char text[] = "file vote is missing beside a log, so this node cannot know what it promised: set the "
                        "directory aside and let the node join anew";
    buffer_append(why, text, sizeof text - 1);
    return STATUS_CORRUPT;
}

enum status vote_file_open(struct disk *disk, bool create, struct vote_file *vote, struct buffer *why)
{
    memset(vote, 0, sizeof *vote);
    enum status status = disk->open(disk, file_name, DISK_DIRECT, &vote->file);
    bool made = status == STATUS_NOT_FOUND && create;
    if (made)
        status = disk->open(disk, file_name, DISK_CREATE | DISK_DIRECT, &vote->file);
    if (status == STATUS_NOT_FOUND)
        return missing(why);
    if (status != STATUS_OK)
        return status;
    vote->block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    uint64_t size = 0;
    status = disk->size(disk, vote->file, &size);
    if (status == STATUS_OK && create && size < SLOTS * DISK_BLOCK_BYTES)
        made = true; /* a crash while it was being made: nothing was promised yet */
    if (status == STATUS_OK && made) {
        vote->counter = 1;
        status = write_slots(disk, vote);
        if (status == STATUS_OK)
            status = disk->sync_directory(disk);
    } else if (status == STATUS_OK) {
        status = read_slots(disk, vote, why);
    }
    if (status != STATUS_OK)
        vote_file_close(disk, vote);
    return status;
}

enum status vote_file_write(struct disk *disk, struct vote_file *vote, raft_term term, node_id voted_for)
{
    CHECK(term >= vote->term);
    if (MUTANT(70))
        return STATUS_OK;
    vote->counter++;
    vote->term = term;
    vote->voted_for = voted_for;
    return write_slots(disk, vote);
}

void vote_file_close(struct disk *disk, struct vote_file *vote)
{
    disk->close(disk, vote->file);
    mem_free(vote->block);
    memset(vote, 0, sizeof *vote);
}

enum status storage_check_vote(struct disk *disk, struct storage_vote_report *report, struct buffer *why)
{
    struct vote_file vote = {0};
    enum status status = disk->open(disk, file_name, DISK_DIRECT, &vote.file);
    if (status == STATUS_NOT_FOUND)
        return missing(why);
    if (status != STATUS_OK)
        return status;
    vote.block = mem_alloc_aligned(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    for (uint64_t slot = 0; slot < SLOTS && status == STATUS_OK; slot++) {
        size_t got = 0;
        status = disk->read_at(disk, vote.file, slot * DISK_BLOCK_BYTES, vote.block, DISK_BLOCK_BYTES, &got);
        if (status == STATUS_OK && (got != DISK_BLOCK_BYTES || !take(vote.block, &vote))) {
            const char *text = slot == 0 ? "file vote, offset 0: the first slot is damaged"
                                         : "file vote, offset 4096: the second slot is damaged";
            buffer_append(why, text, strlen(text));
            status = STATUS_CORRUPT;
        }
    }
    *report = (struct storage_vote_report){.term = vote.term, .voted_for = vote.voted_for};
    vote_file_close(disk, &vote);
    return status;
}
