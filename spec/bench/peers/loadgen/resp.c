/* spec/bench/peers/loadgen/resp.c - Redis: RESP arrays; answers come in the order of the requests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen.h"

enum { WORDS_MAX = 32 };

static struct slice words[WORDS_MAX]; /* of -a; a word without data is the key (size 0) or the value (size 1) */
static size_t words_count;

static void prepare(void)
{
    char *text = strdup(options.action);
    for (char *word = strtok(text, " "); word != NULL && words_count < WORDS_MAX; word = strtok(NULL, " ")) {
        struct slice *to = &words[words_count++];
        *to = slice_text(word);
        if (strcmp(word, "{k}") == 0)
            *to = slice_make(NULL, 0);
        if (strcmp(word, "{v}") == 0)
            *to = slice_make(NULL, 1);
    }
}

static void head(struct buffer *out, char type, size_t number)
{
    char text[32];
    buffer_append(out, text, (size_t)snprintf(text, sizeof text, "%c%zu\r\n", type, number));
}

static void request(struct connection *connection)
{
    head(&connection->out, '*', words_count);
    for (size_t i = 0; i < words_count; i++) {
        struct slice word = words[i];
        if (word.data == NULL)
            word = word.size == 0 ? request_key : request_value;
        head(&connection->out, '$', word.size);
        buffer_append(&connection->out, word.data, word.size);
        buffer_append(&connection->out, "\r\n", 2);
    }
}

/* The size of the value at the front, 0 if it is not whole. */
static size_t value_size(struct slice in, bool *refused)
{
    const uint8_t *end = in.size > 0 ? memchr(in.data, '\n', in.size) : NULL;
    if (end == NULL)
        return 0;
    size_t size = (size_t)(end - in.data) + 1;
    if (in.data[0] == '-') {
        if (counts.refused < 3)
            fprintf(stderr, "%.*s", (int)size, (const char *)in.data);
        *refused = true;
    }
    long number = strtol((const char *)in.data + 1, NULL, 10);
    if (in.data[0] == '$' && number >= 0)
        size += (size_t)number + 2;
    if (in.data[0] == '*')
        for (; number > 0 && size < in.size; number--) {
            size_t element = value_size(slice_make(in.data + size, in.size - size), refused);
            if (element == 0)
                return 0;
            size += element;
        }
    return size <= in.size && !(in.data[0] == '*' && number > 0) ? size : 0;
}

static size_t answers(struct connection *connection, struct slice in)
{
    size_t used = 0;
    while (used < in.size) {
        bool refused = false;
        size_t size = value_size(slice_make(in.data + used, in.size - used), &refused);
        if (size == 0)
            break;
        used += size;
        connection_answered(connection, connection->oldest_id++, !refused);
    }
    return used;
}

const struct protocol protocol_resp = {
    .name = "resp", .action = "SET {k} {v}", .prepare = prepare, .request = request, .answers = answers};
