/* machine/limits.h - the replicated limits (CONTRACT.md §1): their one table, their rows, and the entry that changes one.
 *
 * Every limit that can change a result is a row of the state, so that no node's own configuration reaches one. Each has a range
 * in which the code around it was shown to hold. Depends on state, script/vm.h, wire.
 */
#ifndef MACHINE_LIMITS_H
#define MACHINE_LIMITS_H

#include "script/vm.h"

struct machine;

/* As they are at first; as rows of a tree; from such a row (false: it makes no sense); as a MessagePack map. */
void limits_standard(struct vm_limits *limits);
void limits_put(struct tree *tree, const struct vm_limits *limits);
bool limits_take(struct slice key, struct slice value, struct vm_limits *limits);
void limits_pack(const struct vm_limits *limits, struct buffer *out);

/* What rows can be at the most under any limits: for reading those that were written under former ones. */
void limits_widen(struct vm_limits *limits);

/* Applies an entry LIMIT, a list [name, value]: the answer is the value that was. */
enum vm_outcome limits_change(struct machine *machine, struct slice payload, struct buffer *result);

#endif
