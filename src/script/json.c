/* script/json.c - see script/json.h. */
#include "script/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "script/convert.h"
#include "script/value.h"
#include "wire/pack.h"

struct json {
    const uint8_t *at;
    const uint8_t *end;
    const char *why;
};

/* In text: "$map" takes three levels for one. */
enum { TEXT_DEPTH_MAX = 3 * VALUE_DEPTH_MAX };

static const char too_deep[] = "must be JSON, nested less deep";

static bool parse_value(struct json *json, struct buffer *out, int depth);

static bool wrong(struct json *json, const char *why)
{
    json->why = why;
    return false;
}

static void skip_blank(struct json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' || *json->at == '\r'))
        json->at++;
}

/* Takes `c` if it is what comes next. */
static bool take(struct json *json, char c)
{
    skip_blank(json);
    if (json->at >= json->end || *json->at != (uint8_t)c)
        return false;
    json->at++;
    return true;
}

static bool take_word(struct json *json, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, word, size) != 0)
        return false;
    json->at += size;
    return true;
}

/* --- text ----------------------------------------------------------------------------------------------------------- */

static bool parse_hex4(struct json *json, uint32_t *code)
{
    *code = 0;
    if (json->end - json->at < 4)
        return wrong(json, "must be JSON: \\u wants four hex digits");
    for (int i = 0; i < 4; i++) {
        uint8_t c = *json->at++;
        uint32_t digit = c >= '0' && c <= '9' ? c - 48u : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87u : 16u;
        if (digit == 16)
            return wrong(json, "must be JSON: \\u wants four hex digits");
        *code = *code * 16 + digit;
    }
    return true;
}

static void append_utf8(struct buffer *out, uint32_t code)
{
    if (code < 0x80) {
        buffer_append_byte(out, (uint8_t)code);
        return;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t heads[] = {0, 0xC0, 0xE0, 0xF0};
    buffer_append_byte(out, (uint8_t)(heads[more] | code >> (6 * more)));
    while (more-- > 0)
        buffer_append_byte(out, (uint8_t)(0x80 | (code >> (6 * more) & 0x3F)));
}

static bool parse_unicode(struct json *json, struct buffer *text)
{
    uint32_t code = 0;
    uint32_t low = 0;
    if (!parse_hex4(json, &code))
        return false;
    if (code >= 0xD800 && code < 0xDC00) {
        if (!take_word(json, "\\u") || !parse_hex4(json, &low) || low < 0xDC00 || low > 0xDFFF)
            return wrong(json, "must be JSON: half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        return wrong(json, "must be JSON: half of a surrogate pair");
    }
    append_utf8(text, code);
    return true;
}

/* What stands between quotes; the first one is taken. */
static bool parse_text(struct json *json, struct buffer *text)
{
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    while (json->at < json->end && *json->at != '"') {
        uint8_t c = *json->at++;
        if (c < 0x20)
            return wrong(json, "must be JSON: a control character in text");
        if (c != '\\') {
            buffer_append_byte(text, c);
            continue;
        }
        if (json->at == json->end)
            break;
        c = *json->at++;
        size_t i = 0;
        while (i < sizeof escapes - 1 && (uint8_t)escapes[i] != c)
            i += 2;
        if (c == 'u') {
            if (!parse_unicode(json, text))
                return false;
        } else if (i < sizeof escapes - 1) {
            buffer_append_byte(text, (uint8_t)escapes[i + 1]);
        } else {
            return wrong(json, "must be JSON: an unknown escape");
        }
    }
    if (json->at == json->end)
        return wrong(json, "must be JSON: a text does not end");
    json->at++;
    return true;
}

static int digit64(uint8_t c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != 0 ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

static bool decode_base64(struct slice text, struct buffer *bytes)
{
    size_t size = text.size;
    if (size % 4 != 0)
        return false;
    while (size > 0 && text.size - size < 2 && text.data[size - 1] == '=')
        size--;
    uint32_t held = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < size; i++) {
        int digit = digit64(text.data[i]);
        if (digit < 0)
            return false;
        held = held << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buffer_append_byte(bytes, (uint8_t)(held >> bits));
            held &= (1u << bits) - 1;
        }
    }
    return held == 0 && bits < 6; /* one text for each byte string */
}

/* --- lists and objects ------------------------------------------------------------------------------------------------ */

static bool parse_list(struct json *json, struct buffer *out, int depth)
{
    struct buffer items = {0};
    uint32_t count = 0;
    bool good = true;
    bool ended = take(json, ']');
    while (good && !ended) {
        skip_blank(json);
        if (take_word(json, "null"))
            good = wrong(json, "must be JSON without null in a list");
        else
            good = parse_value(json, &items, depth);
        count++;
        ended = good && take(json, ']');
        if (good && !ended && !take(json, ','))
            good = wrong(json, "must be JSON: a list wants , or ]");
    }
    if (good) {
        pack_array(out, count);
        buffer_append(out, items.data, items.size);
    }
    buffer_close(&items);
    return good;
}

static int by_bytes(const void *left, const void *right)
{
    return slice_compare(*(const struct slice *)left, *(const struct slice *)right);
}

/* `pairs`: count names and values in turn, packed. */
static bool has_twins(struct slice pairs, uint32_t count)
{
    struct slice *names = mem_alloc((count + 1) * sizeof *names);
    struct pack_reader reader = pack_reader_make(pairs);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(pack_read_text(&reader, &names[i]) == STATUS_OK);
        CHECK(pack_skip(&reader, PACK_SKIP_DEPTH, NULL) == STATUS_OK);
    }
    qsort(names, count, sizeof *names, by_bytes);
    bool twins = false;
    for (uint32_t i = 1; i < count; i++)
        twins = twins || slice_equal(names[i - 1], names[i]);
    mem_free(names);
    return twins;
}

