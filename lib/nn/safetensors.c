/*
 * The safetensors format: eight bytes of header length (little-endian), a JSON header, the data. Checks are those of
 * the reference reader: the ranges of all tensors, sorted, fill the data from 0 to its end without hole or overlap.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nn/internal.h"

#define HEADER_MAX 100000000u

static const struct {
    const char *name;
    enum nn_dtype dtype;
} types[] = {{"F32", NN_F32}, {"F64", NN_F64}, {"F16", NN_F16}, {"BF16", NN_BF16}, {"U8", NN_U8},
             {"I8", NN_I8},   {"I16", NN_I16}, {"I32", NN_I32}, {"I64", NN_I64},   {"BOOL", NN_BOOL}};

static uint64_t little_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* A header entry: where it lies in the data. */
struct range {
    const char *name;
    enum nn_dtype dtype;
    struct ws2_shape shape;
    uint64_t begin, end;
};

static int by_begin(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static bool parse_type(const json_t *json, enum nn_dtype *dtype)
{
    const char *text = json_string_value(json);
    for (size_t i = 0; text && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(text, types[i].name) == 0) {
            *dtype = types[i].dtype;
            return true;
        }
    }
    return false;
}

static bool parse_shape(const json_t *json, struct ws2_shape *shape)
{
    if (!json_is_array(json) || json_array_size(json) > WS2_AXES_MAX)
        return false;
    shape->rank = (int)json_array_size(json);
    for (int i = 0; i < shape->rank; i++) {
        const json_t *extent = json_array_get(json, (size_t)i);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return false;
        shape->dim[i] = json_integer_value(extent);
    }
    return true;
}

static bool parse_offsets(const json_t *json, uint64_t *begin, uint64_t *end)
{
    const json_t *a = json_array_get(json, 0), *b = json_array_get(json, 1);
    if (!json_is_array(json) || json_array_size(json) != 2 || !json_is_integer(a) || !json_is_integer(b))
        return false;
    if (json_integer_value(a) < 0 || json_integer_value(b) < json_integer_value(a))
        return false;
    *begin = (uint64_t)json_integer_value(a);
    *end = (uint64_t)json_integer_value(b);
    return true;
}

static int parse_range(const char *name, const json_t *json, struct range *range, struct ws2_error *error)
{
    range->name = name;
    if (!json_is_object(json) || json_object_size(json) != 3)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%.100s': not dtype, shape and data_offsets", name);
    if (!parse_type(json_object_get(json, "dtype"), &range->dtype))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%.100s': dtype %.20s is not known here", name,
                        json_is_string(json_object_get(json, "dtype"))
                            ? json_string_value(json_object_get(json, "dtype"))
                            : "?");
    if (!parse_shape(json_object_get(json, "shape"), &range->shape))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%.100s': bad shape", name);
    size_t count, bytes;
    if (!parse_offsets(json_object_get(json, "data_offsets"), &range->begin, &range->end) ||
        !ws2_shape_count(&range->shape, &count) ||
        !ws2_mul_size(count, nn_dtype_size(range->dtype), &bytes) || bytes != range->end - range->begin)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%.100s': shape and data_offsets disagree", name);
    return 0;
}

static int parse_metadata(struct nn_weights *weights, json_t *json, struct ws2_error *error)
{
    const char *key;
    json_t *value;
    int status = json_is_object(json) ? 0 : WS2_ERR_INPUT;
    json_object_foreach(json, key, value)
    {
        if (status == 0)
            status = json_is_string(value)
                         ? nn_weights_add_meta(weights, key, json_string_value(value), error)
                         : WS2_ERR_INPUT;
    }
    return status < 0 ? ws2_fail(error, status, "__metadata__ is not a table of strings") : 0;
}

/* Do the sorted ranges fill the data exactly? */
static int check_cover(const struct range *range, size_t count, size_t data, struct ws2_error *error)
{
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (range[i].begin != end)
            return ws2_fail(error, WS2_ERR_INPUT, "a hole or an overlap in the data before tensor '%.100s'",
                            range[i].name);
        end = range[i].end;
    }
    if (end > data)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the data ends after %zu of %llu bytes", data,
                        (unsigned long long)end);
    if (end < data)
        return ws2_fail(error, WS2_ERR_INPUT, "%llu bytes after the last tensor",
                        (unsigned long long)(data - end));
    return 0;
}

