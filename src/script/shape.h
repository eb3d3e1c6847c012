/* script/shape.h - whether a table is a service module (CONTRACT.md §1), a snapshot format or a membership policy
 * (§2), and what is wrong with it if not.
 *
 * Depends on base, script/args.h, LuaJIT.
 */
#ifndef SCRIPT_SHAPE_H
#define SCRIPT_SHAPE_H

#include "base/slice.h"
#include "base/status.h"

struct lua_State;

enum { SHAPE_EVERY_MIN_MS = 100, SHAPE_EVERY_MAX_MS = 24 * 3600 * 1000 }; /* of a policy's reviews */

/* True for [a-z][a-z0-9_]*, at most 48 bytes: a name of a module, a mount, a map, a command. */
bool shape_is_word(struct slice name);

/* Looks at the value at `module`, which `file` returned. INVALID with a line for each thing that is wrong in `why`, sorted
 * by field and name [-0, +0]. */
enum status shape_check(struct lua_State *L, int module, const char *file, struct buffer *why) MUST_USE;

/* The same for a format: name, version, write, read. */
enum status shape_check_format(struct lua_State *L, int module, const char *file, struct buffer *why) MUST_USE;

/* The same for a membership policy: name, version (may be missing), every, state, observe, review, admit. */
enum status shape_check_policy(struct lua_State *L, int module, const char *file, struct buffer *why) MUST_USE;

/* True for a table that means to be one: it has a function that policies alone have [-0, +0]. */
bool shape_is_policy(struct lua_State *L, int module);

/* True for a table that means to be a format: it has write or read, and nothing that services alone have [-0, +0]. */
bool shape_is_format(struct lua_State *L, int module);

#endif
