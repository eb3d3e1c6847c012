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

static void reserve(struct directory *directory, size_t count)
{
    if (count <= directory->capacity)
        return;
    directory->capacity = 2 * count;
    directory->names = mem_realloc(directory->names, directory->capacity * sizeof *directory->names);
}

void directory_set(struct directory *directory, const char *text, struct inode *inode)
{
    struct name *name = directory_find(directory, text);
    inode->references++;
    if (name != NULL) {
        inode_release(name->inode);
    } else {
        reserve(directory, directory->count + 1);
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
    reserve(to, from->count);
    if (from->count > 0)
        memcpy(to->names, from->names, from->count * sizeof *from->names);
    to->count = from->count;
}

void directory_close(struct directory *directory)
{
    for (size_t i = 0; i < directory->count; i++)
        inode_release(directory->names[i].inode);
    mem_free(directory->names);
    *directory = (struct directory){0};
}
