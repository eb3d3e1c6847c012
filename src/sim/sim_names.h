/* sim/sim_names.h - the files of a simulated disk and their names, as they are now and as a crash would leave them.
 *
 * Private to sim_disk.c and sim_names.c. Depends on storage/disk.h, base.
 */
#ifndef SIM_SIM_NAMES_H
#define SIM_SIM_NAMES_H

#include "base/prng.h"
#include "storage/disk.h"

struct inode {
    struct buffer durable;
    struct buffer now;
    uint64_t extent;     /* where the last byte that was ever written ends, but for zeros */
    uint32_t references; /* names, open files */
};

struct name {
    char text[DISK_NAME_MAX];
    struct inode *inode;
};

struct directory {
    struct name *names;
    size_t count;
    size_t capacity;
};

enum name_change { NAME_MADE, NAME_RENAMED, NAME_REMOVED };

/* One change of names since the directory was last synced. */
struct change {
    enum name_change what;
    char from[DISK_NAME_MAX];
    char to[DISK_NAME_MAX];
    struct inode *inode; /* a reference of its own */
};

struct sim_names {
    struct directory now;
    struct directory durable;
    struct change *changes; /* what lies between the two, in order */
    size_t changes_count;
    size_t changes_capacity;
};

/* Gives a reference up. */
void inode_release(struct inode *inode);

/* Writes; what lies between the end and `offset` becomes zeros. */
void inode_set_bytes(struct buffer *to, uint64_t offset, const uint8_t *data, size_t size);

struct name *directory_find(struct directory *directory, const char *text);
void directory_set(struct directory *directory, const char *text, struct inode *inode);
void directory_drop(struct directory *directory, struct name *name);
void directory_copy(struct directory *to, const struct directory *from);
void directory_close(struct directory *directory);

/* Remembers a change that was made to `now`, or forgets all, because they are durable or void. */
void names_note(struct sim_names *names, enum name_change what, const char *from, const char *to,
                struct inode *inode);
void names_forget(struct sim_names *names);

/* Power is back: of the changes that were not synced all, none or some are there. */
void names_settle(struct sim_names *names, struct prng *prng);

#endif
