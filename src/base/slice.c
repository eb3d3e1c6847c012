/* base/slice.c - see base/slice.h. */
#include "base/slice.h"

#include "base/check.h"
#include "base/memory.h"

extern inline struct slice slice_make(const void *data, size_t size);
extern inline bool slice_equal(struct slice left, struct slice right);
extern inline int slice_compare(struct slice left, struct slice right);
extern inline struct slice buffer_slice(const struct buffer *buffer);
extern inline void buffer_append(struct buffer *buffer, const void *data, size_t size);
extern inline void buffer_append_byte(struct buffer *buffer, uint8_t byte);
extern inline void buffer_clear(struct buffer *buffer);

struct slice slice_text(const char *text)
{
    return slice_make(text, strlen(text));
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t more)
{
    CHECK(buffer->size + more >= more);
    if (buffer->capacity - buffer->size < more) {
        size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
        while (capacity - buffer->size < more)
            capacity += capacity / 2 + 64;
        buffer->data = mem_realloc(buffer->data, capacity);
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    CHECK(size <= buffer->size);
    if (size > 0 && size < buffer->size)
        memmove(buffer->data, buffer->data + size, buffer->size - size);
    buffer->size -= size;
}

void buffer_close(struct buffer *buffer)
{
    mem_free(buffer->data);
    *buffer = (struct buffer){0};
}
