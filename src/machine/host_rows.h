/* machine/host_rows.h - the rows that the host itself keeps in the state: the one table of their kinds.
 *
 * A host row's key is the number of its kind (four bytes, big-endian) and one or two texts (state/key.h); numbers from
 * VM_MAPS_FIRST on are maps of services. A snapshot carries all of them as they are; a kind that is not in the table comes
 * from a newer version, and nothing of such a file is used. New kinds are added here, and to what snapshot_build makes of
 * them. Depends on state, script/vm.h, wire/pack.h.
 */
#ifndef MACHINE_HOST_ROWS_H
#define MACHINE_HOST_ROWS_H

#include "script/vm.h"

enum host_kind {
    HOST_EXPORT =
        0, /* of no state, but in an exported file: {"format"} -> bundle: the format that it is written in; {"lossy"} -> "":
            * it may hold less than the state */
    HOST_LIMITS = 1,  /* {"limit", name} -> number: the replicated limits */
    HOST_IDS = 2,     /* {mount} -> number: ctx.id's last (script/ctx.c) */
    HOST_BUNDLES = 3, /* {mount} -> bundle: the code in force */
    HOST_MAPS = 4,    /* {mount, map} -> number: the numbers of user maps, from VM_MAPS_FIRST on */
    HOST_REFUSED = 5, /* {mount} -> text: why the module for it was refused: the others work all the same */
    HOST_FORMAT = 6,  /* {"format"} -> bundle: the snapshot format in force; none: rows */
    HOST_KINDS
};

enum { ROW_NUMBER_BYTES = 4, HOST_TEXT_BYTES = 96 };

#define EXPORT_FORMAT "format"
#define EXPORT_LOSSY  "lossy"

/* How a refused format is listed among refused mounts: no mount can be called so. */
#define HOST_FORMAT_MOUNT "(format)"

/* The number that a row's key begins with. */
uint32_t row_number(struct slice key);

/* A word for a kind, "limits"; NULL: there is no such kind. */
const char *host_name(uint32_t kind);

/* Makes the key of a host row; `second` of no data: there is only one text. */
void host_key(struct buffer *key, enum host_kind kind, struct slice first, struct slice second);

/* The texts of a host row's key, zero-terminated; "" for one that is not there. False: no such key. */
bool host_texts(struct slice key, char first[HOST_TEXT_BYTES], char second[HOST_TEXT_BYTES]);

/* Limits: as they are at first; as rows of a tree; from such a row (false: it makes no sense); as a MessagePack map. */
void host_limits_standard(struct vm_limits *limits);
void host_limits_put(struct tree *tree, const struct vm_limits *limits);
bool host_limit_take(struct slice key, struct slice value, struct vm_limits *limits);
void host_limits_pack(const struct vm_limits *limits, struct buffer *out);

#endif
