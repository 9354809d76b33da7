/*
 * A restricted pickle interpreter: protocol 2 as torch.save writes it. It knows the opcodes that build numbers,
 * texts, tuples, lists and dictionaries, and the few globals that describe tensors; everything else is an error.
 * Nothing is ever imported or called: REDUCE on a known global makes a description, and that is all.
 *
 * Memory: every opcode makes at most one value, so a pickle of n bytes makes at most n; n is limited.
 */
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"

#define PICKLE_MAX (64u << 20) /* bytes; the largest real ones have a few hundred kB */
#define VALUES_MAX (4u << 20)
#define MEMO_MAX (1u << 20)
#define CHUNK 1024

/* The globals that are known. OPAQUE ones may appear beside weights and come to nothing. */
enum global {
    GLOBAL_ORDERED_DICT,
    GLOBAL_TENSOR,       /* (storage, offset, size, stride, ...) */
    GLOBAL_PARAMETER,    /* (tensor, ...) */
    GLOBAL_STORAGE_TYPE, /* + dtype */
    GLOBAL_OPAQUE = GLOBAL_STORAGE_TYPE + NN_DTYPES
};

static const struct {
    const char *module, *name;
    int global;
} globals[] = {
    {"collections", "OrderedDict", GLOBAL_ORDERED_DICT},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR},
    {"torch._utils", "_rebuild_tensor", GLOBAL_TENSOR},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER},
    {"torch", "FloatStorage", GLOBAL_STORAGE_TYPE + NN_F32},
    {"torch", "DoubleStorage", GLOBAL_STORAGE_TYPE + NN_F64},
    {"torch", "HalfStorage", GLOBAL_STORAGE_TYPE + NN_F16},
    {"torch", "BFloat16Storage", GLOBAL_STORAGE_TYPE + NN_BF16},
    {"torch", "ByteStorage", GLOBAL_STORAGE_TYPE + NN_U8},
    {"torch", "CharStorage", GLOBAL_STORAGE_TYPE + NN_I8},
    {"torch", "ShortStorage", GLOBAL_STORAGE_TYPE + NN_I16},
    {"torch", "IntStorage", GLOBAL_STORAGE_TYPE + NN_I32},
    {"torch", "LongStorage", GLOBAL_STORAGE_TYPE + NN_I64},
    {"torch", "BoolStorage", GLOBAL_STORAGE_TYPE + NN_BOOL},
    {"argparse", "Namespace", GLOBAL_OPAQUE},
    {"numpy.core.multiarray", "scalar", GLOBAL_OPAQUE},
    {"numpy._core.multiarray", "scalar", GLOBAL_OPAQUE},
    {"numpy", "dtype", GLOBAL_OPAQUE},
    {"_codecs", "encode", GLOBAL_OPAQUE},
};

/* Values are made in chunks and freed all at once. */
struct chunk {
    struct chunk *next;
    struct nn_pickle_value value[CHUNK];
};

struct nn_pickle {
    struct chunk *chunks; /* newest first */
    size_t values;
};

/* One run over one pickle. */
struct machine {
    struct nn_pickle *pickle;
    const uint8_t *bytes;
    size_t size, at;
    struct nn_pickle_value **stack;
    size_t depth, room;
    size_t *mark; /* depths at which MARK was met */
    size_t marks, mark_room;
    struct nn_pickle_value **memo;
    size_t memos;
    struct ws2_error *error;
};

/* ---- values ------------------------------------------------------------------------------------------------------ */

struct nn_pickle *nn_pickle_new(void)
{
    return calloc(1, sizeof(struct nn_pickle));
}

static void free_chunk(struct chunk *chunk)
{
    for (int i = 0; i < CHUNK; i++) {
        free(chunk->value[i].item);
        free(chunk->value[i].storage);
        free(chunk->value[i].tensor);
    }
    free(chunk);
}

void nn_pickle_free(struct nn_pickle *pickle)
{
    while (pickle && pickle->chunks) {
        struct chunk *next = pickle->chunks->next;
        free_chunk(pickle->chunks);
        pickle->chunks = next;
    }
    free(pickle);
}

