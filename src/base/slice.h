/* base/slice.h - bytes: borrowed (slice) and owned (buffer).
 *
 * Depends on base/memory.h.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
struct slice slice_make(const void *data, size_t size);

/* Makes a slice of a zero-terminated text, without the zero. */
struct slice slice_text(const char *text);

/* True when both hold the same bytes. */
bool slice_equal(struct slice left, struct slice right);

/* Orders by bytes, a shorter one first: < 0, 0, > 0. */
int slice_compare(struct slice left, struct slice right);

/* The bytes of a buffer, borrowed until it next changes. */
struct slice buffer_slice(const struct buffer *buffer);

/* Makes room for `more` bytes after size and returns where they go; size does not change. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t more);

/* Appends bytes (copied). `data` must not lie in this buffer. */
void buffer_append(struct buffer *buffer, const void *data, size_t size);

/* Appends one byte. */
void buffer_append_byte(struct buffer *buffer, uint8_t byte);

/* Drops the first `size` bytes (at most buffer->size) and moves the rest to the front. */
void buffer_consume(struct buffer *buffer, size_t size);

/* Empties, keeps the memory. */
void buffer_clear(struct buffer *buffer);

/* Frees the memory; the buffer is empty and can be used again. */
void buffer_close(struct buffer *buffer);

#endif
