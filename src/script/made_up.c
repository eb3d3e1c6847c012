/* script/made_up.c - arguments for calls that nobody wrote: from the types that a command declares, by a seed. Values are few
 * and small, so that calls of several clients meet at the same keys; now and then one is at an edge. See script/trial.h. */
#include <string.h>

#include "base/check.h"
#include "script/args_private.h"
#include "script/trial.h"
#include "script/vm_private.h"
#include "wire/pack.h"

enum { LONG_BYTES = 300, MORE_MAX = 3 };

static void make_text(struct prng *prng, struct buffer *out)
{
    static const char *const usual[] = {"a", "b", "c", "d"};
    static const char *const edge[] = {"", "0", "a b", "\xC3\xA9", "a\x01"};
    char large[LONG_BYTES];
    uint64_t draw = prng_below(prng, 32);
    memset(large, 'x', sizeof large);
    if (draw >= 2)
        pack_text(out, slice_text(usual[draw % 4]));
    else if (draw == 1)
        pack_text(out, slice_text(edge[prng_below(prng, sizeof edge / sizeof *edge)]));
    else
        pack_text(out, slice_make(large, sizeof large));
}

static void make_int(struct prng *prng, struct buffer *out)
{
    static const int64_t edge[] = {-1, -100, 0, 1000000, 9007199254740991};
    if (prng_below(prng, 16) == 0)
        pack_i64(out, edge[prng_below(prng, sizeof edge / sizeof *edge)]);
    else
        pack_u64(out, prng_below(prng, 10));
}

/* Anything but text: to an argument of type json, that would be JSON to parse. */
static void make_json(struct prng *prng, struct buffer *out)
{
    switch (prng_below(prng, 6)) {
    case 0:
        pack_boolean(out, prng_below(prng, 2) == 0);
        return;
    case 1:
        pack_array(out, 2);
        make_int(prng, out);
        make_text(prng, out);
        return;
    case 2:
        pack_map(out, 1);
        pack_text(out, slice_text("n"));
        make_int(prng, out);
        return;
    default:
        make_int(prng, out);
        return;
    }
}

static void make_any(struct prng *prng, struct buffer *out)
{
    if (prng_below(prng, 4) == 0)
        make_text(prng, out);
    else
        make_json(prng, out);
}

static void make_one(const struct arg *arg, struct prng *prng, struct buffer *out)
{
    switch (arg->type) {
    case ARG_TEXT:
        make_text(prng, out);
        return;
    case ARG_INT:
        make_int(prng, out);
        return;
    case ARG_NUMBER:
        pack_number(out, (double)prng_below(prng, 40) / 4 - 1);
        return;
    case ARG_BOOL:
    case ARG_FLAG:
        pack_boolean(out, prng_below(prng, 2) == 0);
        return;
    case ARG_MS:
        pack_u64(out, prng_between(prng, 1, 5000));
        return;
    case ARG_JSON:
        make_json(prng, out);
        return;
    default:
        make_any(prng, out);
        return;
    }
}

static void make_declared(const struct args *args, struct prng *prng, struct buffer *out)
{
    uint64_t more = 0;
    uint32_t count = (uint32_t)args->count;
    if (count > 0 && args->list[count - 1].rest) {
        more = prng_below(prng, MORE_MAX + 1);
        count--;
    }
    pack_array(out, count + (uint32_t)more);
    for (uint32_t i = 0; i < count; i++) {
        if (args->list[i].optional && prng_below(prng, 2) == 0)
            pack_nil(out);
        else
            make_one(&args->list[i], prng, out);
    }
    for (uint64_t i = 0; i < more; i++)
        make_one(&args->list[count], prng, out);
}

void vm_make_up(struct vm *vm, struct slice name, struct prng *prng, struct buffer *out)
{
    const struct vm_function *function = vm_function_find(vm, name);
    CHECK(function != NULL);
    if (function->args != NULL) {
        make_declared(function->args, prng, out);
        return;
    }
    uint64_t count = prng_below(prng, MORE_MAX + 1);
    pack_array(out, (uint32_t)count);
    for (uint64_t i = 0; i < count; i++) {
        if (prng_below(prng, 2) == 0)
            make_text(prng, out);
        else
            make_int(prng, out);
    }
}