static int broken(struct machine *m, const char *what)
{
    return ws2_fail(m->error, WS2_ERR_INPUT, "the pickle is damaged or not of PyTorch: %s", what);
}

static int no_memory(struct machine *m)
{
    return ws2_fail(m->error, WS2_ERR_SYSTEM, "out of memory");
}

static struct nn_pickle_value *new_value(struct machine *m, enum nn_pickle_type type)
{
    struct nn_pickle *pickle = m->pickle;
    size_t place = pickle->values % CHUNK;
    if (pickle->values >= VALUES_MAX) {
        broken(m, "too many values");
        return NULL;
    }
    if (place == 0) {
        struct chunk *chunk = calloc(1, sizeof(*chunk));
        if (!chunk) {
            no_memory(m);
            return NULL;
        }
        chunk->next = pickle->chunks;
        pickle->chunks = chunk;
    }
    pickle->values++;
    pickle->chunks->value[place].type = type;
    return &pickle->chunks->value[place];
}

/* Appends to a tuple, list or dictionary. */
static int append(struct machine *m, struct nn_pickle_value *to, struct nn_pickle_value *x)
{
    if (to->count == to->capacity) {
        size_t capacity = to->capacity ? 2 * to->capacity : 4;
        struct nn_pickle_value **grown = realloc(to->item, capacity * sizeof(*grown));
        if (!grown)
            return no_memory(m);
        to->item = grown;
        to->capacity = capacity;
    }
    to->item[to->count++] = x;
    return 0;
}

bool nn_pickle_is(const struct nn_pickle_value *value, const char *text)
{
    return value->type == NN_PICKLE_TEXT && value->length == strlen(text) &&
           memcmp(value->text, text, value->length) == 0;
}

/* ---- the stack ----------------------------------------------------------------------------------------------------- */

static int push(struct machine *m, struct nn_pickle_value *x)
{
    if (!x)
        return WS2_ERR_INPUT; /* new_value has left the message */
    if (m->depth == m->room) {
        size_t room = m->room ? 2 * m->room : 256;
        struct nn_pickle_value **grown = realloc(m->stack, room * sizeof(*grown));
        if (!grown)
            return no_memory(m);
        m->stack = grown;
        m->room = room;
    }
    m->stack[m->depth++] = x;
    return 0;
}

/* Values above the topmost mark. */
static size_t above_mark(const struct machine *m)
{
    return m->depth - (m->marks > 0 ? m->mark[m->marks - 1] : 0);
}

/* NULL (and an error) when nothing is left above the topmost mark. */
static struct nn_pickle_value *pop(struct machine *m)
{
    if (above_mark(m) == 0) {
        broken(m, "its stack is empty");
        return NULL;
    }
    return m->stack[--m->depth];
}

static struct nn_pickle_value *top(struct machine *m)
{
    if (above_mark(m) == 0) {
        broken(m, "its stack is empty");
        return NULL;
    }
    return m->stack[m->depth - 1];
}

static int push_mark(struct machine *m)
{
    if (m->marks == m->mark_room) {
        size_t room = m->mark_room ? 2 * m->mark_room : 64;
        size_t *grown = realloc(m->mark, room * sizeof(*grown));
        if (!grown)
            return no_memory(m);
        m->mark = grown;
        m->mark_room = room;
    }
    m->mark[m->marks++] = m->depth;
    return 0;
}

/* Depth of the topmost mark, which goes; an error without one. */
static int pop_mark(struct machine *m, size_t *depth)
{
    if (m->marks == 0)
        return broken(m, "a mark is missing");
    *depth = m->mark[--m->marks];
    return 0;
}

/* ---- reading the bytes ------------------------------------------------------------------------------------------------ */

/* The next `count` bytes, or NULL (and an error) when the pickle ends. */
static const uint8_t *take(struct machine *m, size_t count)
{
    if (m->size - m->at < count) {
        ws2_fail(m->error, WS2_ERR_TRUNCATED, "the pickle ends early");
        return NULL;
    }
    m->at += count;
    return m->bytes + m->at - count;
}

