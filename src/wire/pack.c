/* wire/pack.c - see wire/pack.h. Writing is msgpack-c's packer, compiled in here so that no item costs an indirect call;
 * reading is our own walk, which never believes a count. */
#include "wire/pack.h"

#include <math.h>
#include <string.h>

#include <limits.h>

#include <msgpack/sysdep.h>
#include <msgpack/timestamp.h>

#include "base/check.h"

/* --- writing ------------------------------------------------------------------------------------------------------ */

#define msgpack_pack_inline_func(name)               static inline __attribute__((unused)) int raw_pack##name
#define msgpack_pack_inline_func_cint(name)          static inline __attribute__((unused)) int raw_pack##name
#define msgpack_pack_inline_func_fixint(name)        static inline __attribute__((unused)) int raw_pack_fix##name
#define msgpack_pack_user                            struct buffer *
#define msgpack_pack_append_buffer(user, data, size) return (buffer_append((user), (data), (size)), 0)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <msgpack/pack_template.h>
#pragma GCC diagnostic pop

void pack_nil(struct buffer *out)
{
    raw_pack_nil(out);
}

void pack_boolean(struct buffer *out, bool value)
{
    if (value)
        raw_pack_true(out);
    else
        raw_pack_false(out);
}

void pack_i64(struct buffer *out, int64_t value)
{
    raw_pack_int64(out, value);
}

void pack_u64(struct buffer *out, uint64_t value)
{
    raw_pack_uint64(out, value);
}

void pack_number(struct buffer *out, double value)
{
    CHECK(isfinite(value));
    if (value >= -9007199254740992.0 && value <= 9007199254740992.0) {
        int64_t whole = (int64_t)value;
        if ((double)whole == value && !(whole == 0 && signbit(value))) {
            if (whole >= 0)
                raw_pack_uint64(out, (uint64_t)whole);
            else
                raw_pack_int64(out, whole);
            return;
        }
    }
    raw_pack_double(out, value);
}

bool pack_is_utf8(struct slice text)
{
    const uint8_t *at = text.data;
    const uint8_t *end = text.data + text.size;
    while (at < end) {
        while (end - at >= 8) { /* plain ASCII, eight bytes at a time */
            uint64_t word;
            memcpy(&word, at, 8);
            if ((word & 0x8080808080808080u) != 0)
                break;
            at += 8;
        }
        if (at == end)
            break;
        uint8_t c = *at;
        size_t more = c < 0x80 ? 0 : c < 0xC2 ? 9 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF5 ? 3 : 9;
        if (more == 9 || (size_t)(end - at) <= more)
            return false;
        for (size_t i = 1; i <= more; i++)
            if ((at[i] & 0xC0) != 0x80)
                return false;
        if ((c == 0xE0 && at[1] < 0xA0) || (c == 0xED && at[1] > 0x9F) || (c == 0xF0 && at[1] < 0x90) ||
            (c == 0xF4 && at[1] > 0x8F))
            return false;
        at += more + 1;
    }
    return true;
}

void pack_text(struct buffer *out, struct slice text)
{
    CHECK(text.size <= UINT32_MAX);
    if (pack_is_utf8(text))
        raw_pack_str(out, text.size);
    else
        raw_pack_bin(out, text.size);
    buffer_append(out, text.data, text.size);
}

void pack_bin(struct buffer *out, struct slice bytes)
{
    CHECK(bytes.size <= UINT32_MAX);
    raw_pack_bin(out, bytes.size);
    buffer_append(out, bytes.data, bytes.size);
}

void pack_array(struct buffer *out, uint32_t count)
{
    raw_pack_array(out, count);
}