/* {"$map": [[name, value], ...]}: the list is at the reader. */
static bool finish_pairs(struct json *json, struct pack_reader reader, struct buffer *out)
{
    struct buffer pairs = {0};
    uint32_t count = 0;
    bool good = pack_read_array(&reader, &count) == STATUS_OK;
    for (uint32_t i = 0; i < count && good; i++) {
        uint32_t parts = 0;
        struct slice name;
        struct slice value;
        good = pack_read_array(&reader, &parts) == STATUS_OK && parts == 2 &&
               pack_read_text(&reader, &name) == STATUS_OK &&
               pack_skip(&reader, PACK_SKIP_DEPTH, &value) == STATUS_OK;
        if (good) {
            pack_text(&pairs, name);
            buffer_append(&pairs, value.data, value.size);
        }
    }
    if (!good)
        wrong(json, "must be JSON: \"$map\" wants a list of [name, value]");
    else if (has_twins(buffer_slice(&pairs), count))
        good = wrong(json, "must be JSON: a name stands twice in one object");
    if (good) {
        pack_map(out, count);
        buffer_append(out, pairs.data, pairs.size);
    }
    buffer_close(&pairs);
    return good;
}

/* {"$base64": text} is bytes. */
static bool finish_object(struct json *json, struct slice pairs, uint32_t count, struct buffer *out)
{
    struct pack_reader reader = pack_reader_make(pairs);
    struct slice name;
    struct slice text;
    if (count == 1 && pack_read_text(&reader, &name) == STATUS_OK && slice_equal(name, slice_text("$base64"))) {
        struct buffer bytes = {0};
        bool good = pack_read_text(&reader, &text) == STATUS_OK && decode_base64(text, &bytes);
        if (good)
            pack_text(out, buffer_slice(&bytes));
        buffer_close(&bytes);
        return good || wrong(json, "must be JSON: \"$base64\" wants text in base64");
    }
    if (count == 1 && slice_equal(name, slice_text("$map")))
        return finish_pairs(json, reader, out);
    if (has_twins(pairs, count))
        return wrong(json, "must be JSON: a name stands twice in one object");
    pack_map(out, count);
    buffer_append(out, pairs.data, pairs.size);
    return true;
}

