/* cli/bind.h - what the Lua of lua/ gets from C: the tables `tidelock.sys`, `.wire`, `.node`, `.files`, `.stage`, `.checker`,
 * `.world`, `.scene`, `.swarm`, `.machine`.
 *
 * Each opens a table of functions on the stack [-0, +1]; Lua gets them by require. Depends on everything below, LuaJIT.
 */
#ifndef CLI_BIND_H
#define CLI_BIND_H

#include <stdbool.h>

struct lua_State;

/* Processes, clocks, sockets, files of the machine. */
int bind_sys(struct lua_State *L);

/* MessagePack and JSON: values, and bytes that stay bytes. */
int bind_wire(struct lua_State *L);

/* Running a node, building and checking bundles, looking into a data directory. */
int bind_node(struct lua_State *L);

/* Snapshots' files: looking into them, rewriting them, directories made of them. */
int bind_files(struct lua_State *L);

/* A few real cores, step by step: for scenarios. */
int bind_stage(struct lua_State *L);

/* A machine on its own, that applies records. */
int bind_machine(struct lua_State *L);

/* Whether a history of clients is linearizable. */
int bind_history(struct lua_State *L);

/* Replicas on virtual time: for scripts. */
int bind_world(struct lua_State *L);

/* Running a script in a state where one seed fixes everything. */
int bind_scene(struct lua_State *L);

/* Pushes the function of lua/NAME.lua inside the binary ("tidelock.client": dots are slashes) [-0, +1]; false, nothing pushed:
 * there is none. */
bool bind_embedded(struct lua_State *L, const char *name);

/* Seeds of the simulator, with any service. */
int bind_swarm(struct lua_State *L);

/* A machine in this process, for whoever tries out a service. */
int bind_machine(struct lua_State *L);

#endif