/* A little-endian number of 1, 2 or 4 bytes. */
static int take_number(struct machine *m, size_t width, uint32_t *value)
{
    const uint8_t *p = take(m, width);
    *value = 0;
    if (!p)
        return WS2_ERR_TRUNCATED;
    for (size_t i = width; i-- > 0;)
        *value = *value << 8 | p[i];
    return 0;
}

static int push_int(struct machine *m, enum nn_pickle_type type, int64_t number)
{
    struct nn_pickle_value *x = new_value(m, type);
    if (x)
        x->integer = number;
    return push(m, x);
}

static int push_text(struct machine *m, size_t width)
{
    uint32_t length;
    if (take_number(m, width, &length) < 0)
        return WS2_ERR_TRUNCATED;
    const uint8_t *text = take(m, length);
    struct nn_pickle_value *x = text ? new_value(m, NN_PICKLE_TEXT) : NULL;
    if (x) {
        x->text = (const char *)text;
        x->length = length;
    }
    return push(m, x);
}

/* LONG1: a two's complement number; those of more than eight bytes do not occur behind the stream's magic. */
static int push_long(struct machine *m)
{
    uint32_t length;
    if (take_number(m, 1, &length) < 0)
        return WS2_ERR_TRUNCATED;
    const uint8_t *p = take(m, length);
    if (!p)
        return WS2_ERR_TRUNCATED;
    if (length > 8)
        return broken(m, "a number of more than 64 bits");
    uint64_t bits = length > 0 && p[length - 1] & 0x80 ? ~0ull : 0;
    for (size_t i = length; i-- > 0;)
        bits = bits << 8 | p[i];
    return push_int(m, NN_PICKLE_INT, (int64_t)bits);
}

/* A line of the GLOBAL opcode, without its newline. */
static int take_line(struct machine *m, const char **line, size_t *length)
{
    const uint8_t *begin = m->bytes + m->at;
    const uint8_t *end = memchr(begin, '\n', m->size - m->at);
    if (!end)
        return ws2_fail(m->error, WS2_ERR_TRUNCATED, "the pickle ends early");
    *line = (const char *)begin;
    *length = (size_t)(end - begin);
    m->at += *length + 1;
    return 0;
}

static bool equal(const char *text, size_t length, const char *want)
{
    return length == strlen(want) && memcmp(text, want, length) == 0;
}

/* Bytes of a name as they may stand in a message. */
static void printable(char *out, size_t size, const char *text, size_t length)
{
    size_t n = length < size - 1 ? length : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = text[i] > ' ' && text[i] < 127 ? text[i] : '?';
    out[n] = 0;
}

static int push_global(struct machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t module_length = 0, name_length = 0;
    if (take_line(m, &module, &module_length) < 0 || take_line(m, &name, &name_length) < 0)
        return WS2_ERR_TRUNCATED;
    for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++)
        if (equal(module, module_length, globals[i].module) && equal(name, name_length, globals[i].name))
            return push_int(m, NN_PICKLE_GLOBAL, globals[i].global);
    char a[64], b[64];
    printable(a, sizeof(a), module, module_length);
    printable(b, sizeof(b), name, name_length);
    return ws2_fail(m->error, WS2_ERR_INPUT, "the pickle asks for '%s.%s', which no weights need: refused", a,
                    b);
}

/* ---- containers ----------------------------------------------------------------------------------------------------- */

/* A tuple or list of the topmost `count` values. */
static int gather(struct machine *m, size_t count)
{
    if (count > above_mark(m))
        return broken(m, "its stack is empty");
    struct nn_pickle_value *x = new_value(m, NN_PICKLE_TUPLE);
    if (!x)
        return WS2_ERR_INPUT;
    m->depth -= count;
    for (size_t i = 0; i < count; i++)
        if (append(m, x, m->stack[m->depth + i]) < 0)
            return WS2_ERR_SYSTEM;
    return push(m, x);
}

