/* node/node.c - wiring: makes a node of what was opened (open.c), turns the loop, takes it down again. See node/node.h. */
#include "node/node.h"

#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "node/host_calls.h"
#include "node/state.h"
#include "replica/formation.h"
#include "replica/recover.h"

enum { THREADS = 4 + REPLICA_READERS };

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct replica_time node_time(void)
{
    return (struct replica_time){.boot_ms = clock_ms(CLOCK_BOOTTIME), .wall_ms = clock_ms(CLOCK_REALTIME)};
}

/* --- the replica's environment ---------------------------------------------------------------------------------------------------- */

static bool env_send(void *context, struct link *link, const struct slice *parts, size_t parts_count)
{
    (void)context;
    return connection_send(link_context(link), parts, parts_count);
}

static void env_close(void *context, struct link *link)
{
    (void)context;
    connection_close(link_context(link), "closed by this node");
}

static void env_log(void *context, struct log_job *job)
{
    worker_submit(((struct node *)context)->log_thread, job);
}

static void env_apply(void *context, struct machine_job *job)
{
    worker_submit(((struct node *)context)->machine_thread, job);
}

static void env_snapshot(void *context, struct snapshot_job *job)
{
    worker_submit(((struct node *)context)->snapshot_thread, job);
}

static void env_transfer(void *context, struct snapshot_job *job)
{
    worker_submit(((struct node *)context)->transfer_thread, job);
}

/* To the reader that has the least to do: none, for no more are out than there are readers. */
static void env_view(void *context, struct view_job *job)
{
    struct node *node = context;
    struct worker *thread = node->readers[0].thread;
    for (size_t i = 1; i < REPLICA_READERS; i++)
        if (worker_out(node->readers[i].thread) < worker_out(thread))
            thread = node->readers[i].thread;
    worker_submit(thread, job);
}

static void env_dial_bulk(void *context, node_id peer)
{
    peers_dial_bulk(context, peer);
}

static void env_reply(void *context, uint64_t client, const struct replica_reply *reply)
{
    rpc_reply(((struct node *)context)->rpc, client, reply->ok, reply->definite, reply->index, reply->value);
}

/* The log failed, or worse: nothing may be said or written after this line. */
static void env_fatal(void *context, int exit_code, const char *sentence)
{
    (void)context;
    LOG(LOG_ERROR, "node", "%s", sentence);
    _exit(exit_code);
}

/* --- threads' jobs --------------------------------------------------------------------------------------------------------------------- */

static void run_log_job(void *context, void *job)
{
    struct node *node = context;
    log_job_run(job, node->storage, node->disk);
}

static bool idle_log(void *context)
{
    return storage_prepare(((struct node *)context)->storage);
}

static void log_job_done(void *owner, void *job)
{
    replica_log_done(((struct node *)owner)->replica, job, node_time());
}

static void run_machine_job(void *context, void *job)
{
    machine_job_run(job, ((struct node *)context)->machine);
}

static bool idle_machine(void *context)
{
    return machine_sweep(((struct node *)context)->machine);
}

static void machine_job_done(void *owner, void *job)
{
    replica_machine_done(((struct node *)owner)->replica, job, node_time());
}

static void run_snapshot_job(void *context, void *job)
{
    snapshot_job_run(job, ((struct node *)context)->snapshot_disk);
}

static void run_transfer_job(void *context, void *job)
{
    snapshot_job_run(job, ((struct node *)context)->transfer_disk);
}

static void snapshot_job_done(void *owner, void *job)
{
    replica_snapshot_done(((struct node *)owner)->replica, job, node_time());
}

static void run_view_job(void *context, void *job)
{
    view_job_run(job, context);
}

static void view_job_done(void *owner, void *job)
{
    replica_view_done(((struct node *)owner)->replica, job, node_time());
}

static const struct worker_ops reader_ops = {
    .name = "tidelock-read", .nice = 10, .run = run_view_job, .done = view_job_done};
static const struct worker_ops snapshot_ops = {
    .name = "tidelock-snap", .nice = 19, .run = run_snapshot_job, .done = snapshot_job_done};
static const struct worker_ops transfer_ops = {
    .name = "tidelock-file", .run = run_transfer_job, .done = snapshot_job_done};
static const struct worker_ops log_ops = {
    .name = "tidelock-log", .run = run_log_job, .idle = idle_log, .done = log_job_done};
