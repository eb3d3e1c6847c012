/* machine/host_rows.h - the rows that the host itself keeps in the state: the one table of their kinds.
 *
 * A host row's key is the number of its kind (four bytes, big-endian) and texts or numbers (state/key.h); numbers from
 * VM_MAPS_FIRST on are maps of services. A snapshot carries all of them as they are; a kind that is not in the table comes
 * from a newer version, and nothing of such a file is used. New kinds are added here, and to what snapshot_build makes of
 * them. Depends on state, script/vm.h, wire/pack.h.
 */
#ifndef MACHINE_HOST_ROWS_H
#define MACHINE_HOST_ROWS_H

#include "script/vm.h"

enum host_kind {
    /* Of no state, but in an exported file: {"format"} -> bundle: the format that it is written in; {"lossy"} -> "": it may hold
     * less than the state. */
    HOST_EXPORT = 0,
    HOST_LIMITS = 1,   /* {"limit", name} -> number: the replicated limits */
    HOST_IDS = 2,      /* {mount} -> number: ctx.id's last (script/ctx.c) */
    HOST_BUNDLES = 3,  /* {mount} -> bundle: the code in force */
    HOST_MAPS = 4,     /* {mount, map} -> number: the numbers of user maps, from VM_MAPS_FIRST on */
    HOST_REFUSED = 5,  /* {mount} -> text: why the module for it was refused: the others work all the same */
    HOST_FORMAT = 6,   /* {"format"} -> bundle: the snapshot format in force; none: rows */
    HOST_SESSIONS = 7, /* {session} -> list of its facts (machine/session.c) */
    HOST_ANSWERS = 8,  /* {session, seq} -> whether it was ok, and the answer: kept for retries */
    HOST_DUE = 9,      /* what waits for a moment (script/due.h) */
    HOST_DUE_OF = 10,  /* where it waits, by what it is */
    /* {"due"} -> the last id of what waits, {"failed"} -> how many of those failed, {"grant"} -> the stamp of a term's first
     * entry, {"skipped", index} -> true: a SKIP had that entry refused, {"maps"} -> the number of the next map,
     * {"bundles"} -> how many bundles came by entries BUNDLE */
    HOST_COUNTERS = 11,
    HOST_MIGRATION = 12, /* {"facts"} -> of the one that goes on; {"failed"} -> why the last one failed */
    HOST_JOURNAL = 13,  /* {"row", n} -> key[, value]: what its steps changed, to be put back (machine/migrate.c) */
    HOST_UPGRADES = 14, /* {mount} -> number: the version of its rows without a mark (script/upgrade.h) */
    /* {what} or {what, number}: all that is kept of membership (machine/membership_rows.c), and under {"memory", map} the rows of the
     * policy's maps. The last number below those of services' maps: a row of a new kind needs a first text here, no number. */
    HOST_MEMBERSHIP = 15,
    HOST_KINDS
};

/* Those of script/. */
_Static_assert((int)HOST_IDS == VM_ROWS_IDS && (int)HOST_DUE == VM_ROWS_DUE && (int)HOST_DUE_OF == VM_ROWS_DUE_OF &&
                   (int)HOST_COUNTERS == VM_ROWS_COUNTERS && (int)HOST_KINDS <= (int)VM_MAPS_FIRST,
               "one table of kinds");

enum { ROW_NUMBER_BYTES = 4, HOST_TEXT_BYTES = 96 };

#define EXPORT_FORMAT "format"
#define EXPORT_LOSSY  "lossy"

/* How a refused format or policy is listed among refused mounts, and asked for as code: no mount can be called so. */
#define HOST_FORMAT_MOUNT "(format)"
#define HOST_POLICY_MOUNT "(policy)"

/* The number that a row's key begins with. */
uint32_t row_number(struct slice key);

/* A word for a kind, "limits"; NULL: there is no such kind. */
const char *host_name(uint32_t kind);

/* Makes the key of a host row; `second` of no data: there is only one text. */
void host_key(struct buffer *key, enum host_kind kind, struct slice first, struct slice second);

/* The texts of a host row's key, zero-terminated; "" for one that is not there. False: no such key. */
bool host_texts(struct slice key, char first[HOST_TEXT_BYTES], char second[HOST_TEXT_BYTES]);

/* As host_key, with a number for the second. */
void host_key_numbered(struct buffer *key, enum host_kind kind, struct slice first, uint64_t second);

/* A counter of the state: 0 where there is no row. */
uint64_t host_counter(const struct tree *tree, const char *name);
void host_counter_set(struct tree *tree, const char *name, uint64_t value);

#endif