static int parse_header(struct nn_weights *weights, json_t *header, const uint8_t *data, size_t data_size,
                        struct ws2_error *error)
{
    struct range *range = ws2_calloc(json_object_size(header), sizeof(*range));
    size_t count = 0;
    const char *name;
    json_t *value;
    int status = range ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    json_object_foreach(header, name, value)
    {
        if (status == 0 && strcmp(name, "__metadata__") == 0)
            status = parse_metadata(weights, value, error);
        else if (status == 0)
            status = parse_range(name, value, &range[count++], error);
    }
    if (status == 0) {
        qsort(range, count, sizeof(*range), by_begin);
        status = check_cover(range, count, data_size, error);
    }
    for (size_t i = 0; status == 0 && i < count; i++)
        status =
            nn_weights_add(weights, range[i].name, strlen(range[i].name), range[i].dtype, &range[i].shape,
                           NULL, 0, data + range[i].begin, (size_t)(range[i].end - range[i].begin), error);
    free(range);
    return status;
}

int nn_read_safetensors(struct nn_weights *weights, struct ws2_error *error)
{
    weights->format = "safetensors";
    uint64_t length = little_u64(weights->bytes);
    if (length > HEADER_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "not a weight file (a header of %llu bytes)",
                        (unsigned long long)length);
    if (length > weights->size - 8)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the file ends inside its header");
    json_error_t where;
    json_t *header =
        json_loadb((const char *)weights->bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(header)) {
        json_decref(header);
        return ws2_fail(error, WS2_ERR_INPUT, "the header is not JSON: %.120s", where.text);
    }
    int status =
        parse_header(weights, header, weights->bytes + 8 + length, weights->size - 8 - (size_t)length, error);
    json_decref(header);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

struct piece {
    char *name;
    enum nn_dtype dtype;
    struct ws2_shape shape;
    uint8_t *data;
    size_t bytes;
};

struct nn_saver {
    char *path;
    json_t *meta;
    struct piece *piece;
    size_t count, capacity;
    int status; /* of the first call that failed */
};

struct nn_saver *nn_saver_new(const char *path)
{
    struct nn_saver *saver = calloc(1, sizeof(*saver));
    if (!saver)
        return NULL;
    saver->path = strdup(path);
    saver->meta = json_object();
    if (saver->path && saver->meta)
        return saver;
    nn_saver_free(saver);
    return NULL;
}

void nn_saver_free(struct nn_saver *saver)
{
    if (!saver)
        return;
    for (size_t i = 0; i < saver->count; i++) {
        free(saver->piece[i].name);
        free(saver->piece[i].data);
    }
    json_decref(saver->meta);
    free(saver->piece);
    free(saver->path);
    free(saver);
}

int nn_saver_meta(struct nn_saver *saver, const char *key, const char *value)
{
    if (saver->status == 0 && json_object_set_new(saver->meta, key, json_string(value)) < 0)
        saver->status = WS2_ERR_USAGE; /* not UTF-8 */
    return saver->status;
}

static int grow(struct nn_saver *saver)
{
    if (saver->count < saver->capacity)
        return 0;
    size_t capacity = saver->capacity ? 2 * saver->capacity : 256;
    struct piece *grown = realloc(saver->piece, capacity * sizeof(*grown));
    if (!grown)
        return WS2_ERR_SYSTEM;
    saver->piece = grown;
    saver->capacity = capacity;
    return 0;
}

int nn_saver_add(struct nn_saver *saver, const char *name, enum nn_dtype dtype, struct ws2_shape shape,
                 const uint8_t *data, size_t bytes)
{
    size_t count, want;
    if (saver->status < 0)
        return saver->status;
    bool sane = ws2_shape_count(&shape, &count) && ws2_mul_size(count, nn_dtype_size(dtype), &want) &&
                want == bytes && nn_dtype_size(dtype) > 0 && *name && strlen(name) <= NN_NAME_MAX &&
                strcmp(name, "__metadata__") != 0;
    if (!sane)
        return saver->status = WS2_ERR_USAGE;
    if (grow(saver) < 0)
        return saver->status = WS2_ERR_SYSTEM;
    struct piece piece = {strdup(name), dtype, shape, ws2_calloc(bytes, 1), bytes};
    if (!piece.name || !piece.data) {
        free(piece.name);
        free(piece.data);
        return saver->status = WS2_ERR_SYSTEM;
    }
    if (bytes > 0)
        memcpy(piece.data, data, bytes);
    saver->piece[saver->count++] = piece;
    return 0;
}

/* The order of the reference writer: large alignment first, then by name. */
static int by_alignment(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    size_t wx = nn_dtype_size(x->dtype), wy = nn_dtype_size(y->dtype);
    return wx != wy ? (wx > wy ? -1 : 1) : strcmp(x->name, y->name);
}

static const char *type_name(enum nn_dtype dtype)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (types[i].dtype == dtype)
            return types[i].name;
    return NULL;
}

