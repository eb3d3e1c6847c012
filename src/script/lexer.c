/* script/lexer.c - see script/lexer.h. */
#include "script/lexer.h"

#include <stdio.h>
#include <string.h>

enum { NESTING_MAX = 150, SOURCE_MAX = 1024 * 1024 };

enum token { TOKEN_END, TOKEN_NAME, TOKEN_NUMBER, TOKEN_TEXT, TOKEN_OTHER };

struct lexer {
    const char *name;
    const uint8_t *at;
    const uint8_t *end;
    unsigned line;
    struct buffer *why;
    bool refused;
    bool script;       /* not replicated: names are free */
    struct slice text; /* of the last token */
};

static const struct {
    const char *word;
    const char *advice;
} refused_globals[] = {
    {"io", "it reaches outside; give data as arguments"},
    {"ffi", "it reaches outside the sandbox"},
    {"jit", "replicated code runs in the interpreter"},
    {"debug", "it reaches outside the sandbox"},
    {"package", "use require with a literal name"},
    {"module", "return a table"},
    {"coroutine", "a coroutine cannot be kept between entries; write a loop"},
    {"collectgarbage", "when the collector runs differs from node to node"},
    {"newproxy", "use a table"},
    {"getfenv", "environments are fixed"},
    {"setfenv", "environments are fixed"},
    {"load", "code is loaded with the module"},
    {"loadstring", "code is loaded with the module"},
    {"loadfile", "code is loaded with the module"},
    {"dofile", "use require with a literal name"},
    {"print", "use ctx.log"},
};

static const char *const refused_math[] = {"sin",  "cos",  "tan", "asin", "acos",  "atan", "atan2",     "sinh",
                                           "cosh", "tanh", "exp", "log",  "log10", "pow",  "randomseed"};

static void refuse(struct lexer *lexer, const char *what, const char *advice)
{
    char line[400];
    int size = snprintf(line, sizeof line, "%s%s:%u: %s; %s", lexer->why->size > 0 ? "\n" : "", lexer->name,
                        lexer->line, what, advice);
    buffer_append(lexer->why, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    lexer->refused = true;
}

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

/* Length of the level of a long bracket at `at` ("[==[" is 2), or -1. */
static int long_bracket(const struct lexer *lexer, const uint8_t *at)
{
    int level = 0;
    if (at >= lexer->end || *at != '[')
        return -1;
    for (at++; at < lexer->end && *at == '='; at++)
        level++;
    return at < lexer->end && *at == '[' ? level : -1;
}

static void skip_long(struct lexer *lexer, int level)
{
    lexer->at += level + 2;
    for (; lexer->at < lexer->end; lexer->at++) {
        if (*lexer->at == '\n')
            lexer->line++;
        if (*lexer->at != ']')
            continue;
        const uint8_t *close = lexer->at + 1;
        int equals = 0;
        for (; close < lexer->end && *close == '='; close++)
            equals++;
        if (equals == level && close < lexer->end && *close == ']') {
            lexer->at = close + 1;
            return;
        }
    }
}

static void skip_blank(struct lexer *lexer)
{
    while (lexer->at < lexer->end) {
        uint8_t c = *lexer->at;
        if (c == '\n')
            lexer->line++;
        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            lexer->at++;
        } else if (c == '-' && lexer->at + 1 < lexer->end && lexer->at[1] == '-') {
            lexer->at += 2;
            int level = long_bracket(lexer, lexer->at);
            if (level >= 0)
                skip_long(lexer, level);
            else
                while (lexer->at < lexer->end && *lexer->at != '\n')
                    lexer->at++;
        } else {
            return;
        }
    }
}

static void read_quoted(struct lexer *lexer)
{
    uint8_t quote = *lexer->at++;
    const uint8_t *from = lexer->at;
    while (lexer->at < lexer->end && *lexer->at != quote && *lexer->at != '\n') {
        if (*lexer->at == '\\' && lexer->at + 1 < lexer->end && *++lexer->at == '\n')
            lexer->line++;
        lexer->at++;
    }
    lexer->text = slice_make(from, (size_t)(lexer->at - from));
    if (lexer->at < lexer->end)
        lexer->at++;
}

