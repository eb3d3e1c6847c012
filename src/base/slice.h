/* base/slice.h - bytes: borrowed (slice) and owned (buffer).
 *
 * What hot paths call for each field is inline. Depends on base/memory.h.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that somebody else owns. data may be NULL when size is 0. */
struct slice {
    const uint8_t *data;
    size_t size;
};

/* Bytes that this struct owns. A zeroed struct is an empty buffer. */
struct buffer {
    uint8_t *data;
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
};

/* Makes a slice of `size` bytes at `data`. */
inline struct slice slice_make(const void *data, size_t size)
{
    return (struct slice){.data = data, .size = size};
}

/* Makes a slice of a zero-terminated text, without the zero. */
struct slice slice_text(const char *text);

/* True when both hold the same bytes. */
inline bool slice_equal(struct slice left, struct slice right)
{
    return left.size == right.size && (left.size == 0 || memcmp(left.data, right.data, left.size) == 0);
}

/* Orders by bytes, a shorter one first: < 0, 0, > 0. */
inline int slice_compare(struct slice left, struct slice right)
{
    size_t common = left.size < right.size ? left.size : right.size;
    int order = common > 0 ? memcmp(left.data, right.data, common) : 0;
    if (order != 0)
        return order;
    return (left.size > right.size) - (left.size < right.size);
}

/* The bytes of a buffer, borrowed until it next changes. */
inline struct slice buffer_slice(const struct buffer *buffer)
{
    return (struct slice){.data = buffer->data, .size = buffer->size};
}

/* Makes room for `more` bytes after size and returns where they go; size does not change. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t more);

/* Appends bytes (copied). `data` must not lie in this buffer. */
inline void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0)
        return;
    if (buffer->capacity - buffer->size < size)
        buffer_reserve(buffer, size);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

/* Appends one byte. */
inline void buffer_append_byte(struct buffer *buffer, uint8_t byte)
{
    *buffer_reserve(buffer, 1) = byte;
    buffer->size++;
}

/* Drops the first `size` bytes (at most buffer->size) and moves the rest to the front. */
void buffer_consume(struct buffer *buffer, size_t size);

/* Empties, keeps the memory. */
inline void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
}

/* Frees the memory; the buffer is empty and can be used again. */
void buffer_close(struct buffer *buffer);

#endif
