/* replica/announce.c - a member says what it was started with (zone, tags, priority), where the configuration has something else of it. Private to
 * replica/.
 *
 * It asks as a node that joins does, whoever leads: of a member that becomes a change of what is known of it (machine/membership.h). Asked again
 * for as long as it differs, for a change may go on meanwhile.
 */
#include <string.h>

#include "replica/state.h"
#include "wire/pack.h"

enum { ANNOUNCE_MS = 1000, ANNOUNCE_MS_MAX = 60000 };

static bool has_news(const struct replica_self *self, const struct member *member)
{
    return (self->zone_given && strcmp(self->zone, member->zone) != 0) ||
           (self->priority_given && self->priority != member->priority) ||
           (self->tags_given &&
            !slice_equal(slice_make(self->tags, self->tags_bytes), slice_make(member->tags, member->tags_bytes)));
}

static void pack_self(const struct replica_self *self, const struct member *member, struct buffer *args)
{
    const uint8_t *tags = self->tags_given ? self->tags : member->tags;
    const size_t tags_bytes = self->tags_given ? self->tags_bytes : member->tags_bytes;
    pack_array(args, 1);
    pack_map(args, 6);
    pack_text(args, slice_text("address"));
    pack_text(args, slice_text(member->address));
    pack_text(args, slice_text("id"));
    pack_u64(args, member->id);
    pack_text(args, slice_text("incarnation"));
    pack_u64(args, member->incarnation);
    pack_text(args, slice_text("priority"));
    pack_u64(args, self->priority_given ? self->priority : member->priority);
    pack_text(args, slice_text("tags"));
    if (tags_bytes > 0)
        buffer_append(args, tags, tags_bytes);
    else
        pack_map(args, 0);
    pack_text(args, slice_text("zone"));
    pack_text(args, slice_text(self->zone_given ? self->zone : member->zone));
}

void announce_turn(struct replica *replica)
{
    const struct members *now = members_now(replica);
    if (replica->now.boot_ms < replica->announce_at || replica->effects.leader == 0 || replica->stopping ||
        !members_has_self(replica))
        return;
    const struct member *member = members_find(now, replica->identity.id);
    if (!has_news(&replica->self, member)) {
        replica->announce_wait = 0;
        return;
    }
    struct buffer args = {0};
    const uint64_t wait = replica->announce_wait * 2;
    replica->announce_wait = wait < ANNOUNCE_MS ? ANNOUNCE_MS : wait < ANNOUNCE_MS_MAX ? wait : ANNOUNCE_MS_MAX;
    replica->announce_at = replica->now.boot_ms + replica->announce_wait;
    pack_self(&replica->self, member, &args);
    const struct request request = {.name = slice_text("tidelock.join"),
                                    .args = buffer_slice(&args),
                                    .timeout_ms = ANNOUNCE_MS,
                                    .forward = true,
                                    .read = READ_LINEARIZABLE};
    uint64_t token = request_add(replica, REPLICA_NOBODY, 0, &request, false);
    if (token != 0)
        request_route(replica, token);
    buffer_close(&args);
}
