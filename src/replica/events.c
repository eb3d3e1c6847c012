/* replica/events.c - see replica/events.h. Events lie in blocks, as they came; a block goes when there are too many. */
#include "replica/events.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "wire/error.h"
#include "wire/pack.h"

enum { BLOCK_BYTES = 32 * 1024, CLUSTER_DIGITS = 8, BLOCKS_STEP = 16 };

struct block {
    struct buffer bytes;
    size_t count;
    struct event_id last;
};

struct events {
    struct block *blocks; /* in order, from `first` on at [first % capacity] */
    size_t capacity;
    uint64_t first; /* numbers of blocks only grow */
    uint64_t end;
    size_t bytes, bytes_max;
    size_t count;
    struct event_id floor; /* all after it is here, or yet to come */
    uint64_t version;
};

static bool is_after(struct event_id a, struct event_id b)
{
    return a.index > b.index || (a.index == b.index && a.n > b.n);
}

static struct block *block_of(const struct events *events, uint64_t number)
{
    return &events->blocks[number % events->capacity];
}

struct events *events_new(raft_index floor, size_t bytes_max)
{
    struct events *events = mem_zalloc(1, sizeof *events);
    events->bytes_max = bytes_max > 0 ? bytes_max : EVENTS_BYTES;
    events->floor = (struct event_id){.index = floor, .n = UINT64_MAX};
    return events;
}

static void drop_first(struct events *events)
{
    struct block *block = block_of(events, events->first++);
    events->bytes -= block->bytes.size;
    events->count -= block->count;
    if (is_after(block->last, events->floor))
        events->floor = block->last;
    buffer_close(&block->bytes);
}

void events_free(struct events *events)
{
    while (events->first < events->end)
        drop_first(events);
    mem_free(events->blocks);
    mem_free(events);
}

static void add_block(struct events *events)
{
    if (events->end - events->first == events->capacity) {
        size_t capacity = events->capacity * 2 + BLOCKS_STEP;
        struct block *blocks = mem_zalloc(capacity, sizeof *blocks);
        for (uint64_t number = events->first; number < events->end; number++)
            blocks[number % capacity] = *block_of(events, number);
        mem_free(events->blocks);
        events->blocks = blocks;
        events->capacity = capacity;
    }
    *block_of(events, events->end++) = (struct block){0};
}

static struct event read_event(struct pack_reader *reader)
{
    struct event event;
    uint32_t parts = 0;
    bool good =
        pack_read_array(reader, &parts) == STATUS_OK && parts == 5 &&
        pack_read_u64(reader, &event.id.index) == STATUS_OK && pack_read_u64(reader, &event.id.n) == STATUS_OK &&
        pack_read_text(reader, &event.topic) == STATUS_OK && pack_read_text(reader, &event.key) == STATUS_OK &&
        pack_skip(reader, PACK_DEPTH_MAX, &event.data) == STATUS_OK;
    CHECK(good);
    return event;
}

void events_add(struct events *events, struct slice list, raft_index lost)
{
    if (lost > 0)
        events_reset(events, lost);
    if (list.size == 0)
        return;
    struct pack_reader reader = pack_reader_make(list);
    size_t block_bytes = events->bytes_max / 8 < BLOCK_BYTES ? events->bytes_max / 8 : BLOCK_BYTES;
    for (struct slice rest = list; rest.size > 0; rest = pack_rest(&reader)) {
        struct event event = read_event(&reader);
        size_t size = rest.size - pack_rest(&reader).size;
        if (events->first == events->end || block_of(events, events->end - 1)->bytes.size >= block_bytes)
            add_block(events);
        struct block *block = block_of(events, events->end - 1);
        buffer_append(&block->bytes, rest.data, size);
        block->count++;
        block->last = event.id;
        events->bytes += size;
        events->count++;
        while (events->end - events->first > 1 &&
               (events->bytes > events->bytes_max || events->count > EVENTS_COUNT))
            drop_first(events);
    }
    events->version++;
}

void events_reset(struct events *events, raft_index floor)
{
    while (events->first < events->end)
        drop_first(events);
    events->floor = (struct event_id){.index = floor, .n = UINT64_MAX};
    events->version++;
}

