/* script/show.c - see script/show.h. */
#include "script/show.h"

#include "state/key.h"
#include "wire/json.h"
#include "wire/pack.h"

/* Cuts what was appended after `start`, never in the middle of a letter. */
static void shorten(struct buffer *out, size_t start)
{
    if (out->size - start <= SHOW_BYTES)
        return;
    size_t end = start + SHOW_BYTES - 3;
    while (end > start && (out->data[end] & 0xC0) == 0x80)
        end--;
    out->size = end;
    buffer_append(out, "...", 3);
}

void show_value(struct buffer *out, struct slice value)
{
    size_t start = out->size;
    if (json_write(out, value) != STATUS_OK)
        buffer_append(out, "?", 1);
    shorten(out, start);
}

void show_key(struct buffer *out, struct slice key)
{
    struct key_reader reader = {.rest = key};
    struct key_element element;
    struct buffer items = {0};
    struct buffer packed = {0};
    uint32_t count = 0;
    for (; key_read(&reader, &element) == STATUS_OK; count++) {
        if (element.type == KEY_NUMBER)
            pack_number(&items, element.number);
        else if (element.type == KEY_TEXT)
            pack_text(&items, element.text);
        else
            pack_boolean(&items, element.type == KEY_TRUE);
    }
    if (count != 1)
        pack_array(&packed, count);
    buffer_append(&packed, items.data, items.size);
    show_value(out, buffer_slice(&packed));
    buffer_close(&reader.scratch);
    buffer_close(&items);
    buffer_close(&packed);
}