void pack_map(struct buffer *out, uint32_t count)
{
    raw_pack_map(out, count);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct pack_reader pack_reader_make(struct slice bytes)
{
    return (struct pack_reader){.at = bytes.data, .end = bytes.data + bytes.size};
}

struct slice pack_rest(const struct pack_reader *reader)
{
    return slice_make(reader->at, (size_t)(reader->end - reader->at));
}

static uint64_t big_endian(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

static void set_natural(struct pack_item *item, uint64_t value)
{
    if (value <= INT64_MAX) {
        item->type = PACK_INT;
        item->integer = (int64_t)value;
    } else {
        item->type = PACK_UINT;
        item->natural = value;
    }
}

static void set_float(struct pack_item *item, const uint8_t *at, size_t size)
{
    item->type = PACK_FLOAT;
    uint64_t bits = big_endian(at, size);
    if (size == 8) {
        memcpy(&item->number, &bits, 8);
    } else {
        uint32_t half = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &half, 4);
        item->number = (double)narrow;
    }
}

/* Bytes that follow the type byte of a sized thing before its content: 1, 2, 4 or 8. */
static size_t head_size(uint8_t type)
{
    switch (type) {
    case 0xC4:
    case 0xCC:
    case 0xD0:
    case 0xD9:
        return 1;
    case 0xC5:
    case 0xCD:
    case 0xD1:
    case 0xDA:
    case 0xDC:
    case 0xDE:
        return 2;
    case 0xC6:
    case 0xCA:
    case 0xCE:
    case 0xD2:
    case 0xDB:
    case 0xDD:
    case 0xDF:
        return 4;
    case 0xCB:
    case 0xCF:
    case 0xD3:
        return 8;
    default:
        return 0;
    }
}

/* Takes `size` bytes as the content of a text. */
static enum status take_bytes(struct pack_reader *reader, const uint8_t *at, uint64_t size, enum pack_type type,
                              struct pack_item *item)
{
    if ((uint64_t)(reader->end - at) < size)
        return STATUS_INCOMPLETE;
    item->type = type;
    item->bytes = slice_make(at, (size_t)size);
    reader->at = at + size;
    return STATUS_OK;
}

/* Takes the head of a list or map, whose elements need at least a byte each. */
static enum status take_head(struct pack_reader *reader, const uint8_t *at, uint64_t count, enum pack_type type,
                             struct pack_item *item)
{
    uint64_t least = type == PACK_MAP ? count * 2 : count;
    if ((uint64_t)(reader->end - at) < least)
        return STATUS_INCOMPLETE;
    item->type = type;
    item->count = (uint32_t)count;
    reader->at = at;
    return STATUS_OK;
}

/* The types from 0xC0 to 0xDF: one byte, then `head` bytes of size or value. */
static enum status read_long(struct pack_reader *reader, uint8_t type, size_t head, struct pack_item *item)
{
    const uint8_t *at = reader->at + 1;
    if ((size_t)(reader->end - at) < head)
        return STATUS_INCOMPLETE;
    uint64_t value = big_endian(at, head);
    const uint8_t *after = at + head;
    switch (type) {
    case 0xC4:
    case 0xC5:
    case 0xC6:
        return take_bytes(reader, after, value, PACK_BIN, item);
    case 0xD9:
    case 0xDA:
    case 0xDB:
        return take_bytes(reader, after, value, PACK_STR, item);
    case 0xDC:
    case 0xDD:
        return take_head(reader, after, value, PACK_ARRAY, item);
    case 0xDE:
    case 0xDF:
        return take_head(reader, after, value, PACK_MAP, item);
    case 0xCA:
    case 0xCB:
        set_float(item, at, head);
        break;
    case 0xCC:
    case 0xCD:
    case 0xCE:
    case 0xCF:
        set_natural(item, value);
        break;
    default: /* D0 to D3: signed, so the top bit of `head` bytes is the sign */
        item->type = PACK_INT;
        item->integer = (int64_t)(value << (64 - 8 * head)) >> (64 - 8 * head);
        break;
    }
    reader->at = after;
    return STATUS_OK;
}

enum status pack_read(struct pack_reader *reader, struct pack_item *item)
{
    if (reader->at >= reader->end)
        return STATUS_INCOMPLETE;
    uint8_t type = *reader->at;
    if (type < 0x80 || type >= 0xE0) {
        item->type = PACK_INT;
        item->integer = type < 0x80 ? type : (int64_t)type - 256;
        reader->at++;
        return STATUS_OK;
    }
    if (type < 0x90)
        return take_head(reader, reader->at + 1, type & 0x0F, PACK_MAP, item);
    if (type < 0xA0)
        return take_head(reader, reader->at + 1, type & 0x0F, PACK_ARRAY, item);
    if (type < 0xC0)
        return take_bytes(reader, reader->at + 1, type & 0x1F, PACK_STR, item);
    size_t head = head_size(type);
    if (head > 0)
        return read_long(reader, type, head, item);
    if (type != 0xC0 && type != 0xC2 && type != 0xC3)
        return STATUS_INVALID; /* C1, and the ext types */
    item->type = type == 0xC0 ? PACK_NIL : PACK_BOOLEAN;
    item->boolean = type == 0xC3;
    reader->at++;
    return STATUS_OK;
}

enum status pack_skip(struct pack_reader *reader, uint32_t depth_max, struct slice *value)
{
    CHECK(depth_max <= PACK_SKIP_DEPTH);
    uint64_t left[PACK_SKIP_DEPTH + 1]; /* elements still to come at each depth */
    uint32_t depth = 0;
    left[0] = 1;
    struct pack_reader at = *reader;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                if (value != NULL)
                    *value = slice_make(reader->at, (size_t)(at.at - reader->at));
                reader->at = at.at;
                return STATUS_OK;
            }
            depth--;
        }
        left[depth]--;
        struct pack_item item;
        enum status status = pack_read(&at, &item);
        if (status != STATUS_OK)
            return status;
        if (item.type != PACK_ARRAY && item.type != PACK_MAP)
            continue;
        if (depth == depth_max)
            return STATUS_TOO_DEEP;
        left[++depth] = item.type == PACK_MAP ? (uint64_t)item.count * 2 : item.count;
    }
}

