/* base/trace.h - two kinds of talk.
 *
 * LOG is for operators: levels error warn info debug trace, to stderr, as text or JSON lines. Levels above the build's
 * LOG_LEVEL_MAX do not exist in the binary; the run-time level is looked at before anything is formatted.
 * TRACE is the protocol's narrative, part of the tested behaviour: the core writes lines only to the sink it was given;
 * no sink, no formatting. Both are safe from several threads (a line is written whole).
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* LOG_NONE is of the run-time level only: nothing is written. */
enum log_level { LOG_NONE = -1, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_format { LOG_TEXT, LOG_JSON };

#ifndef LOG_LEVEL_MAX
#define LOG_LEVEL_MAX 4 /* the highest level that is compiled in */
#endif

/* A sink for narrative lines; `line` gets zero-terminated text without a newline, valid during the call. */
struct trace_sink {
    void (*line)(void *context, const char *text);
    void *context;
};

/* The run-time level; read it through LOG only. */
extern enum log_level log_level_now;

/* Sets the run-time level and the form of lines. */
void log_setup(enum log_level level, enum log_format format);

/* Sets the run-time level alone. Returns the one before. */
enum log_level log_set_level(enum log_level level);

/* Names this node in every line from now on; 0: no name. */
void log_set_node(uint64_t id);

/* Finds a level by its name; false if there is none. */
bool log_level_parse(const char *name, enum log_level *level);

/* Writes one line. `component` is a short word: "raft", "net". Use LOG. */
__attribute__((format(printf, 3, 4))) void log_write(enum log_level level, const char *component,
                                                     const char *format, ...);

/* Writes one narrative line to the sink. Use TRACE. */
__attribute__((format(printf, 2, 3))) void trace_write(const struct trace_sink *sink, const char *format, ...);

#define LOG(level, component, ...)                                                                                 \
    do {                                                                                                           \
        if ((int)(level) <= LOG_LEVEL_MAX && (level) <= log_level_now)                                             \
            log_write((level), (component), __VA_ARGS__);                                                          \
    } while (0)

#define TRACE(sink, ...)                                                                                           \
    do {                                                                                                           \
        if ((sink)->line != NULL)                                                                                  \
            trace_write((sink), __VA_ARGS__);                                                                      \
    } while (0)

#endif
