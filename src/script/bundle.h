/* script/bundle.h - a module with everything it requires, as one byte string that is replicated.
 *
 * MessagePack list: [format 1, kind, mount, main, [[name, source], ...]]: kind is "machine", a service under its mount's name, or
 * "format", a snapshot format, or "policy", a membership policy, whose mount is empty; `main` is the first source's name, the rest are sorted by name; a name is the module name that `require` gets ("bank", "lib.money"); files lie beside the
 * module, and tidelock.policy comes from the binary that made the bundle. Sources are text as they were. The hash of these bytes names the bundle. Depends on base (embed.h, too), wire/pack.h.
 */
#ifndef SCRIPT_BUNDLE_H
#define SCRIPT_BUNDLE_H

#include "base/checksum.h"
#include "base/slice.h"
#include "base/status.h"

struct lua_State;

enum {
    BUNDLE_FILES_MAX = 256,
    BUNDLE_SOURCE_MAX = 1024 * 1024,   /* one source */
    BUNDLE_BYTES_MAX = 8 * 1024 * 1024 /* all */
};

enum bundle_kind {
    BUNDLE_MACHINE,
    BUNDLE_FORMAT,
    BUNDLE_POLICY,
    BUNDLE_ANY /* for bundle_build: what the module turns out to be */
};

/* How bundle_build gets a file: appends its content. NOT_FOUND, TOO_LARGE, IO. */
typedef enum status (*bundle_read)(void *context, const char *path, struct buffer *content);

/* Reads the module at `path` and, over `require 'x'` in its source (literal names only), the files beside it. `mount` is
 * a service's; it may be empty: then the module's own name, found by running it in the sandbox. OK; else `why` gets lines
 * "FILE:LINE: what is wrong; what to do". Syntax errors, refused words and everything bundle_check finds are refused here. */
enum status bundle_build(enum bundle_kind kind, const char *mount, const char *path, bundle_read read,
                         void *context, struct buffer *bundle, struct buffer *why) MUST_USE;

/* Loads the bundle in a sandbox of its own and checks everything that can be known without running commands: syntax,
 * refused words and globals, the module's shape (CONTRACT.md §1), declared args. `why` as above. The parser itself may
 * be crashed by hostile text: call it in a process that may die when the text is not trusted. */
enum status bundle_check(struct slice bundle, struct buffer *why) MUST_USE;

/* Appends a MessagePack map of what the module is: name, version; commands, queries, timers, state (names; of commands and queries
 * with their declared arguments, else false); whether it has each of the module's own functions. Loads it in a sandbox of its
 * own. OK; INVALID with `why`. */
enum status bundle_describe(struct slice bundle, struct buffer *out, struct buffer *why) MUST_USE;

/* Loads the bundle into a state with the environment at `env`: compiles all sources, runs the main one (and what it
 * requires, each once; a cycle is refused), checks the module's shape. OK: the module's table is pushed [-0, +1]; `holds_tables` as
 * compile_check_loaded says. */
enum status bundle_load(struct lua_State *L, int env, struct slice bundle, bool *holds_tables,
                        struct buffer *why) MUST_USE;

/* Loads it as bundle_load does, only to know what it means to be, whatever it is packed as. One that does not load: a service. */
enum status bundle_look(struct lua_State *L, int env, struct slice bundle, enum bundle_kind *kind) MUST_USE;

/* A kind's name, as bundles and deploys say it; false: there is none of that name. */
const char *bundle_kind_name(enum bundle_kind kind);
bool bundle_kind_named(struct slice name, enum bundle_kind *kind);

/* What it is. INVALID if these bytes are no bundle. */
enum status bundle_kind(struct slice bundle, enum bundle_kind *kind) MUST_USE;

/* The mount's name, borrowed; empty for a format or policy. INVALID if these bytes are no bundle. */
enum status bundle_mount(struct slice bundle, struct slice *mount) MUST_USE;

/* The hash that names it. */
struct hash128 bundle_hash(struct slice bundle);

#endif