uint64_t events_version(const struct events *events)
{
    return events->version;
}

/* An id after which all is there, in the form of an event before which nothing is: ids have no number without end. */
static struct event_id all_after(const struct events *events)
{
    struct event_id floor = events->floor;
    return floor.n == UINT64_MAX ? (struct event_id){.index = floor.index + 1} : floor;
}

bool events_seek(const struct events *events, struct event_id after, struct event_cursor *cursor,
                 struct event_id *first)
{
    *first = all_after(events);
    if (is_after(events->floor, after) && is_after(*first, after) && !MUTANT(174))
        return false;
    uint64_t low = events->first;
    uint64_t high = events->end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (is_after(block_of(events, middle)->last, after))
            high = middle;
        else
            low = middle + 1;
    }
    if (low == events->end && low > events->first && !MUTANT(286))
        low--; /* what is yet to come may come into the last block */
    *cursor = (struct event_cursor){.block = low, .after = after};
    return true;
}

enum event_next events_next(const struct events *events, struct event_cursor *cursor, struct event *event,
                            struct event_id *first)
{
    bool gone = cursor->block < events->first;
    if ((gone || is_after(events->floor, cursor->after)) && !events_seek(events, cursor->after, cursor, first))
        return EVENT_LOST;
    while (cursor->block < events->end) {
        struct slice bytes = buffer_slice(&block_of(events, cursor->block)->bytes);
        while (cursor->offset < bytes.size) {
            struct pack_reader reader =
                pack_reader_make(slice_make(bytes.data + cursor->offset, bytes.size - cursor->offset));
            *event = read_event(&reader);
            cursor->offset = bytes.size - pack_rest(&reader).size;
            if (!is_after(event->id, cursor->after))
                continue;
            cursor->after = event->id;
            return EVENT_FOUND;
        }
        if (cursor->block + 1 == events->end)
            break; /* more may come into this block */
        cursor->block++;
        cursor->offset = 0;
    }
    return EVENT_NONE;
}

/* --- what is asked for, and told --------------------------------------------------------------------------------------- */

/* "12", "12.3", "12.3-89abcdef". A bare index is the end of its entry. */
static bool read_id(struct slice text, struct event_id *id, char cluster[CLUSTER_DIGITS + 1])
{
    char copy[EVENTS_ID_BYTES];
    unsigned long long index = 0;
    unsigned long long n = 0;
    int used = 0;
    int used_n = 0;
    cluster[0] = 0;
    if (text.size == 0 || text.size >= sizeof copy || memchr(text.data, 0, text.size) != NULL ||
        text.data[0] < '0' || text.data[0] > '9')
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    if (sscanf(copy, "%19llu%n", &index, &used) != 1)
        return false;
    *id = (struct event_id){.index = index + 1};
    if (copy[used] == '.') {
        if (copy[used + 1] < '0' || copy[used + 1] > '9' || sscanf(copy + used + 1, "%18llu%n", &n, &used_n) != 1)
            return false;
        *id = (struct event_id){.index = index, .n = n};
        used += 1 + used_n;
    }
    if (copy[used] == '-' && strlen(copy + used + 1) == CLUSTER_DIGITS &&
        strspn(copy + used + 1, "0123456789abcdef") == CLUSTER_DIGITS) {
        memcpy(cluster, copy + used + 1, CLUSTER_DIGITS + 1);
        return true;
    }
    return copy[used] == 0;
}

static void print_cluster(uint64_t cluster_id, char text[CLUSTER_DIGITS + 1])
{
    char all[17];
    snprintf(all, sizeof all, "%016llx", (unsigned long long)cluster_id);
    memcpy(text, all, CLUSTER_DIGITS);
    text[CLUSTER_DIGITS] = 0;
}

/* An optional text. */
static bool read_text(struct pack_reader *reader, uint32_t *left, struct slice *text)
{
    *text = (struct slice){0};
    if (*left == 0)
        return true;
    struct pack_reader ahead = *reader;
    struct pack_item item;
    (*left)--;
    if (pack_read(&ahead, &item) == STATUS_OK && item.type == PACK_NIL) {
        *reader = ahead;
        return true;
    }
    return pack_read_text(reader, text) == STATUS_OK;
}