static void read_number(struct lexer *lexer)
{
    const uint8_t *from = lexer->at;
    while (lexer->at < lexer->end &&
           (is_name_byte(*lexer->at) || *lexer->at == '.' ||
            ((*lexer->at == '+' || *lexer->at == '-') && strchr("eEpP", lexer->at[-1]) != NULL &&
             !(lexer->at - from > 1 && (from[1] == 'x' || from[1] == 'X') && strchr("eE", lexer->at[-1]) != NULL))))
        lexer->at++;
    uint8_t last = lexer->at[-1];
    if (last == 'L' || last == 'l' || last == 'i' || last == 'I')
        refuse(lexer, "64-bit and complex literals are not numbers of Lua", "write a plain number, or text");
}

static enum token next_token(struct lexer *lexer)
{
    skip_blank(lexer);
    if (lexer->at >= lexer->end)
        return TOKEN_END;
    uint8_t c = *lexer->at;
    const uint8_t *from = lexer->at;
    if ((c >= '0' && c <= '9') ||
        (c == '.' && lexer->at + 1 < lexer->end && lexer->at[1] >= '0' && lexer->at[1] <= '9')) {
        read_number(lexer);
        return TOKEN_NUMBER;
    }
    if (is_name_byte(c)) {
        while (lexer->at < lexer->end && is_name_byte(*lexer->at))
            lexer->at++;
        lexer->text = slice_make(from, (size_t)(lexer->at - from));
        return TOKEN_NAME;
    }
    if (c == '"' || c == '\'') {
        read_quoted(lexer);
        return TOKEN_TEXT;
    }
    int level = long_bracket(lexer, lexer->at);
    if (level >= 0) {
        skip_long(lexer, level);
        lexer->text = slice_make(from, 0);
        return TOKEN_TEXT;
    }
    size_t size = c == '.' && lexer->end - lexer->at > 1 && lexer->at[1] == '.' ? 2 : 1;
    lexer->text = slice_make(from, size);
    lexer->at += size;
    return TOKEN_OTHER;
}

static bool is(const struct lexer *lexer, const char *word)
{
    return slice_equal(lexer->text, slice_text(word));
}

static bool next_is_key(const struct lexer *lexer)
{
    /* `name =` inside a table constructor or an assignment to a field named so is no use of the global */
    const uint8_t *at = lexer->at;
    while (at < lexer->end && (*at == ' ' || *at == '\t'))
        at++;
    return at + 1 < lexer->end && *at == '=' && at[1] != '=';
}

/* os and math are there in part. */
static void check_library(struct lexer *lexer, bool os)
{
    struct slice library = lexer->text;
    struct lexer look = *lexer;
    if (next_token(&look) != TOKEN_OTHER || !is(&look, ".") || next_token(&look) != TOKEN_NAME) {
        if (os)
            refuse(lexer, "os is not there but for os.time()", "use ctx.now for the time");
        return;
    }
    char what[96];
    snprintf(what, sizeof what, "%.*s.%.*s is not there", (int)library.size, (const char *)library.data,
             (int)(look.text.size < 40 ? look.text.size : 40), (const char *)look.text.data);
    if (os) {
        if (!is(&look, "time"))
            refuse(lexer, what,
                   "replicated code gives the same result everywhere, so it cannot reach the machine it "
                   "runs on; os.time() and ctx.now give the time");
        return;
    }
    for (size_t i = 0; i < sizeof refused_math / sizeof refused_math[0]; i++)
        if (is(&look, refused_math[i]))
            refuse(lexer, what, "its result differs from machine to machine; use x*x, math.sqrt or math.ipow");
}

