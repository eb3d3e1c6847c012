/* sim/swarm_private.h - what swarm.c and swarm_clients.c share. Private to sim/. */
#ifndef SIM_SWARM_PRIVATE_H
#define SIM_SWARM_PRIVATE_H

#include "sim/faults.h"
#include "sim/swarm.h"
#include "wire/members.h"

struct client {
    uint64_t next_at; /* when it is looked at again; UINT64_MAX: never */
    bool busy;
    uint32_t request;
    uint64_t began;
    bool query;
    bool unknown;    /* how its last request ended */
    size_t last;     /* its last request that was kept, plus 1 */
    size_t scripted; /* its next one of options.requests */
    /* With sessions: */
    char session[REQUEST_SESSION_MAX]; /* the text of its session */
    size_t session_size;               /* 0: it has none */
    uint64_t ttl_ms;
    uint64_t seq;             /* of its last command there */
    bool opening;             /* what it waits for is a session, */
    bool limiting;            /* or that a limit is changed */
    bool ticketed;            /* what it waits for has a session */
    bool again;               /* what it asked for it asks again, as soon as somebody is up */
    bool unsure;              /* an earlier attempt may have had an effect */
    uint32_t attempts;        /* so far */
    uint32_t timeout_ms;      /* of its request */
    struct buffer name, args; /* of its request */
};

/* A request that was made: name and args lie in swarm.made. */
struct made {
    struct swarm_request request; /* but for name and args */
    size_t name_offset, args_offset;
};

/* A node of the world, in a seed with churn. */
struct churn_slot {
    node_id id;
    bool in;          /* it was let in once, or formed the cluster: it may be started */
    uint32_t request; /* its join */
};

/* Members that come and go (swarm_members.c). */
struct churn {
    struct prng prng;
    uint64_t next_at;
    uint32_t request;      /* the operator's */
    uint64_t unsure_until; /* it may have had an effect yet to be seen */
    node_id last_id;
    struct churn_slot slots[REPLICA_WORLD_NODES_MAX];
    struct members members; /* as the leader has them, when it was looked at last */
    uint32_t asked, granted, joined, removed, lost;
};

struct swarm {
    struct swarm_options options;
    struct prng prng;       /* of clients */
    struct prng watch_prng; /* of the watchman; the world has its own */
    struct replica_world *world;
    struct fault_field field;
    uint32_t election_ms;
    uint64_t snapshot_ms; /* that fetching and reading one may take */
    bool sessions;        /* clients have some */
    bool leases;          /* and some read by lease, */
    bool leases_on;       /* now */
    uint32_t founders;    /* of the nodes */
    bool early;           /* faults strike while the cluster forms, too */
    struct strike *script;
    size_t script_count;
    size_t next_strike;
    struct strike *active; /* struck, to be mended */
    size_t active_count;
    uint32_t struck[FAULTS_MAX];
    uint64_t began;
    uint64_t script_began;
    uint64_t watch_at;
    struct client clients[SWARM_CLIENTS_MAX];
    struct buffer name, args;
    uint64_t answers; /* of the service: ok, or what counts as such */
    struct made *list;
    size_t list_count, list_capacity;
    struct buffer made;
    struct swarm_request *requests; /* swarm_requests */
    struct churn churn;
    struct swarm_report *report;
    char broken[1600];
};

/* swarm.c */
void swarm_broke(struct swarm *swarm, const char *what);

/* swarm_clients.c */
uint64_t swarm_now(const struct swarm *swarm);
bool swarm_is_up(const struct swarm *swarm, uint32_t node);
/* Each client's first request by script. */
void swarm_clients_begin(struct swarm *swarm);
/* Looks after the client, number from 0: it has an answer, or begins something. A script does not ask may_begin. */
void swarm_client_step(struct swarm *swarm, uint32_t number, bool may_begin);
/* One is waiting for an answer, or has yet to begin what the script says. */
bool swarm_clients_busy(const struct swarm *swarm);
void swarm_clients_free(struct swarm *swarm);

/* swarm_members.c */
void swarm_members_begin(struct swarm *swarm, uint32_t founders);
void swarm_members_step(struct swarm *swarm);
/* Whether the node has something to be started with; whether it is a member, as the leader has it (without churn: all are). */
bool swarm_may_start(const struct swarm *swarm, uint32_t node);
bool swarm_is_member(struct swarm *swarm, uint32_t node);

#endif
