/* replica/events.h - what commands told with ctx.emit lately, for those who watch: a ring with bounds, one a node.
 *
 * Every node has the same events at the same index, whether it leads or not. An event's id is its entry's index and its place in
 * it, with the first 8 hex digits of the cluster's id behind: so a client can go on at another node where it was, and an id of
 * another cluster is noticed. Many read the same ring, each with a cursor of its own; whoever is so slow that the oldest ones
 * went meanwhile is told (COMPACTED), and costs no memory. Depends on base, raft/types.h, wire.
 */
#ifndef REPLICA_EVENTS_H
#define REPLICA_EVENTS_H

#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"

struct events;

enum {
    EVENTS_BYTES = 16 * 1024 * 1024, /* kept; at least the last block of them */
    EVENTS_COUNT = 200 * 1000,
    EVENTS_ID_BYTES = 64,  /* of an id as text, its zero included */
    EVENTS_NAME_MAX = 128, /* bytes of "mount.topic" that are asked for */
    EVENTS_PREFIX_MAX = 1024
};

/* After which event: that of `index` with the number `n`; 0: before the first one of `index`. */
struct event_id {
    raft_index index;
    uint64_t n;
};

/* One event; borrowed until events are added. */
struct event {
    struct event_id id;
    struct slice topic; /* "mount.topic" */
    struct slice key;
    struct slice data; /* one MessagePack value */
};

/* Where somebody reads. */
struct event_cursor {
    uint64_t block;
    size_t offset;
    struct event_id after; /* the last one that was seen, or where it was to begin */
};

/* What somebody wants. */
struct event_filter {
    char name[EVENTS_NAME_MAX + 1];    /* "mount." for all of its topics, or "mount.topic" */
    uint8_t prefix[EVENTS_PREFIX_MAX]; /* of the key */
    size_t prefix_size;
};

/* Events after entry `floor` will be there. bytes_max 0: EVENTS_BYTES. */
struct events *events_new(raft_index floor, size_t bytes_max);
void events_free(struct events *events);

/* Adds what a range of entries told, MessagePack lists [index, n, topic, key, data]. `lost`: events up to this entry are not
 * among them; 0: all are. */
void events_add(struct events *events, struct slice list, raft_index lost);

/* The state is another's, at `floor`: what was told before is not known here. */
void events_reset(struct events *events, raft_index floor);

/* Grows whenever there may be something new to read. */
uint64_t events_version(const struct events *events);

/* A place to read from: after `after`, which may lie ahead. False: not all since then is there any more; `first` gets an id after
 * which all is. */
bool events_seek(const struct events *events, struct event_id after, struct event_cursor *cursor,
                 struct event_id *first);

enum event_next { EVENT_NONE, EVENT_FOUND, EVENT_LOST };

/* The next one, whatever it is: NONE, there is none yet; LOST: what was to come went before it was read, as in events_seek. */
enum event_next events_next(const struct events *events, struct event_cursor *cursor, struct event *event,
                            struct event_id *first);

/* --- what is asked for, and told --------------------------------------------------------------------------------------- */

/* Reads the arguments of tidelock.watch, [mount, topic or nil, prefix or nil, from or nil]. `from_now` is set where no id is
 * given. NULL; or why not, a sentence; *compacted: it is an id of another cluster. */
const char *events_read_watch(struct slice args, uint64_t cluster_id, struct event_filter *filter,
                              struct event_id *from, bool *from_now, bool *compacted);
bool events_wanted(const struct event_filter *filter, const struct event *event);

/* "INDEX.N-CCCCCCCC" */
void events_print_id(struct event_id id, uint64_t cluster_id, char text[EVENTS_ID_BYTES]);

/* Appends the list [id, topic, key, data] of a notification, where topic is without its mount. */
void events_pack(const struct event *event, uint64_t cluster_id, struct buffer *out);

/* Appends the error COMPACTED with data {first}: an id after which all is there. */
void events_pack_compacted(const char *why, struct event_id first, uint64_t cluster_id, struct buffer *out);

#endif
