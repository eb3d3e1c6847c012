/* machine/membership_private.h - what the files of machine/ that deal with membership share. See machine/membership.h. Private to machine/.
 *
 * Depends on wire, machine_private.h.
 */
#ifndef MACHINE_MEMBERSHIP_PRIVATE_H
#define MACHINE_MEMBERSHIP_PRIVATE_H

#include "machine/machine_private.h"
#include "machine/membership.h"
#include "script/policy.h"
#include "wire/error.h"
#include "wire/members.h"
#include "wire/pack.h"

/* --- what is known of members ------------------------------------------------------------------------------------------ */

/* A member's row. */
struct member_facts {
    node_id id;
    uint64_t silent_since_ms; /* 0: it is heard */
    uint64_t lag;
    bool caught_up;
    bool parked;
    uint64_t steady_since_ms; /* heard, caught up and not parked since then; 0: it is not */
};

/* Of the machine: what its rows say, ready to use. */
struct membership {
    struct members members; /* of the configuration applied last; count 0: none */
    uint64_t version;
    char policy[POLICY_NAME_BYTES]; /* the policy in force, its name; "": none, so manual */
    double policy_version;
    uint64_t every_ms; /* between its reviews; 0: it does not say */
    struct hash128 policy_hash;
    bool alarm; /* it failed, and is not asked any more */
};

/* --- changes: membership_change.c -------------------------------------------------------------------------------------- */

enum change_op {
    CHANGE_ADD,
    CHANGE_PROMOTE,
    CHANGE_DEMOTE,
    CHANGE_REMOVE,
    CHANGE_REPLACE,
    CHANGE_ADDRESS,
    CHANGE_TRANSFER,
    CHANGE_OPS
};

struct change {
    enum change_op op;
    node_id id;
    node_id with;
    bool all_of_it;     /* of an address: zone, tags and priority are new, too */
    struct member self; /* what the node says of itself: incarnation, priority, address, zone, tags */
};

struct changes {
    size_t count;
    struct change list[MEMBERSHIP_CHANGES_MAX];
};

/* Why not: a code and a sentence. */
struct refusal {
    enum error_code code;
    char text[400];
};

