/* wire/pack.h - MessagePack: a bounded reader that looks where the bytes lie, and the canonical writer.
 *
 * One value has one byte string: whole numbers with |n| <= 2^53 (not -0) as the shortest integer, other numbers as
 * float 64, text as str if it is UTF-8, else bin, maps sorted by their keys' bytes (the caller's duty). The reader takes
 * any valid MessagePack, never allocates, and never trusts a count: each element needs at least a byte. Ext types are
 * INVALID. Depends on base and msgpack-c (whose door is this floor).
 */
#ifndef WIRE_PACK_H
#define WIRE_PACK_H

#include "base/slice.h"
#include "base/status.h"

enum {
    PACK_DEPTH_MAX = 32,  /* nested lists and maps in anything from outside */
    PACK_SKIP_DEPTH = 128 /* that can be passed over, to answer what is refused for its depth */
};

enum pack_type {
    PACK_NIL,
    PACK_BOOLEAN,
    PACK_INT,   /* fits int64_t: .integer */
    PACK_UINT,  /* above INT64_MAX: .natural */
    PACK_FLOAT, /* .number (float 32 is widened) */
    PACK_STR,   /* .bytes */
    PACK_BIN,   /* .bytes */
    PACK_ARRAY, /* .count elements follow */
    PACK_MAP    /* .count pairs follow */
};

struct pack_item {
    enum pack_type type;
    bool boolean;
    int64_t integer;
    uint64_t natural;
    double number;
    struct slice bytes; /* borrowed from what is read */
    uint32_t count;
};

struct pack_reader {
    const uint8_t *at;
    const uint8_t *end;
};

struct pack_reader pack_reader_make(struct slice bytes);

/* What is left to read. */
struct slice pack_rest(const struct pack_reader *reader);

/* Reads one item: a scalar, or the head of a list or map (its count is checked against the bytes left). OK, INCOMPLETE
 * (nothing is consumed), INVALID. */
enum status pack_read(struct pack_reader *reader, struct pack_item *item) MUST_USE;

/* Skips one whole value, at most `depth_max` deep. OK, INCOMPLETE, INVALID, TOO_DEEP. `value`, if not NULL, gets its
 * bytes. */
enum status pack_skip(struct pack_reader *reader, uint32_t depth_max, struct slice *value) MUST_USE;

/* OK when `bytes` are exactly one whole value, at most PACK_DEPTH_MAX deep. */
enum status pack_check(struct slice bytes) MUST_USE;

/* Typed reads: INVALID if the next item is another type. pack_read_u64 takes any whole number >= 0. */
enum status pack_read_array(struct pack_reader *reader, uint32_t *count) MUST_USE;
enum status pack_read_map(struct pack_reader *reader, uint32_t *count) MUST_USE;
enum status pack_read_u64(struct pack_reader *reader, uint64_t *value) MUST_USE;
enum status pack_read_boolean(struct pack_reader *reader, bool *value) MUST_USE;
enum status pack_read_text(struct pack_reader *reader, struct slice *text) MUST_USE; /* str or bin */

/* Write one item, canonically, at the end of the buffer. */
void pack_nil(struct buffer *out);
void pack_boolean(struct buffer *out, bool value);
void pack_i64(struct buffer *out, int64_t value);
void pack_u64(struct buffer *out, uint64_t value);
void pack_number(struct buffer *out,
                 double value); /* finite; NaN and infinities are the caller's to refuse (checked) */
void pack_text(struct buffer *out, struct slice text); /* str, or bin if it is not UTF-8 */
void pack_bin(struct buffer *out,
              struct slice bytes); /* bin, whatever the bytes: not for values, which are canonical */
void pack_array(struct buffer *out, uint32_t count);
void pack_map(struct buffer *out, uint32_t count);

/* True for valid UTF-8 (no surrogates, no overlong forms). */
bool pack_is_utf8(struct slice text);

#endif
