/* script/bytecode.c - see script/bytecode.h.
 *
 * A dump, as lj_bcdump.h has it (numbers are ULEB128 but where bytes are named):
 *   1B 4C 4A, version 2 (byte), flags, unless stripped the chunk's name (length, bytes)
 *   functions, those inside before those around them, each with its length in bytes; a length of 0 ends the dump:
 *     flags, parameters, frame size, upvalues (bytes); object constants, number constants, instructions;
 *     unless stripped: size of the debug part and, if that is not 0, first line and number of lines
 *     instructions (4 bytes each: opcode, A, C, B; D is C and B), upvalues (2 bytes each)
 *     object constants, the last one of the instructions' count first: type, content
 *     number constants, debug part: the line of each instruction, the names of upvalues
 */
#include "script/bytecode.h"

#include <string.h>

#include "base/memory.h"

enum {
    STRIPPED = 2,
    KEY_CHILD = 0,
    KEY_TABLE = 1,
    KEY_COMPLEX = 4,
    KEY_TEXT = 5,
    UPVALUE_LOCAL = 0x8000,
    UPVALUE_INDEX = 0x3FFF,
    FUNCTIONS_MAX = 65536,
    FLOW_BYTES_MAX = 16 * 1024 * 1024
};

enum op {
    OP_ISTC = 12,
    OP_ISFC = 13,
    OP_ISTYPE = 16,
    OP_MOV = 18,
    OP_CAT = 38,
    OP_KNIL = 44,
    OP_UGET = 45,
    OP_USETV = 46,
    OP_USETP = 49,
    OP_UCLO = 50,
    OP_GGET = 54,
    OP_GSET = 55,
    OP_TGETV = 56,
    OP_TGETS = 57,
    OP_TGETR = 59,
    OP_TSETV = 60,
    OP_TSETM = 63,
    OP_TSETR = 64,
    OP_CALLM = 65,
    OP_CALL = 66,
    OP_CALLMT = 67,
    OP_CALLT = 68,
    OP_ITERC = 69,
    OP_VARG = 71,
    OP_ISNEXT = 72,
    OP_RETM = 73,
    OP_RET1 = 76,
    OP_FORI = 77,
    OP_JFORL = 81,
    OP_ITERL = 82,
    OP_JITERL = 84,
    OP_LOOP = 85,
    OP_JLOOP = 87,
    OP_JMP = 88
};

struct function {
    const uint8_t *code;     /* 4 bytes an instruction */
    const uint8_t *upvalues; /* 2 bytes each */
    const uint8_t *lines;    /* NULL: none */
    const uint8_t *names;    /* of upvalues, each ended by 0 */
    const uint8_t *end;
    struct slice *texts; /* object constants that are text, by the instructions' count */
    uint32_t texts_count;
    uint32_t code_count;
    uint32_t first_line;
    uint32_t line_bytes;
    uint32_t frame;
    uint32_t upvalues_count;
    uint32_t parent; /* UINT32_MAX: the function that was dumped */
};

struct dump {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
    struct function *functions;
    uint32_t count;
    uint32_t *open; /* functions whose parent has not come yet */
    uint32_t open_count;
    void (*each)(void *context, const struct bytecode_use *use);
    void *context;
};

/* --- reading -------------------------------------------------------------------------------------------------------- */

static uint8_t read_byte(struct dump *dump)
{
    if (dump->at < dump->end)
        return *dump->at++;
    dump->bad = true;
    return 0;
}

static uint32_t read_uleb(struct dump *dump)
{
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        uint8_t byte = read_byte(dump);
        value |= (uint32_t)(byte & 0x7F) << (shift < 32 ? shift : 31);
        if (byte < 0x80)
            return value;
    }
    dump->bad = true;
    return 0;
}

static const uint8_t *read_bytes(struct dump *dump, uint64_t size)
{
    const uint8_t *bytes = dump->at;
    if (dump->bad || size > (uint64_t)(dump->end - dump->at)) {
        dump->bad = true;
        return bytes;
    }
    dump->at += size;
    return bytes;
}

static void skip_table_item(struct dump *dump)
{
    uint32_t type = read_uleb(dump);
    if (type >= KEY_TEXT)
        (void)read_bytes(dump, type - KEY_TEXT);
    else if (type == 3)
        (void)read_uleb(dump);
    else if (type == 4) {
        (void)read_uleb(dump);
        (void)read_uleb(dump);
    }
}

