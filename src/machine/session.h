/* machine/session.h - clients' sessions: a command runs exactly once, however often it is sent (DESIGN.md §7 "Requests").
 *
 * A session is opened by an entry and has a text for its name. A command that carries a ticket [session, seq, done_below] runs
 * when (session, seq) comes for the first time; its answer, also an error, is kept, and each later one gets the same bytes.
 * The client says with done_below that it has all answers below: they are let go. A seq below the highest done_below that was
 * seen, and any ticket of a session that is unknown, ended or out of time, is SESSION_EXPIRED, and nothing runs.
 *
 * A session lives until its ttl has passed since its last entry in cluster time, or since the first entry of a term (what
 * passed without a leader counts for nobody). From that moment on it is refused, by the stamp; a later entry DUE takes it away
 * and runs on_session_end. One that was refused once is not granted more time by a new term.
 *
 * Limits: "sessions" (to open one more ends the one that would be out of time first), "session_answers" and "session_bytes" (of
 * kept answers: a new seq beyond them is BUSY until done_below moves). Rows of sessions do not count for the quota.
 * Depends on state, script/vm.h, wire, machine_private.h.
 */
#ifndef MACHINE_SESSION_H
#define MACHINE_SESSION_H

#include "machine/machine.h"
#include "script/vm.h"

enum { SESSION_TEXT_MAX = 64, SESSION_TTL_MIN_MS = 100, SESSION_TTL_MAX_MS = 7 * 24 * 3600 * 1000 };

/* What is known of a session: its row. */
struct session_facts {
    uint64_t ttl_ms;
    uint64_t seen_ms; /* stamp of its last entry */
    uint64_t id;      /* of what waits for its end */
    uint64_t due_ms;  /* where that waits: not after its end */
    uint64_t done_below;
    uint64_t bytes;    /* of kept answers */
    uint64_t ended_ms; /* its end, once it was refused for it; else 0 */
};

/* Of a command or batch; session.data NULL: it has none. */
struct session_ticket {
    struct slice session; /* borrowed */
    uint64_t seq;
    uint64_t done_below;
    struct session_facts facts; /* of session_enter, for session_keep_answer */
};

/* Reads what follows a command in its entry: nothing, or a ticket. False: it makes no sense. */
bool session_read_ticket(struct slice rest, struct session_ticket *ticket);

enum session_verdict {
    SESSION_RUN,     /* for the first time, or without a ticket: run it, then session_keep_answer */
    SESSION_ANSWERED /* `outcome` and `result` are the answer: the first one's, or a refusal */
};

/* Before a command. */
enum session_verdict session_enter(struct machine *machine, struct session_ticket *ticket, enum vm_outcome *outcome,
                                   struct buffer *result);

/* After it: remembers the answer. */
void session_keep_answer(struct machine *machine, const struct session_ticket *ticket, enum vm_outcome outcome,
                         struct slice answer);

/* Applies an entry SESSION. Answers: "open" the session's text, "keep" and "end" true. */
enum vm_outcome session_apply(struct machine *machine, const struct entry *entry, struct buffer *result);

/* Whether the payload of a SESSION keeps a session, and so runs nothing of a service's. */
bool session_only_keeps(struct slice payload);

/* The first entry of a term: every session that was not refused has its ttl again. One row, whatever their number. */
void session_grant(struct machine *machine);

/* What waited for the end of a session has come (it still waits): takes the session away and, unless `skipped`, runs on_session_end
 * of each mount that has it; or, if the session was used meanwhile, has it wait for its end of now. VM_OK or VM_PARK. */
enum vm_outcome session_due(struct machine *machine, struct slice session, bool skipped);

uint64_t session_count(const struct tree *tree);

#endif
