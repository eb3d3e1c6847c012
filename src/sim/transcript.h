/* sim/transcript.h - what happens in a world, as text: one JSON object a line, to a sink.
 *
 * A line begins with the virtual time, the node's id (none: it concerns no one node) and its kind; its other fields follow
 * in the order in which they are added. spec/README.md lists the kinds. Without a sink nothing is formatted:
 *
 *     if (transcript_begin(transcript, at, node, "crash")) {
 *         transcript_text(transcript, "why", why);
 *         transcript_end(transcript);
 *     }
 *
 * Depends on base/trace.h, wire.
 */
#ifndef SIM_TRANSCRIPT_H
#define SIM_TRANSCRIPT_H

#include "base/trace.h"
#include "wire/message.h"

struct transcript {
    struct trace_sink sink; /* .line NULL: off */
    struct buffer line;
};

/* Begins a line; false: the transcript is off, and there is none. node 0: none. */
bool transcript_begin(struct transcript *transcript, uint64_t at_ms, node_id node, const char *kind);
void transcript_number(struct transcript *transcript, const char *name, uint64_t number);
void transcript_boolean(struct transcript *transcript, const char *name, bool value);
void transcript_text(struct transcript *transcript, const char *name, const char *text);
/* A MessagePack value; what is none becomes null. */
void transcript_packed(struct transcript *transcript, const char *name, struct slice packed);
/* The fields of a message between nodes, with the words of the paper's Figure 2. */
void transcript_message(struct transcript *transcript, const struct message *message);
/* Gives the line to the sink. */
void transcript_end(struct transcript *transcript);

/* Turns it off and frees its memory. */
void transcript_close(struct transcript *transcript);

/* A sink's function: appends the line and a newline to the struct buffer that is its context. */
void transcript_gather(void *buffer, const char *line);

#endif
