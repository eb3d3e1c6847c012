/* sim/service_private.h - what service.c and service_verdict.c share. Private to sim/. */
#ifndef SIM_SERVICE_PRIVATE_H
#define SIM_SERVICE_PRIVATE_H

#include "script/trial.h"
#include "sim/service.h"

/* One request. Bytes lie in service.bytes. */
struct service_op {
    uint32_t client;
    bool query;
    enum swarm_outcome outcome;
    uint64_t index;         /* of the answer; 0: it came from outside the log */
    uint64_t known;         /* the highest index that anybody had been told of when it began */
    size_t call, call_size; /* name, arguments and ticket: what the entry of a command holds */
    bool ticketed;          /* its entry may be in the log several times, and is answered alike */
    size_t value, value_size;
};

struct service {
    struct slice bundle;
    char mount[64];
    struct tree *tree; /* of the host below: nobody needs it */
    struct vm *vm;
    char (*names)[VM_NAME_MAX]; /* commands, then queries, each sorted */
    size_t commands, queries;
    struct service_op *ops;
    size_t count, capacity;
    struct buffer bytes;
    size_t current[SWARM_CLIENTS_MAX + 1]; /* of each client: its op, plus 1 */
    uint64_t told;                         /* the highest index that anybody has been told of */
    bool judged;
    char wrong[1600];
};

/* Says what is wrong, once. */
__attribute__((format(printf, 2, 3))) void service_wrong(struct service *service, const char *format, ...);

/* service_verdict.c: holds what clients were told against the log. */
void service_judge(struct service *service, struct replica_world *world, uint32_t node);

#endif