static bool parse_object(struct json *json, struct buffer *out, int depth)
{
    struct buffer pairs = {0};
    struct buffer name = {0};
    uint32_t count = 0;
    bool good = true;
    bool ended = take(json, '}');
    while (good && !ended) {
        buffer_clear(&name);
        good = take(json, '"') ? parse_text(json, &name) : wrong(json, "must be JSON: a name in quotes is missing");
        if (good && !take(json, ':'))
            good = wrong(json, "must be JSON: a : is missing");
        skip_blank(json);
        if (good && !take_word(json, "null")) {
            pack_text(&pairs, buffer_slice(&name));
            good = parse_value(json, &pairs, depth);
            count++;
        }
        ended = good && take(json, '}');
        if (good && !ended && !take(json, ','))
            good = wrong(json, "must be JSON: an object wants , or }");
    }
    good = good && finish_object(json, buffer_slice(&pairs), count, out);
    buffer_close(&pairs);
    buffer_close(&name);
    return good;
}

/* --- values ------------------------------------------------------------------------------------------------------------ */

/* -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? */
static bool parse_number(struct json *json, struct buffer *out)
{
    const uint8_t *from = json->at;
    const uint8_t *at = json->at;
    const uint8_t *end = json->end;
    bool good = true;
    at += at < end && *at == '-';
    const uint8_t *digits = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    good = at > digits && (*digits != '0' || at == digits + 1);
    if (at < end && *at == '.') {
        digits = ++at;
        while (at < end && *at >= '0' && *at <= '9')
            at++;
        good = good && at > digits;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        digits = at;
        while (at < end && *at >= '0' && *at <= '9')
            at++;
        good = good && at > digits;
    }
    json->at = at;
    double number = 0;
    struct pack_item item = {.type = PACK_STR, .bytes = slice_make(from, (size_t)(at - from))};
    if (!good)
        return wrong(json, "must be JSON");
    const char *why = convert_number(&item, &number);
    if (why != NULL)
        return wrong(json, why);
    pack_number(out, number);
    return true;
}

static bool parse_value(struct json *json, struct buffer *out, int depth)
{
    skip_blank(json);
    if (json->at >= json->end)
        return wrong(json, "must be JSON: it ends too early");
    if (depth > TEXT_DEPTH_MAX)
        return wrong(json, too_deep);
    struct buffer text = {0};
    bool good = true;
    switch (*json->at) {
    case '{':
        json->at++;
        return parse_object(json, out, depth + 1);
    case '[':
        json->at++;
        return parse_list(json, out, depth + 1);
    case '"':
        json->at++;
        good = parse_text(json, &text);
        if (good)
            pack_text(out, buffer_slice(&text));
        buffer_close(&text);
        return good;
    default:
        break;
    }
    if (take_word(json, "true"))
        pack_boolean(out, true);
    else if (take_word(json, "false"))
        pack_boolean(out, false);
    else
        return parse_number(json, out);
    return true;
}

const char *json_to_pack(struct slice text, struct buffer *out)
{
    struct json json = {.at = text.data, .end = text.data + text.size};
    size_t start = out->size;
    if (!pack_is_utf8(text))
        return "must be JSON in UTF-8";
    skip_blank(&json);
    bool good = true;
    if (take_word(&json, "null"))
        pack_nil(out);
    else
        good = parse_value(&json, out, 0);
    skip_blank(&json);
    if (good && json.at < json.end)
        good = wrong(&json, "must be one JSON value: something follows it");
    struct pack_reader whole = pack_reader_make(slice_make(out->data + start, out->size - start));
    if (good && pack_skip(&whole, VALUE_DEPTH_MAX, NULL) != STATUS_OK)
        good = wrong(&json, too_deep);
    if (!good)
        out->size = start;
    return good ? NULL : json.why;
}