static int gather_to_mark(struct machine *m)
{
    size_t depth = 0, count = above_mark(m);
    return pop_mark(m, &depth) < 0 ? WS2_ERR_INPUT : gather(m, count);
}

/* APPENDS, SETITEMS: what lies above the mark goes into the container below it. */
static int fill_container(struct machine *m, enum nn_pickle_type type, size_t group)
{
    size_t depth = 0;
    if (pop_mark(m, &depth) < 0)
        return WS2_ERR_INPUT;
    size_t end = m->depth;
    m->depth = depth;
    struct nn_pickle_value *to = top(m);
    if (!to || to->type != type || (end - depth) % group != 0)
        return broken(m, "items for something that is no container");
    for (size_t i = depth; i < end; i++)
        if (append(m, to, m->stack[i]) < 0)
            return WS2_ERR_SYSTEM;
    return 0;
}

static int append_one(struct machine *m)
{
    struct nn_pickle_value *x = pop(m), *to = x ? top(m) : NULL;
    if (!to || to->type != NN_PICKLE_LIST)
        return broken(m, "an item for something that is no list");
    return append(m, to, x);
}

static int set_one(struct machine *m)
{
    struct nn_pickle_value *value = pop(m), *key = value ? pop(m) : NULL, *to = key ? top(m) : NULL;
    if (!to || to->type != NN_PICKLE_DICT)
        return broken(m, "an item for something that is no dictionary");
    return append(m, to, key) < 0 ? WS2_ERR_SYSTEM : append(m, to, value);
}

static int memoise(struct machine *m, uint32_t place)
{
    struct nn_pickle_value *x = top(m);
    if (!x)
        return WS2_ERR_INPUT;
    if (place >= MEMO_MAX)
        return broken(m, "its memo is too large");
    if (place >= m->memos) {
        size_t count = place + 1 > 2 * m->memos ? place + 1 : 2 * m->memos;
        struct nn_pickle_value **grown = realloc(m->memo, count * sizeof(*grown));
        if (!grown)
            return no_memory(m);
        memset(grown + m->memos, 0, (count - m->memos) * sizeof(*grown));
        m->memo = grown;
        m->memos = count;
    }
    m->memo[place] = x;
    return 0;
}

static int recall(struct machine *m, uint32_t place)
{
    if (place >= m->memos || !m->memo[place])
        return broken(m, "it recalls what it never kept");
    return push(m, m->memo[place]);
}

/* ---- what REDUCE and BINPERSID describe --------------------------------------------------------------------------------- */

static bool is_count(const struct nn_pickle_value *x)
{
    return x->type == NN_PICKLE_INT && x->integer >= 0;
}

static bool numbers(const struct nn_pickle_value *tuple, int64_t *out, int *rank)
{
    if (tuple->type != NN_PICKLE_TUPLE || tuple->count > WS2_AXES_MAX)
        return false;
    *rank = (int)tuple->count;
    for (int i = 0; i < *rank; i++) {
        if (!is_count(tuple->item[i]))
            return false;
        out[i] = tuple->item[i]->integer;
    }
    return true;
}

/* (storage, offset, size, stride, ...) */
static int push_tensor(struct machine *m, const struct nn_pickle_value *args)
{
    struct nn_pickle_tensor tensor = {0};
    int strides = -1;
    bool good = args->count >= 4 && args->count <= 7 && args->item[0]->type == NN_PICKLE_STORAGE &&
                is_count(args->item[1]) && numbers(args->item[2], tensor.shape.dim, &tensor.shape.rank) &&
                numbers(args->item[3], tensor.stride, &strides) && strides == tensor.shape.rank;
    if (!good)
        return broken(m, "a tensor is not described as storage, offset, size and stride");
    struct nn_pickle_value *x = new_value(m, NN_PICKLE_TENSOR);
    if (!x)
        return WS2_ERR_INPUT;
    x->tensor = malloc(sizeof(*x->tensor));
    if (!x->tensor)
        return no_memory(m);
    tensor.storage = args->item[0]->storage;
    tensor.first = (uint64_t)args->item[1]->integer;
    *x->tensor = tensor;
    return push(m, x);
}

