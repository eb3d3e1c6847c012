/* sim/swarm.h - one seed of the simulator: clients and faults on a world of replicas, then all is mended, and it must come
 * back.
 *
 * The seed draws the cluster, which faults are on and how often they strike (swarm testing: few of them at a time find more
 * than all of them always), and a script of strikes: when, which fault, on whom, how long. The script is drawn before
 * anything runs, so it can be shortened and run again. Three phases: faults; mending (what is down is started again, but
 * for disks that lost what they promised); liveness, with a bound: one leader, all applied the same, a fresh write commits.
 * Then the workload says whether the clients saw what they may see. Depends on sim/replica_world.h, faults.h.
 */
#ifndef SIM_SWARM_H
#define SIM_SWARM_H

#include "base/prng.h"
#include "sim/replica_world.h"

enum { SWARM_CLIENTS_MAX = 64, SWARM_STRIKES_MAX = 4096, SWARM_LUA_BYTES_MAX = 64 * 1024 * 1024 };

/* One event of the fault script. Times are ms after the service first answered. */
struct strike {
    uint32_t at;
    uint32_t fault; /* its place in the table (sim/faults.h) */
    uint32_t node, peer;
    bool leader;     /* strikes whoever leads then, in place of `node` */
    uint32_t amount; /* what it means, the fault knows */
    uint32_t lasts;
};

/* How a client's request ended. */
enum swarm_outcome {
    SWARM_OK,
    SWARM_REFUSED, /* certainly without effect */
    SWARM_UNKNOWN
};

/* What clients do, and what they may see. */
struct workload {
    void *context;
    bool refusals_answer; /* a refusal that came through the log shows as well as an ok that the service answers */
    /* The next request of `client` (from 1): false: it pauses. `name` and `args` (one MessagePack list) come empty. */
    bool (*next)(void *context, uint32_t client, uint64_t now_ms, struct prng *prng, struct buffer *name,
                 struct buffer *args, bool *query);
    /* It ended so, from `began` to reply->at. */
    void (*ended)(void *context, uint32_t client, uint64_t began, enum swarm_outcome outcome,
                  const struct replica_world_reply *reply);
    /* NULL; or told of each request that begins, whoever thought of it. Then requests are kept, and may be scripted. `ticket`: the list
     * [session, seq, done_below] that it carries; empty: none. */
    void (*begun)(void *context, uint32_t client, struct slice name, struct slice args, struct slice ticket,
                  bool query);
    /* NULL; or whether this command takes a session: then its client opens one first, and asks again until it knows. */
    bool (*demands_session)(void *context, struct slice name);
    /* NULL; or asked after each request: NULL, or what is wrong already, valid as long as the context. */
    const char *(*wrong)(void *context);
    /* NULL: the service has one version; or somebody asks the node to deploy another, `amount` (any) says which. */
    void (*deploy)(void *context, struct replica_world *world, uint32_t node, uint32_t amount);
    /* After the liveness phase. NULL, or what is wrong, valid as long as the context. */
    const char *(*verdict)(void *context, struct replica_world *world, uint32_t node);
};

/* A request by script. */
struct swarm_request {
    uint32_t at;     /* ms after the swarm began; later if its client is still busy then */
    uint32_t client; /* from 1 */
    uint32_t node;   /* passed over if that one is down then */
    uint32_t timeout_ms;
    bool forward;
    bool query;
    bool
        again; /* the client repeats its last request, for it does not know how that ended; passed over if it does know */
    struct slice name, args;
};

struct swarm_options {
    uint64_t seed;
    uint32_t nodes;               /* 0: drawn */
    uint32_t clients;             /* at most SWARM_CLIENTS_MAX */
    uint32_t commands_per_second; /* of all clients together, as far as answers allow */
    uint32_t fault_ms;            /* length of the first phase */
    uint32_t churn;  /* 0; or members come and go, of 7 nodes: 1: as operators want, 2: a policy decides, too */
    uint64_t faults; /* one bit a fault: those that may be on */
    struct slice bundles; /* the service: a MessagePack list; borrowed */
    bool invariants;      /* hold every machine against the modules' invariants */
    struct workload workload;
    /* Not NULL: in place of what the workload would think of, in order of time; borrowed. The first phase begins at
     * form_ms then, and nothing fresh is asked after mending. */
    const struct swarm_request *requests;
    size_t requests_count;
    uint32_t form_ms;
};

struct swarm_report {
    const char *broken; /* NULL; or what was found, valid until the swarm is freed */
    const char *phase;
    uint64_t events;
    uint64_t ms; /* simulated */
    uint64_t ok, refused, unknown;
    char refusal[200]; /* the first that an entry gave: code and message */
    uint64_t strikes;
    uint32_t nodes;            /* as drawn */
    uint32_t form_ms;          /* when the first phase began, after the swarm */
    uint64_t committed;        /* the last index */
    uint64_t taken, installed; /* snapshots */
    uint32_t asked, granted, joined, removed,
        lost;      /* with churn: changes asked for, granted; nodes that came, went, lost their disks */
    uint64_t hash; /* of everything that happened */
};

struct swarm;

struct swarm *swarm_new(const struct swarm_options *options);
void swarm_free(struct swarm *swarm);

/* The script, in order of time; *count may be lowered and strikes changed before swarm_run. */
struct strike *swarm_script(struct swarm *swarm, size_t **count);

/* Runs all phases, once. */
void swarm_run(struct swarm *swarm, struct swarm_report *report);

/* How often a fault has struck, by its place. */
uint32_t swarm_struck(const struct swarm *swarm, size_t fault);

/* What was asked so far, in order of time; valid until the swarm runs or is freed. */
const struct swarm_request *swarm_requests(struct swarm *swarm, size_t *count);

struct replica_world *swarm_world(struct swarm *swarm);

#endif
