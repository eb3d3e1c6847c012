/* wire/json.h - a MessagePack value as JSON text, for people and HTTP.
 *
 * One line. Numbers as short as they can be and read back the same; bytes that are not UTF-8, and bin, are
 * {"$base64": "..."}; keys of maps in the order of the bytes (canonical: sorted). A map that would be read as something else
 * ({"$base64": x} or {"$map": x} alone), or has a key that is not UTF-8, is {"$map": [[key, value], ...]}. The other way is
 * script/json.h.
 * Depends on base, wire/pack.h.
 */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H

#include "base/slice.h"
#include "base/status.h"

/* Appends the text of the value at the front of `packed`. OK; INVALID, TOO_DEEP: nothing is appended. */
enum status json_write(struct buffer *out, struct slice packed) MUST_USE;

#endif
