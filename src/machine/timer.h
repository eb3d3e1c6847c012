/* machine/timer.h - what happens because time has passed: timers, rows with a ttl, sessions (an entry DUE).
 *
 * All that waits is rows of the state (script/due.h). The leader proposes DUE when machine_status.next_due_ms has come; the entry
 * takes at most TIMER_DUE_MAX of what is due at its stamp, in the order of (deadline, creation), each with a budget, an undo and
 * random numbers of its own. What it arms meanwhile waits for the next entry. One that fails is told in the log, counted in
 * the state, and gone. Depends on state, script/due.h, script/vm.h, machine_private.h.
 */
#ifndef MACHINE_TIMER_H
#define MACHINE_TIMER_H

#include "machine/machine.h"
#include "script/vm.h"

enum { TIMER_DUE_MAX = 128 };

/* Applies the entry in progress, a DUE. `skipped`: what is due is taken away, and none of a service's functions runs. VM_OK or
 * VM_PARK. */
enum vm_outcome timer_apply(struct machine *machine, bool skipped);

/* One of a service's functions, with what it is called with. */
typedef enum vm_outcome timer_call(struct vm *vm, const void *context, struct buffer *result);

/* Runs it as a part of the entry in progress, and tells and counts its failure; `what` names it. VM_OK, also when it failed, or
 * VM_PARK. */
enum vm_outcome timer_run(struct machine *machine, const char *what, timer_call *call, const void *context);

#endif