enum status pack_check(struct slice bytes)
{
    struct pack_reader reader = pack_reader_make(bytes);
    enum status status = pack_skip(&reader, PACK_DEPTH_MAX, NULL);
    if (status == STATUS_OK && reader.at != reader.end)
        return STATUS_INVALID;
    return status;
}

/* Reads an item that must be of one of two types. */
static enum status read_typed(struct pack_reader *reader, enum pack_type type, enum pack_type other,
                              struct pack_item *item)
{
    struct pack_reader at = *reader;
    enum status status = pack_read(&at, item);
    if (status != STATUS_OK)
        return status;
    if (item->type != type && item->type != other)
        return STATUS_INVALID;
    *reader = at;
    return STATUS_OK;
}

enum status pack_read_array(struct pack_reader *reader, uint32_t *count)
{
    struct pack_item item;
    enum status status = read_typed(reader, PACK_ARRAY, PACK_ARRAY, &item);
    if (status == STATUS_OK)
        *count = item.count;
    return status;
}

enum status pack_read_map(struct pack_reader *reader, uint32_t *count)
{
    struct pack_item item;
    enum status status = read_typed(reader, PACK_MAP, PACK_MAP, &item);
    if (status == STATUS_OK)
        *count = item.count;
    return status;
}

enum status pack_read_u64(struct pack_reader *reader, uint64_t *value)
{
    struct pack_item item;
    struct pack_reader at = *reader;
    enum status status = read_typed(&at, PACK_INT, PACK_UINT, &item);
    if (status != STATUS_OK)
        return status;
    if (item.type == PACK_INT && item.integer < 0)
        return STATUS_INVALID;
    *value = item.type == PACK_INT ? (uint64_t)item.integer : item.natural;
    *reader = at;
    return STATUS_OK;
}

enum status pack_read_boolean(struct pack_reader *reader, bool *value)
{
    struct pack_item item;
    enum status status = read_typed(reader, PACK_BOOLEAN, PACK_BOOLEAN, &item);
    if (status == STATUS_OK)
        *value = item.boolean;
    return status;
}

enum status pack_read_text(struct pack_reader *reader, struct slice *text)
{
    struct pack_item item;
    enum status status = read_typed(reader, PACK_STR, PACK_BIN, &item);
    if (status == STATUS_OK)
        *text = item.bytes;
    return status;
}
