/* node/teller.h - says how far long work is: a thread that only looks on, for what blocks the others. In the log, each five
 * seconds; or to people, on standard error: a line that changes on a terminal, else a line each five seconds. Depends on
 * machine/snapshot.h, threads.
 */
#ifndef NODE_TELLER_H
#define NODE_TELLER_H

#include "machine/snapshot.h"

struct teller;

enum teller_to { TELLER_LOG, TELLER_PEOPLE };

/* `what` ("reading the snapshot") and `progress` are borrowed until teller_stop. */
struct teller *teller_start(enum teller_to to, const char *what, struct snapshot_progress *progress);

/* Ends the thread, frees. */
void teller_stop(struct teller *teller);

#endif
