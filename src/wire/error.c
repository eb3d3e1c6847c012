/* wire/error.c - see wire/error.h. */
#include "wire/error.h"

#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "wire/pack.h"

enum { MESSAGE_TEXT_MAX = 1024 };

static bool is(struct slice text, const char *word)
{
    return slice_equal(text, slice_text(word));
}

#define ERROR_ROW(name, definite, exit_code, http, resp) {#name, definite, exit_code, http, resp},
static const struct error_row rows[ERROR_CODES] = {ERROR_MAP(ERROR_ROW)};
#undef ERROR_ROW

const struct error_row *error_row(enum error_code code)
{
    CHECK((unsigned)code < ERROR_CODES);
    return &rows[code];
}

const struct error_row *error_row_named(const char *name, unsigned long size)
{
    for (size_t i = 0; i < ERROR_CODES; i++)
        if (strlen(rows[i].name) == size && memcmp(rows[i].name, name, size) == 0)
            return &rows[i];
    return NULL;
}

bool error_code_of_service(const char *name, unsigned long size)
{
    if (size == 0 || size > 64 || name[0] < 'A' || name[0] > 'Z')
        return false;
    for (unsigned long i = 1; i < size; i++)
        if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_'))
            return false;
    const struct error_row *row = error_row_named(name, size);
    return row == NULL || row == &rows[ERROR_NOT_FOUND] || row == &rows[ERROR_EXISTS] ||
           row == &rows[ERROR_CONFLICT] || row == &rows[ERROR_BAD_ARGS] || row == &rows[ERROR_DENIED];
}

void error_pack(struct buffer *out, enum error_code code, const char *message)
{
    struct slice text = slice_text(message);
    if (text.size > MESSAGE_TEXT_MAX)
        text.size = MESSAGE_TEXT_MAX;
    pack_map(out, 2);
    pack_text(out, slice_text("code"));
    pack_text(out, slice_text(error_row(code)->name));
    pack_text(out, slice_text("message"));
    pack_text(out, text);
}

enum status error_unpack(struct slice error, struct slice *code, struct slice *message, struct slice *data)
{
    *code = *message = *data = (struct slice){0};
    struct pack_reader reader = pack_reader_make(error);
    uint32_t pairs = 0;
    if (pack_read_map(&reader, &pairs) != STATUS_OK)
        return STATUS_INVALID;
    for (uint32_t i = 0; i < pairs; i++) {
        struct slice key;
        struct slice value;
        if (pack_read_text(&reader, &key) != STATUS_OK ||
            pack_skip(&reader, PACK_DEPTH_MAX - 1, &value) != STATUS_OK)
            return STATUS_INVALID;
        struct pack_reader inside = pack_reader_make(value);
        if (is(key, "data"))
            *data = value;
        else if (is(key, "code") && pack_read_text(&inside, code) != STATUS_OK)
            return STATUS_INVALID;
        else if (is(key, "message") && pack_read_text(&inside, message) != STATUS_OK)
            return STATUS_INVALID;
    }
    return code->size > 0 ? STATUS_OK : STATUS_INVALID;
}