static int reduce(struct machine *m)
{
    struct nn_pickle_value *args = pop(m), *function = args ? pop(m) : NULL;
    if (!function || args->type != NN_PICKLE_TUPLE)
        return broken(m, "REDUCE without arguments");
    if (function->type != NN_PICKLE_GLOBAL)
        return broken(m, "REDUCE of something that is no global");
    switch (function->integer) {
    case GLOBAL_ORDERED_DICT:
        if (args->count != 0)
            return broken(m, "an OrderedDict with arguments");
        return push(m, new_value(m, NN_PICKLE_DICT));
    case GLOBAL_TENSOR:
        return push_tensor(m, args);
    case GLOBAL_PARAMETER:
        if (args->count < 1 || args->item[0]->type != NN_PICKLE_TENSOR)
            return broken(m, "a Parameter without a tensor");
        return push(m, args->item[0]);
    case GLOBAL_OPAQUE:
        return push(m, new_value(m, NN_PICKLE_OPAQUE));
    default:
        return broken(m, "REDUCE of an element type");
    }
}

/* NEWOBJ: only of opaque classes. */
static int new_object(struct machine *m)
{
    struct nn_pickle_value *args = pop(m), *class = args ? pop(m) : NULL;
    if (!class || class->type != NN_PICKLE_GLOBAL || class->integer != GLOBAL_OPAQUE)
        return broken(m, "an object of a class that no weights need");
    return push(m, new_value(m, NN_PICKLE_OPAQUE));
}

/* BUILD: attributes of a dictionary (_metadata) or of something opaque; both are of no interest. */
static int build(struct machine *m)
{
    struct nn_pickle_value *state = pop(m), *object = state ? top(m) : NULL;
    if (!object || (object->type != NN_PICKLE_DICT && object->type != NN_PICKLE_OPAQUE))
        return broken(m, "attributes for something that has none");
    return 0;
}

/* The older format's sixth item: None, or (key, first element, elements) of a view of the storage. */
static bool storage_view(const struct nn_pickle_value *view, struct nn_pickle_storage *storage)
{
    if (view->type == NN_PICKLE_NONE)
        return true;
    if (view->type != NN_PICKLE_TUPLE || view->count != 3 || !is_count(view->item[1]) ||
        !is_count(view->item[2]))
        return false;
    storage->view = (uint64_t)view->item[1]->integer;
    storage->length = (uint64_t)view->item[2]->integer;
    return storage->view <= storage->elements && storage->length <= storage->elements - storage->view;
}

/* ('storage', element type, key, location, elements [, view]) */
static int push_storage(struct machine *m)
{
    struct nn_pickle_value *id = pop(m);
    bool good = id && id->type == NN_PICKLE_TUPLE && (id->count == 5 || id->count == 6) &&
                nn_pickle_is(id->item[0], "storage") && id->item[1]->type == NN_PICKLE_GLOBAL &&
                id->item[1]->integer >= GLOBAL_STORAGE_TYPE && id->item[1]->integer < GLOBAL_OPAQUE &&
                id->item[2]->type == NN_PICKLE_TEXT && is_count(id->item[4]);
    struct nn_pickle_storage storage = {0};
    if (good) {
        storage.key = id->item[2]->text;
        storage.key_length = id->item[2]->length;
        storage.dtype = (enum nn_dtype)(id->item[1]->integer - GLOBAL_STORAGE_TYPE);
        storage.elements = storage.length = (uint64_t)id->item[4]->integer;
        good = id->count == 5 || storage_view(id->item[5], &storage);
    }
    if (!good)
        return broken(m, "a storage is not described as type, key, place and size");
    struct nn_pickle_value *x = new_value(m, NN_PICKLE_STORAGE);
    if (!x)
        return WS2_ERR_INPUT;
    x->storage = malloc(sizeof(*x->storage));
    if (!x->storage)
        return no_memory(m);
    *x->storage = storage;
    return push(m, x);
}

