/* machine/catalog.c - see machine/catalog.h. Packed: a list of [name, kind], "mount.*" for one that dispatches itself. */
#include "machine/catalog.h"

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
    struct name *names; /* open addressing */
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

enum catalog_kind catalog_find(const struct catalog *catalog, struct slice name)
{
    const struct name *found = find(catalog, name);
    if (found->text.size > 0)
        return found->kind;
    const uint8_t *dot = name.size > 0 ? memchr(name.data, '.', name.size) : NULL;
    size_t mount = dot != NULL ? (size_t)(dot - name.data) : 0;
    char whole[256];
    if (dot == NULL || mount + 2 > sizeof whole)
        return CATALOG_UNKNOWN;
    memcpy(whole, name.data, mount);
    memcpy(whole + mount, ".*", 2);
    found = find(catalog, slice_make(whole, mount + 2));
    return found->text.size > 0 ? CATALOG_RAW : CATALOG_UNKNOWN;
}

size_t catalog_mounts(const struct catalog *catalog)
{
    return catalog->mounts;
}
