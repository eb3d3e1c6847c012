/* script/policy.h - a membership policy (CONTRACT.md §2): a module whose functions say who shall be a member, of replicated facts alone.
 *
 *   { name = 'steady', [version = 1,] [every = ms,] [state = { seen = 'map' },]
 *     [observe(ctx, event)]  [review(ctx, view)]  [admit(ctx, view, change)] }
 *
 * The sandbox is that of services; ctx has db, index, log, now, random. Its maps are rows of the state's tree under a head of their own,
 * no mount's, and end with the room's tree's undo list like any others'.
 *
 * A policy has a Lua state, its room, for one entry alone: it is opened, asked, and closed. So nothing but its maps outlives
 * an entry, whatever it keeps in tables of its own, and what a room may use (instructions, depth, memory) does not depend on what was before:
 * even running out of memory is a result, the same on every node, and parks nobody. Depends on base, state/tree.h, script/vm.h.
 */
#ifndef SCRIPT_POLICY_H
#define SCRIPT_POLICY_H

#include "script/vm.h"

enum {
    POLICY_ROOM_BYTES = 64 * 1024 * 1024, /* of Lua */
    POLICY_MEMORY_BYTES = 1024 * 1024,    /* of all rows of its maps, keys and values */
    POLICY_NAME_BYTES = 64,
    POLICY_OPERATIONS_MAX = 64 /* of one joint change */
};

enum policy_function { POLICY_OBSERVE, POLICY_REVIEW, POLICY_ADMIT, POLICY_FUNCTIONS };

struct policy;

/* Opens a room for a bundle of kind "policy". The keys of its maps' rows begin with `head`, a whole key, and the map's name. OK; INVALID with
 * lines in `why`, *policy NULL. */
enum status policy_open(struct slice bundle, struct tree *tree, struct slice head, struct policy **policy,
                        struct buffer *why) MUST_USE;

/* NULL is nothing. */
void policy_close(struct policy *policy);

const char *policy_name(const struct policy *policy);
double policy_version(const struct policy *policy);
uint64_t policy_every_ms(const struct policy *policy); /* 0: it does not say */
bool policy_has(const struct policy *policy, enum policy_function function);
bool policy_has_map(const struct policy *policy, struct slice name);

/* Begins the entry: one budget for all that is asked in it. */
void policy_begin(struct policy *policy, const struct vm_entry *entry, const struct vm_limits *limits);
void policy_end(struct policy *policy);

/* Calls a function that it has with ctx and the values of `args`, a MessagePack list. OK: what it returned is appended to `result`: of review
 * [changes, why ("": none), wait in ms (0: it does not wait)], changes as machine/membership.h has them; of admit [whether, why not]; of
 * observe nothing. INVALID: it failed, `why` gets a sentence, what it did to its maps is undone, and it must not be asked again in this room. */
enum status policy_ask(struct policy *policy, enum policy_function function, struct slice args,
                       struct buffer *result, struct buffer *why) MUST_USE;

#endif