const char *events_read_watch(struct slice args, uint64_t cluster_id, struct event_filter *filter,
                              struct event_id *from, bool *from_now, bool *compacted)
{
    struct pack_reader reader = pack_reader_make(args);
    struct slice mount, topic, prefix, id;
    char cluster[CLUSTER_DIGITS + 1];
    char own[CLUSTER_DIGITS + 1];
    uint32_t left = 0;
    *compacted = false;
    if (pack_read_array(&reader, &left) != STATUS_OK || left < 1 || left > 4 ||
        !read_text(&reader, &left, &mount) || mount.size == 0 || !read_text(&reader, &left, &topic) ||
        !read_text(&reader, &left, &prefix) || !read_text(&reader, &left, &id))
        return "tidelock.watch takes a mount, and a topic, a prefix of keys and an id, each text or nil";
    if (mount.size + 1 + topic.size > EVENTS_NAME_MAX)
        return "there are no mounts and topics with such long names";
    if (prefix.size > EVENTS_PREFIX_MAX)
        return "a prefix is at most 1024 bytes";
    snprintf(filter->name, sizeof filter->name, "%.*s.%.*s", (int)mount.size, (const char *)mount.data,
             (int)topic.size, topic.size > 0 ? (const char *)topic.data : "");
    if (prefix.size > 0)
        memcpy(filter->prefix, prefix.data, prefix.size);
    filter->prefix_size = prefix.size;
    *from_now = id.size == 0;
    if (*from_now)
        return NULL;
    if (!read_id(id, from, cluster))
        return "an event's id is INDEX.N-CCCCCCCC, as events bring it, or INDEX or INDEX.N";
    print_cluster(cluster_id, own);
    *compacted = cluster[0] != 0 && strcmp(cluster, own) != 0 && !MUTANT(175);
    return *compacted ? "this id is of another cluster" : NULL;
}

bool events_wanted(const struct event_filter *filter, const struct event *event)
{
    size_t size = strlen(filter->name);
    bool whole = filter->name[size - 1] != '.';
    return (whole ? event->topic.size == size : event->topic.size > size) &&
           memcmp(event->topic.data, filter->name, size) == 0 && event->key.size >= filter->prefix_size &&
           (filter->prefix_size == 0 || memcmp(event->key.data, filter->prefix, filter->prefix_size) == 0);
}

void events_print_id(struct event_id id, uint64_t cluster_id, char text[EVENTS_ID_BYTES])
{
    char cluster[CLUSTER_DIGITS + 1];
    print_cluster(cluster_id, cluster);
    snprintf(text, EVENTS_ID_BYTES, "%llu.%llu-%s", (unsigned long long)id.index, (unsigned long long)id.n,
             cluster);
}

void events_pack(const struct event *event, uint64_t cluster_id, struct buffer *out)
{
    char id[EVENTS_ID_BYTES];
    struct slice topic = event->topic;
    const uint8_t *dot = memchr(topic.data, '.', topic.size);
    CHECK(dot != NULL);
    topic.size -= (size_t)(dot + 1 - topic.data);
    topic.data = dot + 1;
    events_print_id(event->id, cluster_id, id);
    pack_array(out, 4);
    pack_text(out, slice_text(id));
    pack_text(out, topic);
    pack_text(out, event->key);
    buffer_append(out, event->data.data, event->data.size);
}

void events_pack_compacted(const char *why, struct event_id first, uint64_t cluster_id, struct buffer *out)
{
    char id[EVENTS_ID_BYTES];
    events_print_id(first, cluster_id, id);
    pack_map(out, 3);
    pack_text(out, slice_text("code"));
    pack_text(out, slice_text("COMPACTED"));
    pack_text(out, slice_text("data"));
    pack_map(out, 1);
    pack_text(out, slice_text("first"));
    pack_text(out, slice_text(id));
    pack_text(out, slice_text("message"));
    pack_text(out, slice_text(why));
}
