/* wire/json.c - see wire/json.h. */
#include "wire/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/pack.h"

static bool write_value(struct buffer *out, struct pack_reader *reader);

static void text(struct buffer *out, const char *word)
{
    buffer_append(out, word, strlen(word));
}

/* The shortest of 15, 16 and 17 digits that reads back the same. */
static void write_number(struct buffer *out, double number)
{
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number)
            break;
    }
    text(out, digits);
    if (fabs(number) >= 9007199254740992.0 && strchr(digits, 'e') == NULL)
        text(
            out,
            "e0"); /* the mark of a number that may be rounded: whole ones of this size are refused (script/convert.h) */
}

static void write_text(struct buffer *out, struct slice bytes)
{
    static const char hex[] = "0123456789abcdef";
    static const char plain[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: the byte, its letter after \ */
    buffer_append_byte(out, '"');
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        const char *pair = NULL;
        for (const char *at = plain; *at != 0 && pair == NULL; at += 2)
            pair = (uint8_t)*at == byte ? at : NULL;
        if (pair != NULL) {
            buffer_append_byte(out, '\\');
            buffer_append_byte(out, (uint8_t)pair[1]);
        } else if (byte < 0x20 || byte == 0x7F) {
            text(out, "\\u00");
            buffer_append_byte(out, (uint8_t)hex[byte >> 4]);
            buffer_append_byte(out, (uint8_t)hex[byte & 15]);
        } else {
            buffer_append_byte(out, byte);
        }
    }
    buffer_append_byte(out, '"');
}

static void write_base64(struct buffer *out, struct slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text(out, "{\"$base64\":\"");
    for (size_t i = 0; i < bytes.size; i += 3) {
        uint32_t left = (uint32_t)(bytes.size - i < 3 ? bytes.size - i : 3);
        uint32_t word = (uint32_t)bytes.data[i] << 16;
        word |= left > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        word |= left > 2 ? bytes.data[i + 2] : 0;
        for (uint32_t digit = 0; digit < 4; digit++)
            buffer_append_byte(out, digit <= left ? (uint8_t)digits[(word >> (18 - 6 * digit)) & 63] : '=');
    }
    text(out, "\"}");
}

static bool write_list(struct buffer *out, struct pack_reader *reader, uint32_t count)
{
    buffer_append_byte(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        if (!write_value(out, reader))
            return false;
    }
    buffer_append_byte(out, ']');
    return true;
}

static void write_bytes(struct buffer *out, struct slice bytes)
{
    if (pack_is_utf8(bytes))
        write_text(out, bytes);
    else
        write_base64(out, bytes);
}

/* True for a map that an object cannot stand for; the reader is behind its head. */
static bool needs_pairs(struct pack_reader reader, uint32_t count)
{
    struct slice key;
    for (uint32_t i = 0; i < count; i++) {
        if (pack_read_text(&reader, &key) != STATUS_OK || pack_skip(&reader, PACK_DEPTH_MAX, NULL) != STATUS_OK)
            return false;
        if (!pack_is_utf8(key) ||
            (count == 1 && (slice_equal(key, slice_text("$base64")) || slice_equal(key, slice_text("$map")))))
            return true;
    }
    return false;
}

static bool write_pairs(struct buffer *out, struct pack_reader *reader, uint32_t count)
{
    text(out, "{\"$map\":[");
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        if (pack_read_text(reader, &key) != STATUS_OK)
            return false;
        text(out, i > 0 ? ",[" : "[");
        write_bytes(out, key);
        buffer_append_byte(out, ',');
        if (!write_value(out, reader))
            return false;
        buffer_append_byte(out, ']');
    }
    text(out, "]}");
    return true;
}

static bool write_map(struct buffer *out, struct pack_reader *reader, uint32_t count)
{
    if (needs_pairs(*reader, count))
        return write_pairs(out, reader, count);
    buffer_append_byte(out, '{');
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        if (pack_read_text(reader, &key) != STATUS_OK)
            return false;
        if (i > 0)
            buffer_append_byte(out, ',');
        write_text(out, key);
        buffer_append_byte(out, ':');
        if (!write_value(out, reader))
            return false;
    }
    buffer_append_byte(out, '}');
    return true;
}

static bool write_value(struct buffer *out, struct pack_reader *reader)
{
    struct pack_item item;
    char digits[32];
    if (pack_read(reader, &item) != STATUS_OK)
        return false;
    switch (item.type) {
    case PACK_NIL:
        text(out, "null");
        return true;
    case PACK_BOOLEAN:
        text(out, item.boolean ? "true" : "false");
        return true;
    case PACK_INT:
        snprintf(digits, sizeof digits, "%lld", (long long)item.integer);
        text(out, digits);
        return true;
    case PACK_UINT:
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)item.natural);
        text(out, digits);
        return true;
    case PACK_FLOAT:
        write_number(out, item.number);
        return true;
    case PACK_STR:
    case PACK_BIN:
        if (item.type == PACK_STR && pack_is_utf8(item.bytes))
            write_text(out, item.bytes);
        else
            write_base64(out, item.bytes);
        return true;
    case PACK_ARRAY:
        return write_list(out, reader, item.count);
    default:
        return write_map(out, reader, item.count);
    }
}

enum status json_write(struct buffer *out, struct slice packed)
{
    struct pack_reader reader = pack_reader_make(packed);
    struct slice value;
    size_t start = out->size;
    enum status status = pack_skip(&reader, PACK_DEPTH_MAX, &value);
    if (status != STATUS_OK)
        return status == STATUS_INCOMPLETE ? STATUS_INVALID : status;
    reader = pack_reader_make(value);
    if (write_value(out, &reader))
        return STATUS_OK;
    out->size = start;
    return STATUS_INVALID;
}