/* Writes a refusal (printf's formats); false, for `return`. */
bool refuse_change(struct refusal *refusal, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *change_op_name(enum change_op op);
bool change_op_find(struct slice name, enum change_op *op);

/* Reads a list of changes, of outsiders' making. */
bool changes_read(struct pack_reader *reader, struct changes *changes, struct refusal *refusal);
void changes_pack(const struct changes *changes, struct buffer *out);

/* What the members would be: false, and why, if that makes no sense. `facts` are of `now`'s members, in their order. Forced: the new voters
 * need not have caught up, and a majority of the voters need not be up. */
bool changes_make(const struct changes *changes, const struct members *now, const struct member_facts *facts,
                  bool force, struct members *target, struct refusal *refusal);

/* How many of a majority's votes there must be, and how many voters were heard last. */
size_t members_quorum(const struct members *members);
size_t members_up(const struct members *members, const struct member_facts *facts);
bool members_joint(const struct members *members);

/* What view, history and members call it: "voter", "learner"; of a joint one, who voted before and will not is a voter still. */
const char *member_role_name(const struct member *member);
uint64_t member_silent_ms(const struct machine *machine, const struct member_facts *facts);
uint64_t member_steady_ms(const struct machine *machine, const struct member_facts *facts);

/* What a joint configuration leads to: the same without the old voters. */
void members_without_old(const struct members *members, struct members *after);

/* --- rows: membership_rows.c ------------------------------------------------------------------------------------------- */

/* Key of a row {what} or {what, number}. */
void membership_key(struct buffer *key, const char *what);
bool membership_get(const struct machine *machine, const char *what, struct slice *value);
void membership_put(struct machine *machine, const char *what, struct slice value);
void membership_drop(struct machine *machine, const char *what);
bool membership_get_at(const struct machine *machine, const char *what, uint64_t number, struct slice *value);
void membership_put_at(struct machine *machine, const char *what, uint64_t number, struct slice value);
bool membership_drop_at(struct machine *machine, const char *what, uint64_t number);

/* A row {what} that is one number; 0: there is none. */
uint64_t membership_number(const struct machine *machine, const char *what);
void membership_set_number(struct machine *machine, const char *what, uint64_t number);

/* A member's facts; one that has no row is as a founder: heard, caught up. And of all members, in their order. */
struct member_facts membership_facts(const struct machine *machine, node_id id);
void membership_all_facts(const struct machine *machine, struct member_facts facts[RAFT_MEMBERS_MAX]);
void membership_put_facts(struct machine *machine, const struct member_facts *facts);

enum { MEMBERSHIP_WHY_BYTES = 256 };

/* An invitation. */
struct invitation {
    node_id id;
    node_id replaces; /* 0: nobody */
    char address[MEMBER_ADDRESS_BYTES];
    char why[MEMBERSHIP_WHY_BYTES + 1];
};

bool membership_invitation(const struct machine *machine, node_id id, struct invitation *invitation);
void membership_invite(struct machine *machine, const struct invitation *invitation);
/* All of them, by id. */
size_t membership_invited(const struct machine *machine, struct invitation list[MEMBERSHIP_INVITED_MAX]);

/* What a member is, and is known of it: a map, for the policy's view and for who asks. */
void membership_pack_member(const struct machine *machine, const struct member *member,
                            const struct member_facts *facts, bool leads, struct buffer *out);

/* The decision that waits, borrowed until the tree changes. False: none does. */
struct decision {
    raft_index index;
    uint64_t configuration;
    bool force;
    struct slice by;
    struct slice why;
    struct slice changes; /* as they are packed */
    struct slice members; /* what they lead to; empty: a transfer */
};

bool membership_decision(const struct machine *machine, struct decision *decision);
/* Puts it, and its line of the history. */
void membership_put_decision(struct machine *machine, const struct decision *decision);
/* Takes it away; its line of the history says what became of it (NULL: that is still under way). */
void membership_end_decision(struct machine *machine, uint64_t configuration, const char *done);
/* A forced request takes its place, if one waits. The leader may have begun with it; so what it leads to is kept, and found by that,
 * until the next configuration came: the index of its line of the history; 0: there is none. */
void membership_set_aside(struct machine *machine);
raft_index membership_find_aside(const struct machine *machine, struct slice members);
/* What a line of the history says from now on; done NULL: under way, "": it was done. Nothing, if the line is gone. */
void membership_note_done(struct machine *machine, raft_index index, uint64_t configuration, const char *done);

/* Rows that begin with {what} are gone. */
void membership_drop_all(struct machine *machine, const char *what);

/* --- entries: membership.c --------------------------------------------------------------------------------------------- */

struct membership *membership_new(void);
void membership_free(struct membership *membership);

/* Of a machine that was built of a snapshot, or that rolled an entry back: what its rows say. */
void membership_load(struct machine *machine);

void membership_configure(struct machine *machine, const struct entry *entry, bool skipped);
enum vm_outcome membership_request(struct machine *machine, const struct entry *entry, struct buffer *result);
void membership_observe(struct machine *machine, const struct entry *entry, bool skipped);

/* Whether a decision waits, or the configuration is joint. */
bool membership_pending(const struct machine *machine);

/* Decides: the row is there, for the leader to act on. False: these changes make no sense. */
bool membership_decide(struct machine *machine, const struct entry *entry, const struct changes *changes,
                       struct slice by, struct slice why, bool force, struct refusal *refusal);

/* A node that is no member may join, at this address; in whose place, if in somebody's. False: why not. */
bool membership_invite_at(struct machine *machine, node_id id, const char *address, node_id replaces,
                          struct slice why, struct refusal *refusal);

/* The first entry of a term: whoever led before handed over, or not. */
void membership_new_term(struct machine *machine);

/* --- the policy: membership_policy.c ----------------------------------------------------------------------------------- */

/* Of what is in force: from its rows. */
void membership_load_policy(struct machine *machine);

/* A bundle becomes the policy in force: it is looked at, the alarm is off, and it is asked soon. Its memory stays, but for maps that it does
 * not have. INVALID with `why`: nothing changed. */
enum status membership_put_policy(struct machine *machine, struct slice bundle, struct buffer *why) MUST_USE;

/* From now on manual: the memory goes, too. False: it was. */
bool membership_drop_policy(struct machine *machine);

/* The bundle in force, borrowed until the tree changes; false: there is none. */
bool membership_find_policy(const struct machine *machine, struct slice *bundle);

/* What happened in an entry, for observe. */
struct membership_events {
    struct buffer list; /* of packed events */
    size_t count;
};

/* Adds one; `change` may be NULL, else with who asked for it. */
void membership_event(const struct machine *machine, struct membership_events *events, const char *kind, node_id id,
                      const struct change *change, struct slice by);

/* Tells observe what happened, then asks review if `review` and nothing is pending. What fails raises the alarm. With `skipped` nothing is
 * asked, and the alarm is raised for that. */
void membership_ask_policy(struct machine *machine, const struct entry *entry,
                           const struct membership_events *events, bool review, bool skipped);

/* Whether the policy admits all of these, of an operator or a node that joins; observe is told first. True where no policy that has admit is
 * in force, and `manual` says so. */
bool membership_admits(struct machine *machine, const struct entry *entry, const struct changes *changes,
                       struct slice by, bool *manual, struct refusal *refusal);

/* A review is due at this cluster time, if a policy is in force. */
void membership_set_due(struct machine *machine, uint64_t at_ms);

/* Cluster time of the next review; UINT64_MAX: none is due. */
uint64_t membership_review_due(const struct machine *machine);

#endif
