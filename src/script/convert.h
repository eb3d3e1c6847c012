/* script/convert.h - one argument's value as its declared type: from a word, or from a MessagePack value.
 *
 * The same at every door, and on every node. Depends on base, wire/pack.h.
 */
#ifndef SCRIPT_CONVERT_H
#define SCRIPT_CONVERT_H

#include "wire/pack.h"

/* Each gives NULL and the value, or what the argument must be. Nothing is rounded: a whole number beyond 2^53 is refused,
 * as a number and as text. */
const char *convert_int(const struct pack_item *item, double *number);
const char *convert_number(const struct pack_item *item, double *number);

/* "500", "500ms", "5s", "2m", "1h", "1d" as whole milliseconds. */
const char *convert_ms(const struct pack_item *item, double *ms);

/* true, false; `own_name`, if not NULL, is another word for true (a flag's name). */
const char *convert_boolean(const struct pack_item *item, const char *own_name, bool *value);

#endif
