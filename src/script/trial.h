/* script/trial.h - what a module brings for the simulator (CONTRACT.md §1): workload(ctx), invariant(ctx); and calls made up
 * from what its commands and queries declare. No node uses any of it. Depends on script/vm.h, base/prng.h.
 */
#ifndef SCRIPT_TRIAL_H
#define SCRIPT_TRIAL_H

#include "base/prng.h"
#include "script/vm.h"

/* Holds the state against the invariants of all mounts; ctx reads it, as a query's does. Between vm_begin and vm_end.
 * False: `why` gets a sentence. */
bool vm_holds(struct vm *vm, struct buffer *why) MUST_USE;

bool vm_has_workload(const struct vm *vm, struct slice mount);

/* Asks the mount's workload for the next call of a client (vm_entry.client): VM_OK, and `result` gets the MessagePack of
 * what it returned; else the error map. Between vm_begin and vm_end, on a host whose state nobody needs. */
enum vm_outcome vm_workload(struct vm *vm, struct slice mount, struct buffer *result);

/* Makes up the arguments of "mount.name" (a command or query): appends one MessagePack list. Keys and texts are few, so
 * that calls meet; without a declaration up to three texts and numbers. */
void vm_make_up(struct vm *vm, struct slice name, struct prng *prng, struct buffer *args);

#endif
