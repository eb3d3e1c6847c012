/* sim/sim_names.c - see sim/sim_names.h. */
#include "sim/sim_names.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void inode_release(struct inode *inode)
{
    if (--inode->references > 0)
        return;
    buffer_close(&inode->durable);
    buffer_close(&inode->now);
    mem_free(inode);
}

struct name *directory_find(struct directory *directory, const char *text)
{
    for (size_t i = 0; i < directory->count; i++)
        if (strcmp(directory->names[i].text, text) == 0)
            return &directory->names[i];
    return NULL;
}

static void make_room(struct directory *directory, size_t count)
{
    if (count <= directory->capacity)
        return;
    directory->capacity = count * 2 + 16;
    directory->names = mem_realloc(directory->names, directory->capacity * sizeof *directory->names);
}

void directory_set(struct directory *directory, const char *text, struct inode *inode)
{
    struct name *name = directory_find(directory, text);
    inode->references++;
    if (name != NULL) {
        inode_release(name->inode);
    } else {
        make_room(directory, directory->count + 1);
        name = &directory->names[directory->count++];
        snprintf(name->text, sizeof name->text, "%s", text);
    }
    name->inode = inode;
}

void directory_drop(struct directory *directory, struct name *name)
{
    inode_release(name->inode);
    *name = directory->names[--directory->count];
}

void directory_copy(struct directory *to, const struct directory *from)
{
    for (size_t i = 0; i < from->count; i++)
        from->names[i].inode->references++;
    for (size_t i = 0; i < to->count; i++)
        inode_release(to->names[i].inode);
    make_room(to, from->count);
    if (from->count > 0)
        memcpy(to->names, from->names, from->count * sizeof *to->names);
    to->count = from->count;
}

void directory_close(struct directory *directory)
{
    for (size_t i = 0; i < directory->count; i++)
        inode_release(directory->names[i].inode);
    mem_free(directory->names);
    *directory = (struct directory){0};
}

void names_note(struct sim_names *names, enum name_change what, const char *from, const char *to,
                struct inode *inode)
{
    if (names->changes_count == names->changes_capacity) {
        names->changes_capacity = names->changes_capacity * 2 + 8;
        names->changes = mem_realloc(names->changes, names->changes_capacity * sizeof *names->changes);
    }
    struct change *change = &names->changes[names->changes_count++];
    *change = (struct change){.what = what, .inode = inode};
    snprintf(change->from, sizeof change->from, "%s", from);
    snprintf(change->to, sizeof change->to, "%s", to);
    inode->references++;
}

void names_forget(struct sim_names *names)
{
    for (size_t i = 0; i < names->changes_count; i++)
        inode_release(names->changes[i].inode);
    names->changes_count = 0;
}

/* A change reaches the disk, whatever became of those before it. */
static void make_change(struct directory *names, const struct change *change)
{
    struct name *from = directory_find(names, change->from);
    if (from != NULL && from->inode == change->inode && change->what != NAME_MADE)
        directory_drop(names, from);
    if (change->what != NAME_REMOVED)
        directory_set(names, change->to, change->inode);
}

/* A file system that keeps the order of changes leaves a part of these cases; nothing that POSIX promises does. */
void names_settle(struct sim_names *names, struct prng *prng)
{
    uint64_t luck = prng_below(prng, 4);
    for (size_t i = 0; i < names->changes_count; i++)
        if (luck == 0 || (luck > 1 && prng_below(prng, 2) == 0))
            make_change(&names->durable, &names->changes[i]);
    names_forget(names);
    directory_copy(&names->now, &names->durable);
}

void inode_set_bytes(struct buffer *to, uint64_t offset, const uint8_t *data, size_t size)
{
    if (offset + size > to->size) {
        size_t more = (size_t)(offset + size - to->size);
        memset(buffer_reserve(to, more), 0, more);
        to->size += more;
    }
    if (size > 0)
        memcpy(to->data + offset, data, size);
}
