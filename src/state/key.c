/* state/key.c - see state/key.h. */
#include "state/key.h"

#include <string.h>

#include "base/check.h"

void key_append_boolean(struct buffer *key, bool value)
{
    buffer_append_byte(key, value ? KEY_TRUE : KEY_FALSE);
}

void key_append_number(struct buffer *key, double value)
{
    CHECK(value - value == 0.0); /* finite */
    if (value == 0.0)
        value = 0.0; /* -0 is 0 */
    uint64_t bits;
    memcpy(&bits, &value, 8);
    /* Negative numbers: all bits turned, so that more negative is smaller; others: above all negative ones. */
    bits = (bits >> 63) != 0 ? ~bits : bits | (uint64_t)1 << 63;
    uint8_t *at = buffer_reserve(key, 9);
    at[0] = KEY_NUMBER;
    for (int i = 0; i < 8; i++)
        at[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
    key->size += 9;
}

void key_append_text_prefix(struct buffer *key, struct slice text)
{
    uint8_t *at = buffer_reserve(key, 1 + 2 * text.size);
    size_t size = 0;
    at[size++] = KEY_TEXT;
    for (size_t i = 0; i < text.size; i++) {
        at[size++] = text.data[i];
        if (text.data[i] == 0)
            at[size++] = 0xFF;
    }
    key->size += size;
}

void key_append_text(struct buffer *key, struct slice text)
{
    key_append_text_prefix(key, text);
    buffer_append_byte(key, 0);
}

static enum status read_number(struct slice *rest, double *number)
{
    if (rest->size < 9)
        return STATUS_CORRUPT;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | rest->data[1 + i];
    bits = (bits >> 63) != 0 ? bits & ~((uint64_t)1 << 63) : ~bits;
    memcpy(number, &bits, 8);
    rest->data += 9;
    rest->size -= 9;
    return STATUS_OK;
}

static enum status read_text(struct key_reader *reader, struct slice *text)
{
    const uint8_t *at = reader->rest.data;
    size_t size = reader->rest.size;
    buffer_clear(&reader->scratch);
    uint8_t *to = buffer_reserve(&reader->scratch, size);
    size_t length = 0;
    size_t i = 1;
    for (;; i++) {
        if (i >= size)
            return STATUS_CORRUPT;
        if (at[i] == 0) {
            if (i + 1 >= size || at[i + 1] != 0xFF)
                break; /* a bare zero ends the text */
            i++;
            to[length++] = 0;
        } else {
            to[length++] = at[i];
        }
    }
    reader->scratch.size = length;
    *text = slice_make(to, length);
    reader->rest.data = at + i + 1;
    reader->rest.size = size - i - 1;
    return STATUS_OK;
}

enum status key_read(struct key_reader *reader, struct key_element *element)
{
    if (reader->rest.size == 0)
        return STATUS_INCOMPLETE;
    element->type = (enum key_type)reader->rest.data[0];
    switch (element->type) {
    case KEY_FALSE:
    case KEY_TRUE:
        reader->rest.data++;
        reader->rest.size--;
        return STATUS_OK;
    case KEY_NUMBER:
        return read_number(&reader->rest, &element->number);
    case KEY_TEXT:
        return read_text(reader, &element->text);
    default:
        return STATUS_CORRUPT;
    }
}

void key_after_prefix(struct buffer *key)
{
    while (key->size > 0 && key->data[key->size - 1] == 0xFF)
        key->size--;
    CHECK(key->size > 0);
    key->data[key->size - 1]++;
}
