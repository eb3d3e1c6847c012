/* script/ctx_event.c - ctx.emit: what clients that watch are told of an entry, once it is applied. Private to script/.
 *
 * Events are no rows: they are kept beside the tree until the entry ends, and go back with it where it is rolled back.
 */
#include <stdio.h>

#include "base/mutant.h"
#include "script/fail.h"
#include "script/shape.h"
#include "script/value.h"
#include "script/vm_private.h"
#include "state/key.h"
#include "wire/pack.h"

enum { CHARGE_EVENT = 100, CHARGE_BYTES = 16, TOPIC_BYTES = 128 };

struct vm_mark vm_savepoint(const struct vm *vm)
{
    return (struct vm_mark){
        .rows = tree_savepoint(vm->tree), .events_bytes = vm->events.size, .events = vm->events_count};
}

void vm_rollback(struct vm *vm, struct vm_mark mark)
{
    tree_rollback(vm->tree, mark.rows);
    if (MUTANT(159))
        return;
    vm->events.size = mark.events_bytes;
    vm->events_count = mark.events;
}

struct slice vm_events(const struct vm *vm)
{
    return buffer_slice(&vm->events);
}

void vm_events_clear(struct vm *vm)
{
    buffer_clear(&vm->events);
    vm->events_count = 0;
}

static void pack_event(lua_State *L, struct vm *vm, struct slice topic, struct slice key)
{
    char text[TOPIC_BYTES];
    int size = snprintf(text, sizeof text, "%s.%.*s", vm->current->name, (int)topic.size, (const char *)topic.data);
    pack_array(&vm->events, 5);
    pack_u64(&vm->events, vm->entry.index);
    pack_u64(&vm->events, vm->events_count + 1);
    pack_text(&vm->events, slice_make(text, (size_t)size));
    pack_text(&vm->events, key);
    size_t start = vm->events.size;
    const char *why = NULL;
    if (lua_isnoneornil(L, 3))
        pack_nil(&vm->events);
    else
        why = value_pack(L, 3, &vm->events);
    if (why != NULL)
        luaL_error(L, "ctx.emit: the data: %s", why);
    budget_charge(L, (vm->events.size - start) / CHARGE_BYTES);
}

/* ctx.emit(topic, key, data) */
int ctx_emit(lua_State *L)
{
    struct vm *vm = ctx_begin(L, "emit");
    struct slice topic = {0};
    struct slice key = {0};
    if (lua_gettop(L) > 3)
        return luaL_error(L, "ctx.emit: takes a topic, a key and data");
    if (lua_type(L, 1) == LUA_TSTRING)
        topic.data = (const uint8_t *)lua_tolstring(L, 1, &topic.size);
    if (!shape_is_word(topic))
        return luaL_error(L, "ctx.emit: the topic is text made of a-z, 0-9 and _, that begins with a letter");
    if (lua_type(L, 2) == LUA_TSTRING)
        key.data = (const uint8_t *)lua_tolstring(L, 2, &key.size);
    else if (!lua_isnoneornil(L, 2))
        return luaL_error(L, "ctx.emit: the key must be text, or nil, got %s", luaL_typename(L, 2));
    if (key.size > KEY_BYTES_MAX)
        return fail(L, "TOO_LARGE", "ctx.emit: a key of %zu bytes", key.size);
    if (vm->events_count - vm->events_before.events >= vm->limits.events)
        return fail(L, "TOO_LARGE", "ctx.emit: more than %.0f events", (double)vm->limits.events);
    budget_charge(L, CHARGE_EVENT);
    struct vm_mark mark = vm_savepoint(vm);
    lua_settop(L, 3);
    pack_event(L, vm, topic, key);
    if (vm->events.size - vm->events_before.events_bytes > vm->limits.event_bytes) {
        vm_rollback(vm, mark);
        return fail(L, "TOO_LARGE", "ctx.emit: events of more than %.0f bytes", (double)vm->limits.event_bytes);
    }
    vm->events_count++;
    return 0;
}
