/* sim/sim_names.h - the files of a simulated disk, and the names that lead to them (sim/sim_disk.c).
 *
 * A directory is looked at twice: as it is now, and as it would be after a crash; both hold the same inodes. Depends on base, storage.
 */
#ifndef SIM_NAMES_H
#define SIM_NAMES_H

#include "base/slice.h"
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

/* Zeroed, it is empty. */
struct directory {
    struct name *names;
    size_t count, capacity;
};

/* Gives up one reference; the last frees it. */
void inode_release(struct inode *inode);

/* NULL: there is no such name. Valid until a name is set or dropped. */
struct name *directory_find(struct directory *directory, const char *text);

/* Leads `text` to this inode, whatever it led to before; takes a reference. */
void directory_set(struct directory *directory, const char *text, struct inode *inode);
void directory_drop(struct directory *directory, struct name *name);

/* Makes `to` what `from` is. */
void directory_copy(struct directory *to, const struct directory *from);

/* Empties it. */
void directory_close(struct directory *directory);

#endif