static const struct worker_ops machine_ops = {
    .name = "tidelock-lua", .run = run_machine_job, .idle = idle_machine, .done = machine_job_done};

/* --- clients ---------------------------------------------------------------------------------------------------------------------------- */

static void on_request(void *context, uint64_t call, const struct request *request)
{
    host_calls_take(context, call, request);
}

static void on_client_gone(void *context, struct rpc_client *client)
{
    watch_gone(context, client);
}

static bool adopt(void *context, struct connection *connection, enum sniff_protocol protocol)
{
    struct node *node = context;
    if (node->ending)
        return false;
    if (protocol == SNIFF_PEER)
        peers_adopt(node, connection);
    else
        rpc_adopt(node->rpc, connection);
    return true;
}

void node_accepted(void *context, int fd)
{
    struct node *node = context;
    sniff_accept(node->net, fd, adopt, node);
}

/* --- the turn ---------------------------------------------------------------------------------------------------------------------------- */

static void end_if_drained(struct node *node)
{
    if (!node->draining || node->ending)
        return;
    if (!replica_stopped(node->replica))
        return;
    node->ending = true;
    rpc_close_all(node->rpc);
    ev_break(node->loop, EVBREAK_ALL);
}

static void on_wake(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events; /* the turn does it */
}

static void arm_wake(struct node *node)
{
    uint64_t at = node->watches.more ? 0 : replica_wake_at(node->replica);
    uint64_t now = clock_ms(CLOCK_BOOTTIME);
    ev_timer_stop(node->loop, &node->wake);
    if (at == UINT64_MAX)
        return;
    double wait = at > now ? (double)(at - now) / 1000.0 : 0.0;
    ev_now_update(node->loop);
    ev_timer_set(&node->wake, wait, 0.);
    ev_timer_start(node->loop, &node->wake);
}

/* All threads, in the order in which they are looked at. */
static void list_threads(const struct node *node, struct worker *threads[THREADS])
{
    size_t count = 0;
    threads[count++] = node->log_thread;
    threads[count++] = node->machine_thread;
    threads[count++] = node->snapshot_thread;
    threads[count++] = node->transfer_thread;
    for (size_t i = 0; i < REPLICA_READERS; i++)
        threads[count++] = node->readers[i].thread;
    CHECK_EQ(count, THREADS);
}

/* Before the loop sleeps: all that has gathered is done, then all sockets are written. */
static void on_turn(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)events;
    struct node *node = watcher->data;
    struct worker *threads[THREADS];
    list_threads(node, threads);
    for (size_t i = 0; i < THREADS; i++)
        worker_collect(threads[i]);
    rpc_resume(node->rpc);
    replica_turn(node->replica, node_time());
    peers_follow(node);
    watch_turn(node);
    net_flush(node->net);
    /* After the sends: followers write at the same time as this node (thesis 10.2.1). */
    for (size_t i = 0; i < THREADS; i++)
        worker_wake(threads[i]);
    end_if_drained(node);
    arm_wake(node);
}

static void on_drain_over(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    struct node *node = watcher->data;
    LOG(LOG_WARN, "node", "requests in progress did not end in time; ending without them");
    node->ending = true;
    ev_break(loop, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)events;
    struct node *node = watcher->data;
    if (++node->signals > 1) {
        LOG(LOG_WARN, "node", "a second signal: ending at once");
        _exit(NODE_EXIT_INTERRUPTED);
    }
    LOG(LOG_INFO, "node", "signal %d: draining", watcher->signum);
    node->draining = true;
    replica_stop(node->replica, node_time());
    ev_timer_start(loop, &node->drain);
}

/* --- starting ------------------------------------------------------------------------------------------------------------------------------ */

static const char *own_address(const struct identity *identity)
{
    for (size_t i = 0; i < identity->members_count; i++)
        if (identity->members[i].id == identity->id)
            return identity->members[i].address;
    return "";
}

/* Whether who looks for `address` finds what listens at `listen`: the same, or every address of this machine and that port. */
static bool leads_here(const char *listen, const char *address)
{
    char host[NET_HOST_MAX];
    unsigned port = 0;
    unsigned wanted = 0;
    if (strcmp(listen, address) == 0)
        return true;
    if (address_split(listen, host, &port) != STATUS_OK ||
        (strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0))
        return false;
    return address_split(address, host, &wanted) == STATUS_OK && port == wanted;
}

