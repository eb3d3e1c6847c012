/* cli/bind.h - what the Lua of lua/ gets from C: the tables `tidelock.sys`, `.wire`, `.node`, `.stage`, `.checker`,
 * `.machine`.
 *
 * Each opens a table of functions on the stack [-0, +1]; Lua gets them by require. Depends on everything below, LuaJIT.
 */
#ifndef CLI_BIND_H
#define CLI_BIND_H

struct lua_State;

/* Processes, clocks, sockets, files of the machine. */
int bind_sys(struct lua_State *L);

/* MessagePack and JSON: values, and bytes that stay bytes. */
int bind_wire(struct lua_State *L);

/* Running a node, building and checking bundles, looking into a data directory. */
int bind_node(struct lua_State *L);

/* A few real cores, step by step: for scenarios. */
int bind_stage(struct lua_State *L);

/* A machine on its own, that applies records. */
int bind_machine(struct lua_State *L);

/* Whether a history of clients is linearizable. */
int bind_history(struct lua_State *L);

#endif
