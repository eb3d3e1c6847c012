/* script/json.h - JSON text as a MessagePack value, for arguments of the type json.
 *
 * RFC 8259, and nothing beside it. At most 31 deep. Numbers as everywhere: whole ones beyond 2^53 are refused, as is a name
 * that stands twice in one object; null in an object is absent, in a list refused; {"$base64": "..."} is bytes, and
 * {"$map": [[name, value], ...]} a map that has no form as an object (wire/json.h).
 * Depends on base, wire/pack.h.
 */
#ifndef SCRIPT_JSON_H
#define SCRIPT_JSON_H

#include "base/slice.h"

/* Appends the value. NULL; or what is wrong, and nothing is appended. */
const char *json_to_pack(struct slice text, struct buffer *out);

#endif