static void make_replica(struct node *node, const struct node_options *options, const struct identity *identity,
                         struct slice bundles, const struct replica_recovered *recovered)
{
    static const struct replica_env callbacks = {.send = env_send,
                                                 .close = env_close,
                                                 .log = env_log,
                                                 .apply = env_apply,
                                                 .snapshot = env_snapshot,
                                                 .transfer = env_transfer,
                                                 .view = env_view,
                                                 .dial_bulk = env_dial_bulk,
                                                 .reply = env_reply,
                                                 .fatal = env_fatal};
    struct replica_env env = callbacks;
    env.context = node;
    struct replica_options how = {
        .seed = node_random(),
        .election_timeout_ms = options->election_ms > 0 ? options->election_ms : NODE_ELECTION_MS,
        .heartbeat_ms = options->heartbeat_ms > 0 ? options->heartbeat_ms : NODE_HEARTBEAT_MS,
        .address = own_address(identity),
        .self = options->self,
        .identity = *identity,
        .bundles = bundles,
        .fingerprint = machine_fingerprint(),
        .snapshots = options->snapshots,
        .machine = {.lua_bytes_max = options->lua_bytes_max},
        .scrub_rate = options->scrub_rate,
        .recovered = recovered};
    node->machine = recovered->machine;
    for (size_t i = 0; i < REPLICA_READERS; i++)
        node->readers[i].reader = reader_new(options->lua_bytes_max);
    node->replica = replica_new(&how, &env, node->storage);
}

static void start_loop(struct node *node)
{
    node->log_thread = worker_start(node->loop, &log_ops, node, node);
    node->machine_thread = worker_start(node->loop, &machine_ops, node, node);
    node->snapshot_thread = worker_start(node->loop, &snapshot_ops, node, node);
    node->transfer_thread = worker_start(node->loop, &transfer_ops, node, node);
    for (size_t i = 0; i < REPLICA_READERS; i++)
        node->readers[i].thread = worker_start(node->loop, &reader_ops, node->readers[i].reader, node);
    ev_prepare_init(&node->turn, on_turn);
    node->turn.data = node;
    ev_prepare_start(node->loop, &node->turn);
    ev_init(&node->wake, on_wake);
    ev_timer_init(&node->drain, on_drain_over, NODE_DRAIN_MS / 1000.0, 0.);
    node->drain.data = node;
    ev_signal_init(&node->terminate, on_signal, SIGTERM);
    ev_signal_init(&node->interrupt, on_signal, SIGINT);
    node->terminate.data = node;
    node->interrupt.data = node;
    ev_signal_start(node->loop, &node->terminate);
    ev_signal_start(node->loop, &node->interrupt);
    (void)signal(SIGPIPE, SIG_IGN);
    replica_start(node->replica, node_time());
    peers_follow(node);
}

static void stop_loop(struct node *node)
{
    node->ending = true;
    ev_prepare_stop(node->loop, &node->turn);
    ev_timer_stop(node->loop, &node->wake);
    ev_timer_stop(node->loop, &node->drain);
    ev_signal_stop(node->loop, &node->terminate);
    ev_signal_stop(node->loop, &node->interrupt);
    peers_stop(node);
    listener_close(node->listener);
    net_flush(node->net);
    /* Jobs that come back may make new ones: go on until none is out. */
    struct worker *threads[THREADS];
    list_threads(node, threads);
    for (size_t out = 1; out > 0;) {
        out = 0;
        for (size_t i = 0; i < THREADS; i++) {
            worker_wake(threads[i]);
            worker_collect(threads[i]);
            out += worker_out(threads[i]);
        }
    }
    net_close_all(node->net, "this node ends");
    for (size_t i = 0; i < THREADS; i++)
        worker_stop(threads[i]);
}

static void free_all(struct node *node)
{
    replica_free(node->replica);
    machine_thaw_all(node->machine); /* of what waited for a reader until the end */
    for (size_t i = 0; i < REPLICA_READERS; i++)
        reader_free(node->readers[i].reader);
    rpc_free(node->rpc);
    net_free(node->net);
    machine_free(node->machine);
}

