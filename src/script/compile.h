/* script/compile.h - from source text to a chunk that may run: what can be refused before anything does.
 *
 * And what shows only once a module has loaded: state hidden in its functions. Depends on base, script/sandbox.h, LuaJIT.
 */
#ifndef SCRIPT_COMPILE_H
#define SCRIPT_COMPILE_H

#include "base/slice.h"
#include "base/status.h"

struct lua_State;

/* Looks at source text before LuaJIT's parser may see it: tokens that are refused (`^`, LL and i literals, ...), nesting,
 * bytecode. Then compiles (text mode) and looks at the bytecode: globals and fields of libraries that are not there, stores
 * into locals of the file from inside functions. OK: the chunk's function is on the stack [-0, +1]. Else nothing is, and
 * `why` gets lines "NAME:LINE: what; what to do". `name` is the file's name as errors should show it ("kv.lua"). */
enum status compile_source(struct lua_State *L, struct slice source, const char *name, struct buffer *why) MUST_USE;

/* Looks at everything that can be reached from the loaded module at the top: a function that stores into a local of one
 * that has ended (a counter made by a call at load), or into a table that it holds as a local from outside, keeps state
 * that is in no map: neither rolled back, nor the same on every node. Raises then [-0, +0]. From here on
 * nothing can be added to its tables. True: a function holds a table from outside, whose fields it could overwrite. */
bool compile_check_loaded(struct lua_State *L);

#endif