/* ---- the loop --------------------------------------------------------------------------------------------------------------- */

static int protocol(struct machine *m)
{
    uint32_t version;
    if (take_number(m, 1, &version) < 0)
        return WS2_ERR_TRUNCATED;
    return version == 2 ? 0
                        : ws2_fail(m->error, WS2_ERR_INPUT, "pickle protocol %u (only 2 is read)", version);
}

static int numbered(struct machine *m, size_t width, int (*act)(struct machine *, uint32_t))
{
    uint32_t place;
    return take_number(m, width, &place) < 0 ? WS2_ERR_TRUNCATED : act(m, place);
}

static int push_number(struct machine *m, size_t width)
{
    uint32_t value;
    if (take_number(m, width, &value) < 0)
        return WS2_ERR_TRUNCATED;
    return push_int(m, NN_PICKLE_INT, width == 4 ? (int32_t)value : (int64_t)value);
}

static int push_float(struct machine *m)
{
    return take(m, 8) ? push(m, new_value(m, NN_PICKLE_FLOAT)) : WS2_ERR_TRUNCATED;
}

static int execute(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return protocol(m);
    case '(': /* MARK */
        return push_mark(m);
    case 'N': /* NONE */
        return push(m, new_value(m, NN_PICKLE_NONE));
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push_int(m, NN_PICKLE_BOOL, opcode == 0x88);
    case 'K': /* BININT1 */
        return push_number(m, 1);
    case 'M': /* BININT2 */
        return push_number(m, 2);
    case 'J': /* BININT */
        return push_number(m, 4);
    case 0x8a: /* LONG1 */
        return push_long(m);
    case 'G': /* BINFLOAT */
        return push_float(m);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        return push_text(m, 4);
    case 'U': /* SHORT_BINSTRING */
        return push_text(m, 1);
    case ')': /* EMPTY_TUPLE */
        return gather(m, 0);
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        return gather(m, opcode - 0x84u);
    case 't': /* TUPLE */
        return gather_to_mark(m);
    case ']': /* EMPTY_LIST */
        return push(m, new_value(m, NN_PICKLE_LIST));
    case 'a': /* APPEND */
        return append_one(m);
    case 'e': /* APPENDS */
        return fill_container(m, NN_PICKLE_LIST, 1);
    case '}': /* EMPTY_DICT */
        return push(m, new_value(m, NN_PICKLE_DICT));
    case 's': /* SETITEM */
        return set_one(m);
    case 'u': /* SETITEMS */
        return fill_container(m, NN_PICKLE_DICT, 2);
    case 'q': /* BINPUT */
        return numbered(m, 1, memoise);
    case 'r': /* LONG_BINPUT */
        return numbered(m, 4, memoise);
    case 'h': /* BINGET */
        return numbered(m, 1, recall);
    case 'j': /* LONG_BINGET */
        return numbered(m, 4, recall);
    case 'c': /* GLOBAL */
        return push_global(m);
    case 'R': /* REDUCE */
        return reduce(m);
    case 0x81: /* NEWOBJ */
        return new_object(m);
    case 'b': /* BUILD */
        return build(m);
    case 'Q': /* BINPERSID */
        return push_storage(m);
    default:
        return ws2_fail(m->error, WS2_ERR_INPUT,
                        "pickle opcode 0x%02x at byte %zu, which no weights need: refused", opcode,
                        m->at - 1);
    }
}

static const struct nn_pickle_value *run(struct machine *m)
{
    const uint8_t stop = '.';
    for (;;) {
        const uint8_t *opcode = take(m, 1);
        if (!opcode)
            return NULL;
        if (*opcode == stop)
            break;
        if (execute(m, *opcode) < 0)
            return NULL;
    }
    if (m->depth != 1 || m->marks != 0) {
        broken(m, "it does not end with one value");
        return NULL;
    }
    return m->stack[0];
}