static void say_what_starts(const struct node_options *options, const struct identity *identity)
{
    LOG(LOG_INFO, "node", "listens on %s, data in %s", options->listen, options->data);
    if (identity->formation == FORMATION_FORMED && (options->cluster != NULL || options->bundles_count > 0))
        LOG(LOG_INFO, "node",
            "--cluster, --machine and --format are not looked at: this node is a member already, and the code is "
            "in "
            "the log");
}

/* Where the others look for this node: as its log has it, or its identity where that says nothing yet. */
static void find_address(const struct node *node, const struct identity *identity,
                         char address[MEMBER_ADDRESS_BYTES])
{
    struct members *members = mem_zalloc(1, sizeof *members);
    bool pending = false;
    const struct member *self = NULL;
    if (replica_members(node->replica, members, &pending))
        self = members_find(members, identity->id);
    snprintf(address, MEMBER_ADDRESS_BYTES, "%s", self != NULL ? self->address : own_address(identity));
    mem_free(members);
}

/* A directory that is started elsewhere is a copy, or has moved, or something leads here: only who starts it can know. */
static int check_place(struct node *node, const struct node_options *options, const struct identity *identity)
{
    char address[MEMBER_ADDRESS_BYTES];
    char why[900];
    find_address(node, identity, address);
    if (options->joins || leads_here(options->advertise != NULL ? options->advertise : options->listen, address))
        return NODE_EXIT_OK;
    snprintf(
        why, sizeof why,
        "the others look for node %llu at %s, and this would listen at %s: if that address leads here, say so with "
        "--advertise %s; if the node has moved, tell the cluster with --join HOST:PORT; else this directory is a "
        "copy, "
        "which must not run",
        (unsigned long long)identity->id, address, options->listen, address);
    return node_refuse(node, NODE_EXIT_CONFIG, why);
}

static int run_opened(struct node *node, const struct node_options *options)
{
    struct identity identity;
    struct buffer bundles = {0};
    struct replica_recovered recovered = {0};
    node->loop = ev_loop_new(EVFLAG_NOENV | EVFLAG_AUTO);
    CHECK(node->loop != NULL);
    node->net = net_new(node->loop);
    const struct rpc_owner owner = {.request = on_request, .gone = on_client_gone, .context = node};
    node->rpc = rpc_new(node->net, &owner);
    int exit_code = node_open(node, options, &identity, &bundles, &recovered);
    if (exit_code != NODE_EXIT_OK) {
        if (node->listener != NULL)
            listener_close(node->listener);
        rpc_free(node->rpc);
        net_free(node->net);
        if (recovered.machine != NULL)
            machine_free(recovered.machine);
    } else {
        make_replica(node, options, &identity, buffer_slice(&bundles), &recovered);
        exit_code = check_place(node, options, &identity);
        if (exit_code == NODE_EXIT_OK) {
            say_what_starts(options, &identity);
            start_loop(node);
            ev_run(node->loop, 0);
            stop_loop(node);
        } else {
            listener_close(node->listener);
        }
        free_all(node);
        LOG(LOG_INFO, "node", "ended");
    }
    replica_recovered_close(&recovered);
    ev_loop_destroy(node->loop);
    buffer_close(&bundles);
    if (node->storage != NULL)
        storage_close(node->storage);
    if (node->snapshot_disk != NULL)
        node->snapshot_disk->free(node->snapshot_disk);
    if (node->transfer_disk != NULL)
        node->transfer_disk->free(node->transfer_disk);
    return exit_code;
}

int node_run(const struct node_options *options, struct buffer *why)
{
    struct node node = {.why = why};
    log_setup(options->log_level, options->log_format);
    log_set_node(options->id);
    int exit_code = node_check_address(&node, options);
    if (exit_code != NODE_EXIT_OK)
        return exit_code;
    if (options->cluster == NULL && access(options->data, F_OK) != 0)
        return node_refuse(&node, NODE_EXIT_CONFIG, node_first_start_needs);
    enum status status = disk_posix_open(options->data, options->cluster != NULL, true, &node.disk, why);
    if (status != STATUS_OK)
        return status == STATUS_LOCKED || status == STATUS_NOT_FOUND ? NODE_EXIT_CONFIG : NODE_EXIT_FAILED;
    exit_code = run_opened(&node, options);
    node.disk->free(node.disk);
    return exit_code;
}