static void read_constant(struct dump *dump, struct function *function, uint32_t place)
{
    uint32_t type = read_uleb(dump);
    if (type >= KEY_TEXT) {
        const uint8_t *bytes = read_bytes(dump, type - KEY_TEXT);
        function->texts[place] = slice_make(bytes, type - KEY_TEXT);
    } else if (type == KEY_CHILD) {
        if (dump->open_count == 0)
            dump->bad = true;
        else
            dump->functions[dump->open[--dump->open_count]].parent = dump->count;
    } else if (type == KEY_TABLE) {
        uint32_t list = read_uleb(dump);
        uint32_t pairs = read_uleb(dump);
        for (uint32_t i = 0; i < list && !dump->bad; i++)
            skip_table_item(dump);
        for (uint32_t i = 0; i < 2 * pairs && !dump->bad; i++)
            skip_table_item(dump);
    } else {
        for (int i = 0; i < (type == KEY_COMPLEX ? 4 : 2); i++)
            (void)read_uleb(dump);
    }
}

static void skip_number(struct dump *dump)
{
    uint8_t low =
        read_byte(dump); /* its lowest bit says whether a second half follows; 33 bits, so up to 5 bytes */
    bool two = (low & 1) != 0;
    while (low >= 0x80 && !dump->bad)
        low = read_byte(dump);
    if (two)
        (void)read_uleb(dump);
}

static void read_debug(struct dump *dump, struct function *function, uint32_t lines)
{
    uint32_t each = lines < 256 ? 1 : lines < 65536 ? 2 : 4;
    function->line_bytes = each;
    function->lines = read_bytes(dump, (uint64_t)function->code_count * each);
    function->names = dump->at;
}

/* Reads one function; its children came before it. */
static void read_function(struct dump *dump, uint32_t size, bool stripped)
{
    struct dump whole = *dump;
    const uint8_t *next = read_bytes(&whole, size);
    if (whole.bad || dump->count == FUNCTIONS_MAX) {
        dump->bad = true;
        return;
    }
    next += size;
    dump->functions = mem_realloc(dump->functions, (dump->count + 1) * sizeof *dump->functions);
    dump->open = mem_realloc(dump->open, (dump->count + 1) * sizeof *dump->open);
    struct function *function = &dump->functions[dump->count];
    *function = (struct function){.parent = UINT32_MAX, .end = next};
    (void)read_byte(dump);
    (void)read_byte(dump);
    function->frame = read_byte(dump);
    function->upvalues_count = read_byte(dump);
    uint32_t objects = read_uleb(dump);
    uint32_t numbers = read_uleb(dump);
    function->code_count = read_uleb(dump);
    uint32_t debug = stripped ? 0 : read_uleb(dump);
    uint32_t lines = 0;
    if (debug > 0) {
        function->first_line = read_uleb(dump);
        lines = read_uleb(dump);
    }
    function->code = read_bytes(dump, (uint64_t)function->code_count * 4);
    function->upvalues = read_bytes(dump, (uint64_t)function->upvalues_count * 2);
    if (!dump->bad && objects <= size) {
        function->texts = mem_zalloc(objects + 1, sizeof *function->texts);
        function->texts_count = objects;
        for (uint32_t i = objects; i > 0 && !dump->bad; i--)
            read_constant(dump, function, i - 1);
        for (uint32_t i = 0; i < numbers && !dump->bad; i++)
            skip_number(dump);
        if (debug > 0)
            read_debug(dump, function, lines);
    } else {
        dump->bad = true;
    }
    dump->open[dump->open_count++] = dump->count++;
    dump->bad = dump->bad || dump->at > next;
    dump->at = next;
}

static void read_all(struct dump *dump)
{
    const uint8_t *head = read_bytes(dump, 4);
    if (dump->bad || memcmp(head, "\x1BLJ\x02", 4) != 0) {
        dump->bad = true;
        return;
    }
    bool stripped = (read_uleb(dump) & STRIPPED) != 0;
    if (!stripped)
        (void)read_bytes(dump, read_uleb(dump));
    for (uint32_t size = read_uleb(dump); size > 0 && !dump->bad; size = read_uleb(dump))
        read_function(dump, size, stripped);
    dump->bad = dump->bad || dump->open_count != 1;
}

/* --- telling -------------------------------------------------------------------------------------------------------- */

static unsigned line_of(const struct function *function, uint32_t at)
{
    if (function->lines == NULL)
        return 0;
    uint32_t more = 0;
    for (uint32_t i = 0; i < function->line_bytes; i++)
        more |= (uint32_t)function->lines[at * function->line_bytes + i] << (8 * i);
    return function->first_line + more;
}

