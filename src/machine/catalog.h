/* machine/catalog.h - which names there are, for threads that do not own the machine.
 *
 * The loop thread must know whether "kv.get" is a query (answered from the state) or a command (a log entry) before it
 * reaches the machine. A catalog is a frozen copy, made from machine_catalog's bytes. Depends on base, wire/pack.h.
 */
#ifndef MACHINE_CATALOG_H
#define MACHINE_CATALOG_H

#include "base/slice.h"
#include "base/status.h"

enum catalog_kind {
    CATALOG_UNKNOWN, /* no such mount, or no such name in it */
    CATALOG_COMMAND,
    CATALOG_QUERY,
    CATALOG_RAW,    /* the mount dispatches itself: a command unless the client asked for a query */
    CATALOG_REFUSED /* its module was refused: catalog_refused says why */
};

struct catalog;

/* Makes a catalog from machine_catalog's bytes (an empty slice: an empty catalog). */
struct catalog *catalog_new(struct slice packed);
void catalog_free(struct catalog *catalog);

/* Looks up "mount.name". */
enum catalog_kind catalog_find(const struct catalog *catalog, struct slice name);

/* The sentence for a name that is CATALOG_REFUSED: `text` gets at most `size` bytes, zero-terminated. */
void catalog_refused(const struct catalog *catalog, struct slice name, char *text, size_t size);

/* How that sentence reads, here and where the machine itself meets such a name. */
void refused_sentence(char *text, size_t size, struct slice mount, struct slice why);

/* Bundles that came at formation, also those that were refused and the snapshot format; 0 while the service's code has not been
 * applied. */
size_t catalog_mounts(const struct catalog *catalog);

#endif
