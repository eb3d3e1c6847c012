/* script/scene.h - a Lua state for scenario code: what one seed must fix is fixed.
 *
 * The interpreter, the sandbox's libraries (script/sandbox.h), a clock that only its owner moves, random numbers from a seed. Unlike
 * replicated code a script may keep what it likes in its locals and globals, and has no budget: a watchdog of its owner's
 * ends it. Two environments: the state's own globals, for code that ships (with coroutines, setfenv and loading), and the
 * script's. Depends on script, LuaJIT.
 */
#ifndef SCRIPT_SCENE_H
#define SCRIPT_SCENE_H

#include "base/slice.h"
#include "base/status.h"

struct lua_State;
struct scene;

struct scene_options {
    uint64_t seed;
    size_t lua_bytes_max;
    /* Asked every so many instructions: NULL, or why the script must end; no pcall holds that. */
    const char *(*over)(void *context);
    void *context;
};

struct scene *scene_new(const struct scene_options *options);
void scene_free(struct scene *scene);

/* The state; its stack is empty after scene_new. */
struct lua_State *scene_lua(struct scene *scene);

/* Sets what os.time tells, in ms since the Unix epoch. */
void scene_set_now(struct scene *scene, uint64_t now_ms);

/* Pushes the script's environment, a table: what it lacks comes from the sandbox [-0, +1]. */
void scene_push_env(struct lua_State *L);

/* Compiles a script's text, in the script's environment. OK: its function is on the stack [-0, +1]. Else nothing is, and `why`
 * gets lines "NAME:LINE: what". `name` is the file's name as errors should show it. */
enum status scene_load(struct lua_State *L, struct slice source, const char *name, struct buffer *why) MUST_USE;

#endif
