/* spec/bench/peers/loadgen/loadgen.h - what the parts of the load generator share.
 *
 * One client for tidelock and its peers: one thread, so that rate and latency are taken in one way
 * from everyone; a protocol says only how a request and its answer look. Depends on libcore's base floor. */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum {
    RING = 65536,    /* requests out on one connection; an id is remembered modulo this */
    PORTS_MAX = 16,  /* ports to deal the connections over */
    INPUT = 1 << 18, /* bytes that one read asks for */
};

struct connection {
    int fd;
    int index;
    bool up;
    bool blocked; /* waits for room to send */
    struct buffer in;
    struct buffer out;
    size_t written;     /* bytes of out that are sent */
    uint32_t next_id;   /* of the next request */
    uint32_t oldest_id; /* of the request that an answer without an id belongs to */
    int waiting;        /* requests without an answer */
    uint64_t *sent_ns;  /* ring: when each went out */
    uint64_t *keys;     /* ring: the number in its key */
    struct http2 *http2;
};

struct protocol {
    const char *name;
    const char *action;                           /* what -a says if it is not given */
    void (*prepare)(void);                        /* once, or NULL */
    void (*hello)(struct connection *connection); /* after each connect, or NULL */
    void (*request)(struct connection *connection);
    size_t (*answers)(struct connection *connection, struct slice in); /* takes whole answers -> bytes used */
};

extern const struct protocol protocol_resp, protocol_raw, protocol_etcd, protocol_rpc;

/* What the command line says. */
struct options {
    const struct protocol *protocol;
    const char *action;
    int ports[PORTS_MAX];
    int ports_count;
    int connections;
    int depth; /* requests out on each */
    double seconds;
    uint64_t requests_max;
    size_t key_bytes;
    size_t value_bytes;
    uint64_t keys;
    uint64_t rate;       /* requests a second; 0: the closed loop */
    const char *samples; /* the file of all answers, or NULL */
    bool in_sequence;    /* keys count up, instead of random ones */
    uint64_t key_first;
    int victim;               /* > 0: failover, this pid is killed; 1: nobody is */
    const char *event;        /* around: this command runs while all is written to, or NULL */
    const char *acknowledged; /* around: the file of acknowledged keys */
};

/* What has been counted. */
struct counts {
    uint64_t sent;
    uint64_t answered; /* well, and before end_ns */
    uint64_t refused;
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t last_ns;  /* of the last counted answer */
    int first_port;    /* failover: who answered first after the kill, 0 for nobody yet */
    uint64_t first_ns; /* and when */
};

extern struct options options;
extern struct counts counts;
extern struct slice request_key, request_value; /* of the request that is being made */

uint64_t now_ns(void);
__attribute__((noreturn)) void die(const char *text);

/* connection.c: connects, and says hello; false if nobody listens. */
bool connection_open(struct connection *connection, int index);
void connection_request(struct connection *connection);
/* Sends what can be sent: 0 all, 1 some is left, -1 the connection is broken. */
int connection_flush(struct connection *connection);
/* Reads, and takes the answers that are whole; false if the connection is broken. */
bool connection_receive(struct connection *connection);
/* A protocol took the answer to request `id`. */
void connection_answered(struct connection *connection, uint32_t id, bool ok);

/* When request `number` of a run at a fixed rate is due. */
uint64_t due_ns(uint64_t number);

/* latency.c: a histogram exact to 1 in 64; and, if there is a file for them, every single one. */
void latency_add(uint64_t ns);
void sample_add(uint64_t due, uint64_t sent, uint64_t answered);
bool samples_save(void);
double latency_us(double share);
double latency_max_us(void);

/* failover.c: kills the victim, and says when a survivor answers a write. -> exit code */
int failover(int epoll);

/* around.c: runs a command beside writes, and says how long none was acknowledged. -> exit code */
int around(int epoll);
void around_acknowledged(struct slice key, uint64_t sent_ns, uint64_t now);

#endif
