/*
 * Weight files: opening, telling formats apart by content, looking up, reading out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nn/internal.h"

/* ---- collecting (called by the formats) --------------------------------------------------------------------- */

/* Row-major strides of a shape. False when the extents do not multiply. */
static bool pack(const struct ws2_shape *shape, int64_t *stride)
{
    size_t step = 1;
    for (int i = shape->rank; i-- > 0;) {
        stride[i] = (int64_t)step;
        if (!ws2_mul_size(step, (size_t)(shape->dim[i] > 0 ? shape->dim[i] : 1), &step) || step > INT64_MAX)
            return false;
    }
    return true;
}

/* Is every element of the view inside a storage of `elements`? */
static bool view_fits(const struct ws2_shape *shape, const int64_t *stride, uint64_t first, uint64_t elements)
{
    size_t last = first, count;
    if (!ws2_shape_count(shape, &count))
        return false;
    if (count == 0)
        return first <= elements;
    for (int i = 0; i < shape->rank; i++) {
        size_t reach;
        if (stride[i] < 0 || !ws2_mul_size((size_t)(shape->dim[i] - 1), (size_t)stride[i], &reach) ||
            !ws2_add_size(last, reach, &last))
            return false;
    }
    return last < elements;
}

static int make_room(struct nn_weights *weights, struct ws2_error *error)
{
    if (weights->count < weights->capacity)
        return 0;
    int capacity = weights->capacity ? 2 * weights->capacity : 256;
    struct nn_entry *grown = realloc(weights->entry, (size_t)capacity * sizeof(*grown));
    if (!grown)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    weights->entry = grown;
    weights->capacity = capacity;
    return 0;
}

int nn_weights_add(struct nn_weights *weights, const char *name, size_t length, enum nn_dtype dtype,
                   const struct ws2_shape *shape, const int64_t *stride, uint64_t first,
                   const uint8_t *storage, size_t storage_bytes, struct ws2_error *error)
{
    if (length == 0 || length > NN_NAME_MAX || memchr(name, 0, length))
        return ws2_fail(error, WS2_ERR_INPUT,
                        "a tensor name is empty, longer than %d bytes or holds a zero byte", NN_NAME_MAX);
    struct nn_entry entry = {.info = {.dtype = dtype, .shape = *shape},
                             .storage = storage,
                             .storage_bytes = storage_bytes,
                             .first = first};
    size_t count, bytes;
    bool sane = ws2_shape_count(shape, &count) && ws2_mul_size(count, nn_dtype_size(dtype), &bytes);
    if (sane && stride)
        memcpy(entry.stride, stride, (size_t)shape->rank * sizeof(*stride));
    else if (sane)
        sane = pack(shape, entry.stride);
    if (!sane || !view_fits(shape, entry.stride, first, storage_bytes / nn_dtype_size(dtype)))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%.*s' reaches outside its data", (int)length, name);
    int status = make_room(weights, error);
    if (status < 0)
        return status;
    entry.info.name = strndup(name, length);
    if (!entry.info.name)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    weights->entry[weights->count++] = entry;
    return 0;
}

int nn_weights_add_meta(struct nn_weights *weights, const char *key, const char *value,
                        struct ws2_error *error)
{
    char **grown = realloc(weights->meta, 2 * (size_t)(weights->metas + 1) * sizeof(*grown));
    if (!grown)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    weights->meta = grown;
    grown[2 * weights->metas] = strdup(key);
    grown[2 * weights->metas + 1] = strdup(value);
    weights->metas++;
    if (!grown[2 * weights->metas - 2] || !grown[2 * weights->metas - 1])
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return 0;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b, void *context)
{
    const struct nn_entry *entry = context;
    return strcmp(entry[*(const int *)a].info.name, entry[*(const int *)b].info.name);
}

