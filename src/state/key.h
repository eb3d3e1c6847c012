/* state/key.h - order-preserving keys: tuples whose bytes sort as their values do.
 *
 * A key is a list of 1..16 elements, each a boolean, a finite number or a text; {k} and k are the same key. Order:
 * boolean < number < text, false < true, numbers by value (-0 is 0), text by bytes; element by element, shorter first.
 * Encoding of an element: one type byte, then bytes that memcmp orders (number: 8 bytes big-endian with the sign
 * trick; text: its bytes with 0x00 escaped as 00 FF, ended by 00). No element's code is a prefix of another's, so the
 * keys of a prefix list are exactly those between `prefix` and key_after_prefix(prefix). Depends on base.
 */
#ifndef STATE_KEY_H
#define STATE_KEY_H

#include "base/slice.h"
#include "base/status.h"

enum {
    KEY_ELEMENTS_MAX = 16,
    KEY_BYTES_MAX = 1024 /* default of the replicated limit: bytes of an encoded user key */
};

enum key_type { KEY_FALSE = 1, KEY_TRUE = 2, KEY_NUMBER = 3, KEY_TEXT = 4 };

/* One decoded element. A text is unescaped into the reader's scratch, valid until the next key_read. */
struct key_element {
    enum key_type type;
    double number;
    struct slice text;
};

/* Walks the elements of an encoded key; zero it, set `rest`. */
struct key_reader {
    struct slice rest;
    struct buffer scratch;
};

/* Append one element. The number must be finite (checked). */
void key_append_boolean(struct buffer *key, bool value);
void key_append_number(struct buffer *key, double value);
void key_append_text(struct buffer *key, struct slice text);

/* Reads the next element. OK, INCOMPLETE at the end of the key, CORRUPT for bytes that no append gives. */
enum status key_read(struct key_reader *reader, struct key_element *element) MUST_USE;

/* Appends the beginning of texts that start with `text`, without the end mark: for "a text matches text that begins
 * so". Every key whose next element is such a text starts with these bytes. */
void key_append_text_prefix(struct buffer *key, struct slice text);

/* Makes the smallest byte string greater than all that begin with `key`: the upper bound of a prefix scan. `key` is not
 * empty and not all FF (no encoded key is). In place. */
void key_after_prefix(struct buffer *key);

#endif
