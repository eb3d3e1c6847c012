/* script/format.h - a snapshot format of the user's own (CONTRACT.md §2): a module in a Lua state of its own, whose write makes
 * bytes of a frozen view, and whose read makes rows of bytes.
 *
 * The sandbox is that of services. There is no budget in all: between two steps (a row that a loop took or read put, bytes
 * written or read) holds that of a command. So that a module cannot go on for ever by steps, its output and the rows its
 * loops take are bounded by the size of the view. One thread uses a format; any thread may.
 * Depends on base, state/view.h, script/vm.h.
 */
#ifndef SCRIPT_FORMAT_H
#define SCRIPT_FORMAT_H

#include "script/bundle.h"
#include "script/vm.h"
#include "state/view.h"

enum {
    FORMAT_LINE_MAX =
        8 * 1024 * 1024, /* bytes of one line, and of one MessagePack value, that read may ask for: the
                                          largest row, and what escapes in text may add to it */
    FORMAT_NAME_BYTES = 64
};

struct format;

/* A map of the state: its rows are those under its number. */
struct format_map {
    char mount[FORMAT_NAME_BYTES];
    char name[FORMAT_NAME_BYTES];
    uint32_t number;
};

struct format_maps {
    struct format_map *list;
    size_t count;
};

/* Opens a bundle of kind "format". lua_bytes_max bounds its Lua memory. OK; INVALID with lines in `why`, *format NULL. */
enum status format_open(struct slice bundle, size_t lua_bytes_max, struct format **format,
                        struct buffer *why) MUST_USE;

/* NULL is nothing. */
void format_close(struct format *format);

const char *format_name(const struct format *format);
double format_version(const struct format *format);

/* What the module of this bundle, packed as a format, means to be: to tell a user which kind of file it is. */
enum bundle_kind format_look(struct slice bundle);

/* What `write` is given, and whom its bytes go to. */
struct format_writing {
    const struct view *view;
    const struct format_maps *maps;
    struct vm_entry entry; /* index, term and time of the view */
    struct vm_limits limits;
    void *context;
    enum status (*append)(void *context, struct slice bytes); /* other than OK ends the writing */
    enum status (*row)(void *context);                        /* a row was taken; other than OK ends the writing */
};

/* Runs write. OK; INVALID with a sentence in `why`: the module failed; else what append or row said. */
enum status format_write(struct format *format, const struct format_writing *writing, struct buffer *why) MUST_USE;

/* What `read` is given, and whom its rows go to. */
struct format_reading {
    const char *written_by; /* inp.format, inp.version: who wrote the bytes */
    double version;
    const struct format_maps *maps;
    struct vm_entry entry;
    struct vm_limits limits;
    void *context;
    /* The next bytes, borrowed until the next call, or *end. Other than OK ends the reading. */
    enum status (*next)(void *context, struct slice *bytes, bool *end);
    /* A row, its key with the map's number. INVALID: it has no place, `why` gets the reason; other than OK ends it too. */
    enum status (*put)(void *context, struct slice key, struct slice value, struct buffer *why);
};

/* Runs read. As format_write: OK; INVALID with `why`; else what next or put said. */
enum status format_read(struct format *format, const struct format_reading *reading, struct buffer *why) MUST_USE;

#endif
