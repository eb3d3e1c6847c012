/* node/teller.h - says in the log how far long work is, each five seconds: a thread that only looks on, for what blocks the
 * others. Depends on machine/snapshot.h, threads.
 */
#ifndef NODE_TELLER_H
#define NODE_TELLER_H

#include "machine/snapshot.h"

struct teller;

/* `what` ("reading the snapshot") and `progress` are borrowed until teller_stop. */
struct teller *teller_start(const char *what, struct snapshot_progress *progress);

/* Ends the thread, frees. */
void teller_stop(struct teller *teller);

#endif
