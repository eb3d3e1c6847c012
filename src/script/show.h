/* script/show.h - keys and values as people read them, for sentences about rows. Depends on base, state/key.h, wire/json.h. */
#ifndef SCRIPT_SHOW_H
#define SCRIPT_SHOW_H

#include "base/slice.h"

enum { SHOW_BYTES = 80 /* of one key or value; the rest is "..." */ };

/* Appends a user key (state/key.h, without its map's number) as JSON: "c1", 12, ["c1",7]. */
void show_key(struct buffer *out, struct slice key);

/* Appends a MessagePack value as JSON. */
void show_value(struct buffer *out, struct slice value);

#endif