static int sort_names(struct nn_weights *weights, struct ws2_error *error)
{
    weights->sorted = ws2_calloc((size_t)weights->count, sizeof(*weights->sorted));
    if (!weights->sorted)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int i = 0; i < weights->count; i++)
        weights->sorted[i] = i;
    qsort_r(weights->sorted, (size_t)weights->count, sizeof(*weights->sorted), by_name, weights->entry);
    for (int i = 1; i < weights->count; i++) {
        const char *name = weights->entry[weights->sorted[i]].info.name;
        if (strcmp(weights->entry[weights->sorted[i - 1]].info.name, name) == 0)
            return ws2_fail(error, WS2_ERR_INPUT, "two tensors are named '%s'", name);
    }
    return 0;
}

/* The archives of PyTorch 0.1 that torchvision once published, and what took their place. */
static int refuse_tar(const char *name, struct ws2_error *error)
{
    static const char *const old[][2] = {{"resnet18-5c106cde", "resnet18-f37072fd.pth"},
                                         {"resnet34-333f7ec4", "resnet34-b627a593.pth"},
                                         {"resnet50-19c8e357", "resnet50-0676ba61.pth"},
                                         {"resnet101-5d3b4d8f", "resnet101-63fe2227.pth"}};
    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
        if (strstr(name, old[i][0]))
            return ws2_fail(error, WS2_ERR_INPUT, "a tar file of PyTorch 0.1, which is not read; take %s",
                            old[i][1]);
    return ws2_fail(error, WS2_ERR_INPUT, "a tar file of PyTorch 0.1, which is not read; take a newer file");
}

static int read_format(struct nn_weights *weights, const char *name, const char *key, struct ws2_error *error)
{
    static const uint8_t zip[4] = {'P', 'K', 3, 4}, stream[4] = {0x80, 2, 0x8a, 0x0a};
    const uint8_t *bytes = weights->bytes;
    size_t size = weights->size;
    if (size == 0)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the file is empty");
    if (size >= 4 && memcmp(bytes, zip, 4) == 0)
        return nn_read_pytorch_zip(weights, key, error);
    if (size >= 4 && memcmp(bytes, stream, 4) == 0)
        return nn_read_pytorch_stream(weights, key, error);
    if (size >= 262 && memcmp(bytes + 257, "ustar", 5) == 0)
        return refuse_tar(name, error);
    if (size >= 9 && bytes[8] == '{')
        return nn_read_safetensors(weights, error);
    return ws2_fail(error, WS2_ERR_INPUT, "not a weight file (neither safetensors nor PyTorch)");
}

static int finish_open(struct nn_weights **out, struct nn_weights *weights, const char *name, const char *key,
                       struct ws2_error *error)
{
    int status = read_format(weights, name, key, error);
    if (status == 0)
        status = sort_names(weights, error);
    if (status == 0) {
        *out = weights;
        return 0;
    }
    ws2_error_prefix(error, "%s", name);
    nn_weights_close(weights);
    return status;
}

int nn_weights_open_memory(struct nn_weights **out, const uint8_t *bytes, size_t size, const char *name,
                           const char *key, struct ws2_error *error)
{
    *out = NULL;
    struct nn_weights *weights = calloc(1, sizeof(*weights));
    if (!weights)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    weights->bytes = bytes;
    weights->size = size;
    return finish_open(out, weights, name, key, error);
}

/* Maps a regular file read-only. */
static int map_file(struct nn_weights *weights, int file, const char *path, struct ws2_error *error)
{
    struct stat info;
    if (fstat(file, &info) < 0)
        return ws2_fail_errno(error, "%s", path);
    if (!S_ISREG(info.st_mode))
        return ws2_fail(error, WS2_ERR_INPUT, "%s: not a regular file", path);
    weights->size = (size_t)info.st_size;
    if (weights->size == 0)
        return 0;
    void *map = mmap(NULL, weights->size, PROT_READ, MAP_PRIVATE, file, 0);
    if (map == MAP_FAILED)
        return ws2_fail_errno(error, "%s", path);
    weights->bytes = map;
    weights->mapped = true;
    return 0;
}

int nn_weights_open(struct nn_weights **out, const char *path, const char *key, struct ws2_error *error)
{
    *out = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return ws2_fail(error, WS2_ERR_MODEL, "%s: %s", path, strerror(errno));
    struct nn_weights *weights = calloc(1, sizeof(*weights));
    int status =
        weights ? map_file(weights, file, path, error) : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    close(file);
    if (status < 0) {
        nn_weights_close(weights);
        return status;
    }
    return finish_open(out, weights, path, key, error);
}

