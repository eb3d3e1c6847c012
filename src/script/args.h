/* script/args.h - declared arguments (CONTRACT.md §1): parsed once, checked and converted the same way at every door.
 *
 *   words separated by spaces, no type means text: name[:type][=default]  [optional]  name...
 *   types: any text int number bool ms flag json
 * Depends on base, wire/pack.h, script/value.h, LuaJIT.
 */
#ifndef SCRIPT_ARGS_H
#define SCRIPT_ARGS_H

#include "base/slice.h"
#include "base/status.h"

struct lua_State;
struct args;

enum { ARGS_MAX = 32 };

/* Parses a declaration. OK; INVALID with a sentence in `why`. The caller owns the result. */
enum status args_parse(struct slice text, struct args **args, struct buffer *why) MUST_USE;
void args_free(struct args *args);

/* Pushes the arguments of a call, from a MessagePack list, converted; `args` NULL: as they are. Returns how many were
 * pushed, or -1, nothing pushed, with a sentence in `why` (256 bytes) that names the argument. */
int args_push(struct lua_State *L, const struct args *args, struct slice list, char *why);

#endif