const struct nn_pickle_value *nn_pickle_read(struct nn_pickle *pickle, const uint8_t *bytes, size_t size,
                                             size_t *used, struct ws2_error *error)
{
    struct machine m = {
        .pickle = pickle, .bytes = bytes, .size = size < PICKLE_MAX ? size : PICKLE_MAX, .error = error};
    const struct nn_pickle_value *result = run(&m);
    *used = m.at;
    free(m.stack);
    free(m.mark);
    free(m.memo);
    return result;
}

/* ---- the storages ----------------------------------------------------------------------------------------------------------- */

int nn_pickle_compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
    if (a_length != b_length)
        return a_length < b_length ? -1 : 1;
    return memcmp(a, b, a_length);
}

static int by_key(const void *a, const void *b)
{
    const struct nn_pickle_storage *x = *(const struct nn_pickle_storage *const *)a;
    const struct nn_pickle_storage *y = *(const struct nn_pickle_storage *const *)b;
    return nn_pickle_compare(x->key, x->key_length, y->key, y->key_length);
}

int nn_pickle_storages(const struct nn_pickle *pickle, const struct nn_pickle_storage ***list, size_t *count,
                       struct ws2_error *error)
{
    *count = 0;
    *list = ws2_calloc(pickle->values, sizeof(**list));
    if (!*list)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (const struct chunk *chunk = pickle->chunks; chunk; chunk = chunk->next)
        for (int i = 0; i < CHUNK; i++)
            if (chunk->value[i].storage)
                (*list)[(*count)++] = chunk->value[i].storage;
    qsort(*list, *count, sizeof(**list), by_key);
    return 0;
}

/* ---- finding the weights ---------------------------------------------------------------------------------------------------- */

static const struct nn_pickle_value *lookup(const struct nn_pickle_value *dict, const char *key,
                                            size_t length)
{
    for (size_t i = 0; dict->type == NN_PICKLE_DICT && i + 1 < dict->count; i += 2) {
        const struct nn_pickle_value *k = dict->item[i];
        if (k->type == NN_PICKLE_TEXT && k->length == length && memcmp(k->text, key, length) == 0)
            return dict->item[i + 1];
    }
    return NULL;
}

/* The whole key, or its parts between dots one level after the other. */
static const struct nn_pickle_value *descend(const struct nn_pickle_value *dict, const char *key)
{
    const struct nn_pickle_value *found = lookup(dict, key, strlen(key));
    while (!found && dict) {
        size_t part = strcspn(key, ".");
        dict = lookup(dict, key, part);
        if (!key[part])
            return dict;
        key += part + 1;
    }
    return found;
}

static bool has_tensors(const struct nn_pickle_value *dict)
{
    for (size_t i = 1; i < dict->count; i += 2)
        if (dict->item[i]->type == NN_PICKLE_TENSOR)
            return true;
    return false;
}

const struct nn_pickle_value *nn_pickle_weights(const struct nn_pickle_value *top_value, const char *key,
                                                struct ws2_error *error)
{
    static const char *const usual[] = {"model", "state_dict", "model_state_dict"};
    const struct nn_pickle_value *found = NULL;
    if (top_value->type != NN_PICKLE_DICT) {
        ws2_fail(error, WS2_ERR_INPUT, "the file does not hold a dictionary of tensors");
        return NULL;
    }
    if (key) {
        found = descend(top_value, key);
        if (!found || found->type != NN_PICKLE_DICT) {
            ws2_fail(error, WS2_ERR_INPUT, "the file has no dictionary '%.100s'", key);
            return NULL;
        }
        return found;
    }
    if (has_tensors(top_value))
        return top_value;
    for (size_t i = 0; !found && i < sizeof(usual) / sizeof(usual[0]); i++) {
        found = lookup(top_value, usual[i], strlen(usual[i]));
        if (found && (found->type != NN_PICKLE_DICT || !has_tensors(found)))
            found = NULL;
    }
    if (!found)
        ws2_fail(error, WS2_ERR_INPUT,
                 "no tensors at the top, in 'model', 'state_dict' or 'model_state_dict'; "
                 "name their dictionary with a key");
    return found;
}
