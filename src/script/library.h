/* script/library.h - what `require` finds beside a module's own files: tidelock.json and tidelock.csv, for services and
 * formats.
 *
 *     json.encode(value) -> text           one line; maps by sorted names, numbers that read back the same
 *     json.decode(text) -> value           see script/json.h
 *     csv.encode(list [, n]) -> text       one row without its end; n: how many fields, when nils are among them
 *     csv.decode(text) -> list, n          the same values again
 *
 * A field of CSV shows its type, so that nothing is lost, in a spreadsheet neither: empty is nil; true, false and numbers are
 * themselves; what begins with { [ or " is JSON (tables, bytes that are not UTF-8, text with control characters); any
 * other is text, with a ' before it if it could be taken for one of those. Fields with , " or blanks at an end are quoted as
 * RFC 4180 has it, and a row is always one line. Both charge the budget by bytes. Depends on script/json.h, wire/json.h, LuaJIT.
 */
#ifndef SCRIPT_LIBRARY_H
#define SCRIPT_LIBRARY_H

#include <stdbool.h>

#include "base/slice.h"

struct lua_State;

/* True for a name that library_push knows. */
bool library_is_name(struct slice module);

/* Pushes the library of that name, frozen, the same each time [-0, +1]; false, nothing pushed: there is none. */
bool library_push(struct lua_State *L, struct slice module);

#endif
