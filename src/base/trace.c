/* base/trace.c - see base/trace.h. */
#include "base/trace.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LINE_MAX_BYTES = 2048 };

enum log_level log_level_now = LOG_INFO;

static enum log_format format_now = LOG_TEXT;
static uint64_t node_now;

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

void log_setup(enum log_level level, enum log_format format)
{
    log_level_now = level;
    format_now = format;
}

enum log_level log_set_level(enum log_level level)
{
    enum log_level before = log_level_now;
    log_level_now = level;
    return before;
}

void log_set_node(uint64_t id)
{
    node_now = id;
}

bool log_level_parse(const char *name, enum log_level *level)
{
    for (int i = 0; i <= LOG_TRACE; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* Writes `text` as the inside of a JSON string; `to` has room for `room` bytes. Returns the bytes written. */
static size_t json_escape(char *to, size_t room, const char *text)
{
    size_t size = 0;
    for (; *text != 0 && size + 7 < room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            to[size++] = '\\';
            to[size++] = (char)c;
        } else if (c < 0x20 || c == 0x7F) {
            size += (size_t)snprintf(to + size, room - size, "\\u%04x", c);
        } else {
            to[size++] = (char)c;
        }
    }
    to[size] = 0;
    return size;
}

void log_write(enum log_level level, const char *component, const char *format, ...)
{
    char message[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);

    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    char when[64];
    size_t used = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(when + used, sizeof when - used, ".%03ldZ", now.tv_nsec / 1000000);

    char line[LINE_MAX_BYTES * 2 + 256];
    int size = 0;
    if (format_now == LOG_JSON) {
        char escaped[LINE_MAX_BYTES * 2];
        json_escape(escaped, sizeof escaped, message);
        size = snprintf(line, sizeof line,
                        "{\"ts\":\"%s\",\"level\":\"%s\",\"node\":%llu,\"comp\":\"%s\",\"msg\":\"%s\"}\n", when,
                        level_names[level], (unsigned long long)node_now, component, escaped);
    } else if (node_now != 0) {
        size = snprintf(line, sizeof line, "%s %-5s n%llu %s: %s\n", when, level_names[level],
                        (unsigned long long)node_now, component, message);
    } else {
        size = snprintf(line, sizeof line, "%s %-5s %s: %s\n", when, level_names[level], component, message);
    }
    /* One call, so that lines of several threads do not mix. */
    if (size > 0)
        fwrite(line, 1, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1, stderr);
}

void trace_write(const struct trace_sink *sink, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sink->line(sink->context, text);
}