static struct slice upvalue_name(const struct function *function, uint32_t wanted)
{
    const uint8_t *at = function->names;
    for (uint32_t i = 0; at != NULL && at < function->end; i++) {
        const uint8_t *zero = memchr(at, 0, (size_t)(function->end - at));
        if (zero == NULL)
            break;
        if (i == wanted)
            return slice_make(at, (size_t)(zero - at));
        at = zero + 1;
    }
    return slice_text("?");
}

static struct slice text_of(const struct function *function, uint32_t index)
{
    return index < function->texts_count ? function->texts[index] : (struct slice){0};
}

static unsigned d_of(const uint8_t *code)
{
    return (unsigned)code[2] | (unsigned)code[3] << 8;
}

/* Follows an upvalue outwards to the function whose local it is. */
static enum bytecode_owner owner_of(const struct dump *dump, uint32_t at, uint32_t index, unsigned *outside)
{
    for (;;) {
        const struct function *function = &dump->functions[at];
        if (function->parent == UINT32_MAX) {
            *outside = index;
            return BYTECODE_OUTSIDE;
        }
        if (index >= function->upvalues_count)
            return BYTECODE_INNER;
        unsigned upvalue = (unsigned)function->upvalues[2 * index] | (unsigned)function->upvalues[2 * index + 1]
                                                                         << 8;
        at = function->parent;
        if ((upvalue & UPVALUE_LOCAL) != 0)
            return dump->functions[at].parent == UINT32_MAX ? BYTECODE_TOP : BYTECODE_INNER;
        index = upvalue & UPVALUE_INDEX;
    }
}

static void tell_stores_and_globals(struct dump *dump, uint32_t at)
{
    const struct function *function = &dump->functions[at];
    for (uint32_t i = 0; i < function->code_count; i++) {
        const uint8_t *code = function->code + (size_t)i * 4;
        struct bytecode_use use = {.line = line_of(function, i)};
        if (code[0] == OP_GGET || code[0] == OP_GSET) {
            use.kind = code[0] == OP_GGET ? BYTECODE_READ : BYTECODE_WRITE;
            use.name = text_of(function, d_of(code));
            dump->each(dump->context, &use);
            if (code[0] == OP_GGET && i + 1 < function->code_count && code[4] == OP_TGETS && code[7] == code[1]) {
                use.kind = BYTECODE_READ_FIELD;
                use.field = text_of(function, code[6]);
                dump->each(dump->context, &use);
            }
        } else if (code[0] >= OP_USETV && code[0] <= OP_USETP) {
            use.kind = BYTECODE_STORE;
            use.owner = owner_of(dump, at, code[1], &use.upvalue);
            use.name = upvalue_name(function, code[1]);
            dump->each(dump->context, &use);
        }
    }
}

/* --- stores into tables that came through an upvalue -------------------------------------------------------------------- */

/* For each instruction, what each register holds before it: 0 something else, n + 1 what was reached through upvalue n of
 * the dumped function, UNSEEN. On different ways to one place different things make something else. */
enum { UNSEEN = 0xFF };

struct flow {
    struct dump *dump;
    uint32_t function;
    uint8_t *states;
    uint8_t *now;
    uint32_t frame;
    bool changed;
};

static void flow_into(struct flow *flow, int64_t to)
{
    const struct function *function = &flow->dump->functions[flow->function];
    if (to < 0 || to >= (int64_t)function->code_count)
        return;
    uint8_t *state = flow->states + (size_t)to * flow->frame;
    for (uint32_t i = 0; i < flow->frame; i++) {
        uint8_t both = state[i] == UNSEEN || state[i] == flow->now[i] ? flow->now[i] : 0;
        flow->changed = flow->changed || both != state[i];
        state[i] = both;
    }
}

static void forget(struct flow *flow, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i <= to && i < flow->frame; i++)
        flow->now[i] = 0;
}

/* What an instruction leaves in the registers. */
static void flow_registers(struct flow *flow, const uint8_t *code)
{
    uint32_t a = code[1];
    uint32_t b = code[3];
    uint32_t d = d_of(code);
    unsigned outside = 0;
    uint8_t op = code[0];
    if (op == OP_MOV) {
        flow->now[a] = d < flow->frame ? flow->now[d] : 0;
    } else if (op == OP_UGET) {
        bool out = owner_of(flow->dump, flow->function, d, &outside) == BYTECODE_OUTSIDE && outside < UNSEEN - 1;
        flow->now[a] = out ? (uint8_t)(outside + 1) : 0;
    } else if (op >= OP_TGETV && op <= OP_TGETR) {
        flow->now[a] = flow->now[b];
    } else if (op == OP_CAT) {
        forget(flow, b, code[2]);
        forget(flow, a, a);
    } else if (op == OP_KNIL) {
        forget(flow, a, d);
    } else if (op == OP_CALLM || op == OP_CALL || op == OP_VARG) {
        forget(flow, a, flow->frame);
    } else if ((op >= OP_ITERC && op <= OP_ISNEXT) || (op >= OP_ITERL && op <= OP_JITERL)) {
        forget(flow, a > 0 ? a - 1 : 0, flow->frame);
    } else if (op >= OP_FORI && op <= OP_JFORL) {
        forget(flow, a, a + 3);
    } else if (op == OP_ISTC || op == OP_ISFC || (op > OP_ISTYPE + 1 && op < OP_UGET) ||
               (op > OP_UCLO && op <= OP_GGET)) {
        forget(flow, a, a);
    }
}

