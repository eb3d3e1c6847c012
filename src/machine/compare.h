/* machine/compare.h - frozen states held against each other, and against themselves.
 *
 * Two nodes whose digests differ at the same index find the first row that differs with a few small messages: one tells what its
 * rows sum to, in parts; the other says in which part it has another sum; and so on, until the part is a few rows. Sums are made
 * of the bytes as they are now, not of the hashes that rows were put with: what rotted since differs, too.
 * Any thread. Depends on machine, script/show.h, state, wire/pack.h, base.
 */
#ifndef MACHINE_COMPARE_H
#define MACHINE_COMPARE_H

#include "base/slice.h"

struct machine_frozen;
struct machine;

enum { COMPARE_PARTS = 16, COMPARE_ROWS = 48 };

/* Tells of the rows with lo <= key < hi (empty: open): appends one MessagePack value, at most some 64 KiB. */
void compare_tell(const struct machine_frozen *frozen, struct slice lo, struct slice hi, struct buffer *out);

enum compare_verdict {
    COMPARE_SAME,    /* all these rows are the same here */
    COMPARE_PART,    /* the first difference lies within lo and hi, as they are set */
    COMPARE_ROW,     /* `what` names it: kv.rows key "a" is 5 here, and another there */
    COMPARE_NONSENSE /* what was told is not of compare_tell */
};

/* Holds the own rows between lo and hi against what the other told of the same. Appends to `what`. */
enum compare_verdict compare_with(const struct machine_frozen *frozen, struct buffer *lo, struct buffer *hi,
                                  struct slice told, struct buffer *what);

/* Looks at rows from *from on (empty: the first) whether their bytes are those that were put; about bytes_max of them. Sets *from to
 * where to go on; empty: that was the end. False: `what` names a row that is not, or says that the rows do not sum to the digest
 * (looked at when one call sees all). */
bool compare_self(const struct machine_frozen *frozen, struct buffer *from, uint64_t bytes_max,
                  struct buffer *what);

/* Flips a bit of a row's value in memory: of the first user row from the given rank on (wrapping) whose value is then still a
 * value. Names the row in `what`. For proofs that it is found. False: there is none. */
bool machine_rot(struct machine *machine, uint64_t rank, struct buffer *what);

#endif