static json_t *piece_json(const struct piece *piece, json_int_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < piece->shape.rank; i++)
        json_array_append_new(shape, json_integer(piece->shape.dim[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", type_name(piece->dtype), "shape", shape, "data_offsets",
                     begin, begin + (json_int_t)piece->bytes);
}

/* The header as text padded with spaces to a multiple of eight bytes; NULL on failure. */
static char *header_text(const struct nn_saver *saver, size_t *length)
{
    json_t *header = json_object();
    json_int_t begin = 0;
    bool good = header != NULL;
    if (good && json_object_size(saver->meta) > 0)
        good = json_object_set(header, "__metadata__", saver->meta) == 0;
    for (size_t i = 0; good && i < saver->count; i++) {
        const struct piece *piece = &saver->piece[i];
        good = !json_object_get(header, piece->name) &&
               json_object_set_new(header, piece->name, piece_json(piece, begin)) == 0;
        begin += (json_int_t)piece->bytes;
    }
    char *text = good ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (!text)
        return NULL;
    size_t used = strlen(text), padded = (used + 7) / 8 * 8;
    char *grown = realloc(text, padded + 1);
    if (!grown) {
        free(text);
        return NULL;
    }
    memset(grown + used, ' ', padded - used);
    *length = padded;
    return grown;
}

static bool write_all(FILE *file, const struct nn_saver *saver, const char *header, size_t length)
{
    uint8_t size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)((uint64_t)length >> 8 * i);
    bool good = fwrite(size, 1, 8, file) == 8 && fwrite(header, 1, length, file) == length;
    for (size_t i = 0; good && i < saver->count; i++)
        good = fwrite(saver->piece[i].data, 1, saver->piece[i].bytes, file) == saver->piece[i].bytes;
    return good && fflush(file) == 0 && fsync(fileno(file)) == 0;
}

static int write_file(const struct nn_saver *saver, const char *header, size_t length,
                      struct ws2_error *error)
{
    size_t room = strlen(saver->path) + 5;
    struct stat info;
    if (stat(saver->path, &info) == 0 && !S_ISREG(info.st_mode)) /* a device would be replaced */
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: not a regular file", saver->path);
    char *temporary = malloc(room);
    if (!temporary)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    snprintf(temporary, room, "%s.tmp", saver->path);
    FILE *file = fopen(temporary, "wbe");
    int status = file ? 0 : ws2_fail_errno(error, "%s: cannot create", saver->path);
    if (file) {
        bool good = write_all(file, saver, header, length);
        int reason = errno;
        if (fclose(file) != 0 && good) {
            good = false;
            reason = errno;
        }
        if (good && rename(temporary, saver->path) != 0) {
            good = false;
            reason = errno;
        }
        if (!good) {
            unlink(temporary);
            status = ws2_fail(error, WS2_ERR_SYSTEM, "%s: %s", saver->path, strerror(reason));
        }
    }
    free(temporary);
    return status;
}

int nn_saver_finish(struct nn_saver *saver, struct ws2_error *error)
{
    if (saver->status < 0)
        return ws2_fail(error, saver->status, "%s: %s", saver->path,
                        saver->status == WS2_ERR_SYSTEM ? "out of memory"
                                                        : "a tensor or text that cannot be saved");
    qsort(saver->piece, saver->count, sizeof(*saver->piece), by_alignment);
    size_t length = 0;
    char *header = header_text(saver, &length);
    if (!header)
        return ws2_fail(error, WS2_ERR_USAGE, "%s: a name is used twice or is not UTF-8", saver->path);
    int status = write_file(saver, header, length, error);
    free(header);
    return status;
}