static void flow_pass(struct flow *flow)
{
    const struct function *function = &flow->dump->functions[flow->function];
    for (uint32_t i = 0; i < function->code_count; i++) {
        const uint8_t *code = function->code + (size_t)i * 4;
        uint8_t op = code[0];
        const uint8_t *state = flow->states + (size_t)i * flow->frame;
        if (flow->frame > 0 && state[0] == UNSEEN)
            continue; /* no way leads here, as far as is known */
        memcpy(flow->now, state, flow->frame);
        flow_registers(flow, code);
        int64_t jump = (int64_t)i + 1 + (int64_t)d_of(code) - 0x8000;
        bool jumps = op == OP_JMP || op == OP_UCLO || op == OP_ISNEXT || (op >= OP_FORI && op <= OP_JITERL);
        bool ends = op == OP_JMP || op == OP_UCLO || op == OP_ISNEXT || op == OP_CALLMT || op == OP_CALLT ||
                    (op >= OP_RETM && op <= OP_RET1);
        if (jumps)
            flow_into(flow, jump);
        if (!ends)
            flow_into(flow, (int64_t)i + 1);
        if (op <= OP_ISTYPE - 1)
            flow_into(flow, (int64_t)i + 2); /* a test skips the jump behind it */
    }
}

static void tell_stores_into_tables(struct dump *dump, uint32_t at)
{
    const struct function *function = &dump->functions[at];
    struct flow flow = {.dump = dump, .function = at, .frame = function->frame + 1};
    uint64_t bytes = (uint64_t)function->code_count * flow.frame;
    bool gets = false;
    bool sets = false;
    for (uint32_t i = 0; i < function->code_count; i++) {
        gets = gets || function->code[(size_t)i * 4] == OP_UGET;
        sets = sets || (function->code[(size_t)i * 4] >= OP_TSETV && function->code[(size_t)i * 4] <= OP_TSETR);
    }
    if (!gets || !sets || bytes > FLOW_BYTES_MAX)
        return;
    flow.states = mem_alloc(bytes);
    flow.now = mem_zalloc(1, 256 + 1); /* any register that an instruction may name */
    memset(flow.states, UNSEEN, bytes);
    memset(flow.states, 0, flow.frame);
    do {
        flow.changed = false;
        flow_pass(&flow);
    } while (flow.changed);
    for (uint32_t i = 0; i < function->code_count; i++) {
        const uint8_t *code = function->code + (size_t)i * 4;
        if (code[0] < OP_TSETV || code[0] > OP_TSETR)
            continue;
        uint32_t table = code[0] == OP_TSETM ? code[1] - 1u : code[3];
        uint8_t held = table < flow.frame ? flow.states[(size_t)i * flow.frame + table] : 0;
        if (held == 0 || held == UNSEEN)
            continue;
        const struct bytecode_use use = {.kind = BYTECODE_STORE_FIELD,
                                         .owner = BYTECODE_OUTSIDE,
                                         .upvalue = held - 1u,
                                         .line = line_of(function, i),
                                         .name = upvalue_name(&dump->functions[dump->count - 1], held - 1u)};
        dump->each(dump->context, &use);
    }
    mem_free(flow.states);
    mem_free(flow.now);
}

enum status bytecode_walk(struct slice bytes, void (*each)(void *context, const struct bytecode_use *use),
                          void *context)
{
    struct dump dump = {.at = bytes.data, .end = bytes.data + bytes.size, .each = each, .context = context};
    read_all(&dump);
    for (uint32_t i = 0; i < dump.count && !dump.bad; i++) {
        tell_stores_and_globals(&dump, i);
        tell_stores_into_tables(&dump, i);
    }
    for (uint32_t i = 0; i < dump.count; i++)
        mem_free(dump.functions[i].texts);
    mem_free(dump.functions);
    mem_free(dump.open);
    return dump.bad ? STATUS_INVALID : STATUS_OK;
}