static void check_name(struct lexer *lexer)
{
    if (is(lexer, "os") || is(lexer, "math")) {
        check_library(lexer, is(lexer, "os"));
        return;
    }
    for (size_t i = 0; i < sizeof refused_globals / sizeof refused_globals[0]; i++) {
        if (!is(lexer, refused_globals[i].word) || next_is_key(lexer))
            continue;
        char what[64];
        snprintf(what, sizeof what, "%s is not there", refused_globals[i].word);
        refuse(lexer, what, refused_globals[i].advice);
    }
}

static void check_require(struct lexer *lexer, void (*required)(void *context, struct slice module, unsigned line),
                          void *context)
{
    struct lexer look = *lexer;
    enum token token = next_token(&look);
    if (token == TOKEN_OTHER && is(&look, "("))
        token = next_token(&look);
    if (token != TOKEN_TEXT || look.text.size == 0)
        refuse(lexer, "require wants a literal name", "write require 'name'");
    else if (required != NULL)
        required(context, look.text, lexer->line);
}

static bool acceptable(struct lexer *lexer, struct slice source)
{
    if (source.size > SOURCE_MAX)
        refuse(lexer, "a source is larger than 1 MiB", "split it, and require the parts");
    else if (source.size > 0 && source.data[0] == 0x1B)
        refuse(lexer, "bytecode is not accepted", "give the source text");
    else if (source.size > 0 && memchr(source.data, 0, source.size) != NULL)
        refuse(lexer, "a zero byte in the source", "write \\0 in a string");
    return !lexer->refused;
}

static enum status walk(struct lexer *lexer, struct slice source,
                        void (*required)(void *context, struct slice module, unsigned line), void *context)
{
    if (!acceptable(lexer, source))
        return STATUS_INVALID;
    if (source.size > 0 && source.data[0] == '#')
        while (lexer->at < lexer->end && *lexer->at != '\n')
            lexer->at++;
    bool field = false;
    int nesting = 0;
    for (enum token token = next_token(lexer); token != TOKEN_END; token = next_token(lexer)) {
        bool after_dot = field;
        field = false;
        if ((token == TOKEN_NAME || token == TOKEN_TEXT) && (is(lexer, "__mode") || is(lexer, "__gc")))
            refuse(lexer, "__mode and __gc are not there", "when the collector runs differs from node to node");
        if (token == TOKEN_NAME && !after_dot) {
            if (lexer->script)
                ;
            else if (is(lexer, "require"))
                check_require(lexer, required, context);
            else
                check_name(lexer);
            if (is(lexer, "function") || is(lexer, "do") || is(lexer, "then") || is(lexer, "repeat"))
                nesting++;
            else if (is(lexer, "end") || is(lexer, "until") || is(lexer, "elseif"))
                nesting--;
        } else if (token == TOKEN_OTHER) {
            uint8_t c = lexer->text.data[0];
            field = lexer->text.size == 1 && (c == '.' || c == ':');
            nesting += c == '(' || c == '{' || c == '[' ? 1 : c == ')' || c == '}' || c == ']' ? -1 : 0;
            if (c == '^')
                refuse(lexer, "^ differs from machine to machine", "use x*x, math.sqrt or math.ipow");
        }
        if (nesting > NESTING_MAX) {
            refuse(lexer, "nested deeper than 150", "split it into functions");
            break;
        }
    }
    return lexer->refused ? STATUS_INVALID : STATUS_OK;
}

static struct lexer begin(struct slice source, const char *name, struct buffer *why)
{
    return (struct lexer){.name = name, .at = source.data, .end = source.data + source.size, .line = 1, .why = why};
}

enum status lexer_check(struct slice source, const char *name, struct buffer *why,
                        void (*required)(void *context, struct slice module, unsigned line), void *context)
{
    struct lexer lexer = begin(source, name, why);
    return walk(&lexer, source, required, context);
}

enum status lexer_check_script(struct slice source, const char *name, struct buffer *why)
{
    struct lexer lexer = begin(source, name, why);
    lexer.script = true;
    return walk(&lexer, source, NULL, NULL);
}
