/* machine/catalog.c - see machine/catalog.h. Packed: the number of bundles that came at formation, a list of name, kind, name, kind, ... with "mount.*"
 * for one that dispatches itself, and a list of refused mounts: mount, why, mount, why, ... */
#include "machine/catalog.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "wire/pack.h"

struct name {
    struct slice text; /* in `bytes` */
    enum catalog_kind kind;
};

struct catalog {
    struct buffer bytes;
    struct name *names;   /* open addressing */
    struct slice refused; /* in `bytes`: the last list */
    size_t capacity;
    size_t mounts;
};

static struct name *find(const struct catalog *catalog, struct slice text)
{
    size_t slot = hash64(text.data, text.size) & (catalog->capacity - 1);
    while (catalog->names[slot].text.size > 0 && !slice_equal(catalog->names[slot].text, text))
        slot = (slot + 1) & (catalog->capacity - 1);
    return &catalog->names[slot];
}

struct catalog *catalog_new(struct slice packed)
{
    struct catalog *catalog = mem_zalloc(1, sizeof *catalog);
    buffer_append(&catalog->bytes, packed.data, packed.size);
    struct pack_reader reader = pack_reader_make(buffer_slice(&catalog->bytes));
    uint32_t count = 0;
    uint64_t mounts = 0;
    if (packed.size > 0) {
        CHECK(pack_read_u64(&reader, &mounts) == STATUS_OK);
        CHECK(pack_read_array(&reader, &count) == STATUS_OK);
    }
    catalog->mounts = (size_t)mounts;
    catalog->capacity = 16;
    while (catalog->capacity < 2 * (size_t)count)
        catalog->capacity *= 2;
    catalog->names = mem_zalloc(catalog->capacity, sizeof *catalog->names);
    for (uint32_t i = 0; i < count; i++) {
        struct name name = {0};
        uint64_t kind = 0;
        CHECK(pack_read_text(&reader, &name.text) == STATUS_OK);
        CHECK(pack_read_u64(&reader, &kind) == STATUS_OK);
        name.kind = (enum catalog_kind)kind;
        *find(catalog, name.text) = name;
    }
    catalog->refused = pack_rest(&reader);
    return catalog;
}

void catalog_free(struct catalog *catalog)
{
    if (catalog == NULL)
        return;
    buffer_close(&catalog->bytes);
    mem_free(catalog->names);
    mem_free(catalog);
}

static bool find_refused(const struct catalog *catalog, struct slice mount, struct slice *why)
{
    struct pack_reader reader = pack_reader_make(catalog->refused);
    uint32_t count = 0;
    struct slice text;
    if (catalog->refused.size > 0)
        CHECK(pack_read_array(&reader, &count) == STATUS_OK);
    for (uint32_t i = 0; i < count; i += 2) {
        CHECK(pack_read_text(&reader, &text) == STATUS_OK);
        CHECK(pack_read_text(&reader, why) == STATUS_OK);
        if (slice_equal(text, mount))
            return true;
    }
    return false;
}

static struct slice mount_of(struct slice name)
{
    const uint8_t *dot = name.size > 0 ? memchr(name.data, '.', name.size) : NULL;
    return slice_make(name.data, dot != NULL ? (size_t)(dot - name.data) : 0);
}

void refused_sentence(char *text, size_t size, struct slice mount, struct slice why)
{
    snprintf(text, size, "mount %.*s has no code: its module was refused when the cluster was formed: %.*s",
             (int)mount.size, (const char *)mount.data, (int)why.size, (const char *)why.data);
}

void catalog_refused(const struct catalog *catalog, struct slice name, char *text, size_t size)
{
    struct slice why = {0};
    bool found = find_refused(catalog, mount_of(name), &why);
    CHECK(found);
    refused_sentence(text, size, mount_of(name), why);
}

enum catalog_kind catalog_find(const struct catalog *catalog, struct slice name)
{
    const struct name *found = find(catalog, name);
    if (found->text.size > 0)
        return found->kind;
    size_t mount = mount_of(name).size;
    struct slice why;
    char whole[256];
    if (mount == 0 || mount + 2 > sizeof whole)
        return CATALOG_UNKNOWN;
    if (find_refused(catalog, mount_of(name), &why))
        return CATALOG_REFUSED;
    memcpy(whole, name.data, mount);
    memcpy(whole + mount, ".*", 2);
    found = find(catalog, slice_make(whole, mount + 2));
    return found->text.size > 0 ? CATALOG_RAW : CATALOG_UNKNOWN;
}

size_t catalog_mounts(const struct catalog *catalog)
{
    return catalog->mounts;
}