void nn_weights_close(struct nn_weights *weights)
{
    if (!weights)
        return;
    for (int i = 0; i < weights->count; i++)
        free((char *)weights->entry[i].info.name);
    for (int i = 0; i < 2 * weights->metas; i++)
        free(weights->meta[i]);
    if (weights->mapped)
        munmap((void *)weights->bytes, weights->size);
    free(weights->entry);
    free(weights->sorted);
    free(weights->meta);
    free(weights);
}

/* ---- looking ------------------------------------------------------------------------------------------------------ */

int nn_weights_count(const struct nn_weights *weights)
{
    return weights->count;
}

const struct nn_weight *nn_weights_at(const struct nn_weights *weights, int index)
{
    return index >= 0 && index < weights->count ? &weights->entry[index].info : NULL;
}

int nn_weights_find(const struct nn_weights *weights, const char *name)
{
    int low = 0, high = weights->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(weights->entry[weights->sorted[middle]].info.name, name);
        if (order == 0)
            return weights->sorted[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

const char *nn_weights_meta(const struct nn_weights *weights, const char *key)
{
    for (int i = 0; i < weights->metas; i++)
        if (strcmp(weights->meta[2 * i], key) == 0)
            return weights->meta[2 * i + 1];
    return NULL;
}

const char *nn_weights_format(const struct nn_weights *weights)
{
    return weights->format;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* Copies the view below `axis` that starts at element `at` of the storage; returns where to write next. */
static uint8_t *gather(const struct nn_entry *entry, int axis, uint64_t at, size_t unit, uint8_t *out)
{
    const struct ws2_shape *shape = &entry->info.shape;
    if (axis == shape->rank) {
        memcpy(out, entry->storage + at * unit, unit);
        return out + unit;
    }
    if (axis == shape->rank - 1 && entry->stride[axis] == 1) {
        size_t bytes = (size_t)shape->dim[axis] * unit;
        memcpy(out, entry->storage + at * unit, bytes);
        return out + bytes;
    }
    for (int64_t i = 0; i < shape->dim[axis]; i++)
        out = gather(entry, axis + 1, at + (uint64_t)(i * entry->stride[axis]), unit, out);
    return out;
}

static bool is_packed(const struct nn_entry *entry)
{
    int64_t packed[WS2_AXES_MAX];
    if (!pack(&entry->info.shape, packed))
        return false;
    for (int i = 0; i < entry->info.shape.rank; i++)
        if (entry->info.shape.dim[i] > 1 && entry->stride[i] != packed[i])
            return false;
    return true;
}

static size_t entry_count(const struct nn_entry *entry)
{
    size_t count = 0;
    ws2_shape_count(&entry->info.shape, &count);
    return count;
}

int nn_weights_read(const struct nn_weights *weights, int index, uint8_t *out, size_t bytes,
                    struct ws2_error *error)
{
    if (index < 0 || index >= weights->count)
        return ws2_fail(error, WS2_ERR_USAGE, "no tensor %d", index);
    const struct nn_entry *entry = &weights->entry[index];
    size_t unit = nn_dtype_size(entry->info.dtype), count = entry_count(entry);
    if (count * unit != bytes)
        return ws2_fail(error, WS2_ERR_USAGE, "'%s' has %zu bytes, not %zu", entry->info.name, count * unit,
                        bytes);
    if (count == 0)
        return 0;
    if (is_packed(entry))
        memcpy(out, entry->storage + entry->first * unit, bytes);
    else
        gather(entry, 0, entry->first, unit, out);
    return 0;
}

/* One element of a packed array of any type. */
static double element(const uint8_t *data, enum nn_dtype dtype, size_t i)
{
    union {
        float f32;
        double f64;
        uint16_t u16;
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
    } v;
    memcpy(&v, data + i * nn_dtype_size(dtype), nn_dtype_size(dtype));
    switch (dtype) {
    case NN_F32:
        return v.f32;
    case NN_F64:
        return v.f64;
    case NN_F16:
        return ws2_half_to_float(v.u16);
    case NN_BF16: {
        uint32_t bits = (uint32_t)v.u16 << 16;
        float value;
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    case NN_U8:
        return data[i];
    case NN_BOOL:
        return data[i] != 0;
    case NN_I8:
        return v.i8;
    case NN_I16:
        return v.i16;
    case NN_I32:
        return v.i32;
    case NN_I64:
        return (double)v.i64;
    case NN_DTYPES:
        break;
    }
    return 0;
}

/* A packed copy of tensor index in its own type; free it. NULL on failure. */
static uint8_t *packed_copy(const struct nn_weights *weights, int index, size_t count,
                            struct ws2_error *error)
{
    const struct nn_weight *info = nn_weights_at(weights, index);
    size_t have = 0;
    if (!info || !ws2_shape_count(&info->shape, &have) || have != count) {
        ws2_fail(error, WS2_ERR_USAGE, "tensor %d does not have %zu elements", index, count);
        return NULL;
    }
    uint8_t *copy = ws2_calloc(count, nn_dtype_size(info->dtype));
    if (!copy)
        ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    else
        nn_weights_read(weights, index, copy, count * nn_dtype_size(info->dtype), error);
    return copy;
}

static int status_of(const struct ws2_error *error)
{
    return error && error->status < 0 ? error->status : WS2_ERR_USAGE;
}

int nn_weights_read_f32(const struct nn_weights *weights, int index, float *out, size_t count,
                        struct ws2_error *error)
{
    const struct nn_weight *info = nn_weights_at(weights, index);
    if (info && info->dtype == NN_F32)
        return nn_weights_read(weights, index, (uint8_t *)out, count * sizeof(*out), error);
    uint8_t *copy = packed_copy(weights, index, count, error);
    if (!copy)
        return status_of(error);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)element(copy, info->dtype, i);
    free(copy);
    return 0;
}

int nn_weights_read_f64(const struct nn_weights *weights, int index, double *out, size_t count,
                        struct ws2_error *error)
{
    uint8_t *copy = packed_copy(weights, index, count, error);
    if (!copy)
        return status_of(error);
    for (size_t i = 0; i < count; i++)
        out[i] = element(copy, weights->entry[index].info.dtype, i);
    free(copy);
    return 0;
}

int nn_weights_read_i64(const struct nn_weights *weights, int index, int64_t *out, size_t count,
                        struct ws2_error *error)
{
    uint8_t *copy = packed_copy(weights, index, count, error);
    if (!copy)
        return status_of(error);
    enum nn_dtype dtype = weights->entry[index].info.dtype;
    int status = dtype < NN_U8 ? ws2_fail(error, WS2_ERR_INPUT, "'%s' is %s, not integer",
                                          weights->entry[index].info.name, nn_dtype_name(dtype))
                               : 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        if (dtype == NN_I64)
            memcpy(&out[i], copy + i * sizeof(*out), sizeof(*out));
        else
            out[i] = (int64_t)element(copy, dtype, i);
    }
    free(copy);
    return status;
}

static bool is_counter(const char *name)
{
    static const char tail[] = "num_batches_tracked";
    size_t length = strlen(name), want = sizeof(tail) - 1;
    return length >= want && strcmp(name + length - want, tail) == 0;
}

int nn_weights_digest(const struct nn_weights *weights, char text[NN_DIGEST_SIZE], struct ws2_error *error)
{
    struct nn_digest *digest = nn_digest_new();
    int status = digest ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int k = 0; status == 0 && k < weights->count; k++) {
        int index = weights->sorted[k];
        const struct nn_entry *entry = &weights->entry[index];
        size_t count = entry_count(entry);
        if (is_counter(entry->info.name))
            continue;
        uint8_t *copy = packed_copy(weights, index, count, error);
        if (!copy) {
            status = status_of(error);
            break;
        }
        nn_digest_add(digest, entry->info.name, entry->info.dtype, &entry->info.shape, copy,
                      count * nn_dtype_size(entry->info.dtype));
        free(copy);
    }
    nn_digest_finish(digest, text);
    return status;
}
