/* script/upgrade.h - rows that older versions of a module wrote, converted when they are read (upgrade_row, CONTRACT.md §1).
 *
 * From the deploy of the first version with upgrade_row on, what a command writes is marked with the version that wrote it:
 *
 *     93 A2 01 76  version  value          MessagePack, the list ["\1v", version, value]
 *
 * A row without the mark is of the version before that deploy, the mount's base, which the state keeps. A row of an older
 * version than the module's is converted each time it is read, and stays as it lies until a command puts it; so no entry has to
 * touch them all, and every node has the same bytes. Formats see marked values as the lists that they are. Private to script/.
 */
#ifndef SCRIPT_UPGRADE_H
#define SCRIPT_UPGRADE_H

#include "script/vm_private.h"

/* Whether the mount of the call in progress has rows of several versions. */
bool upgrade_is_on(const struct vm *vm);

/* Pushes a row's value as the module in force sees it: as map_push_value, but for rows of older versions [-0, +1]. */
void upgrade_push_value(lua_State *L, struct slice key, struct slice value);

/* Appends the mark for what is written now, if there are rows of several versions. */
void upgrade_append_mark(const struct vm *vm, struct buffer *value);

/* Whether a value of a service begins as marked ones do: it may not. */
bool upgrade_is_mark(struct slice value);

#endif
