/*
 * PyTorch's files: the zip archive (1.6 and later) and the older stream of five pickles followed by the storages.
 */
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"

/* A storage of the older format: its place in the file. */
struct placed {
    const char *key;
    size_t key_length;
    const uint8_t *data;
    size_t bytes;
};

/* Where storages are found: in an archive below `folder` ("archive/data/"), or in a list. */
struct source {
    const struct nn_zip *zip;
    const char *folder;
    size_t folder_length;
    bool *checked; /* per entry of the archive: its CRC has been compared */
    struct placed *placed;
    size_t count;
};

#define PATH_BYTES 512

static int damaged(const struct nn_pickle_storage *storage, const char *what, struct ws2_error *error)
{
    int length = storage->key_length < 40 ? (int)storage->key_length : 40;
    return ws2_fail(error, WS2_ERR_INPUT, "storage '%.*s' %s", length, storage->key, what);
}

static int check_crc(const struct nn_zip_entry *entry, struct ws2_error *error)
{
    if (entry->crc != 0 && nn_crc32(entry->data, entry->size) != entry->crc)
        return ws2_fail(error, WS2_ERR_INPUT, "checksum of '%.*s' is wrong",
                        entry->name_length < 100 ? (int)entry->name_length : 100, entry->name);
    return 0;
}

static int find_in_zip(const struct source *source, const struct nn_pickle_storage *storage,
                       const uint8_t **data, size_t *bytes, struct ws2_error *error)
{
    char path[PATH_BYTES];
    size_t length = source->folder_length + storage->key_length, want;
    if (length > sizeof(path))
        return damaged(storage, "has a key that is too long", error);
    memcpy(path, source->folder, source->folder_length);
    memcpy(path + source->folder_length, storage->key, storage->key_length);
    const struct nn_zip_entry *entry = nn_zip_find(source->zip, path, length);
    if (!entry)
        return damaged(storage, "is not in the archive", error);
    if (!ws2_mul_size(storage->elements, nn_dtype_size(storage->dtype), &want) || want != entry->size)
        return damaged(storage, "has another size than the pickle says", error);
    bool *checked = &source->checked[entry - source->zip->entry];
    if (!*checked && check_crc(entry, error) < 0)
        return WS2_ERR_INPUT;
    *checked = true;
    *data = entry->data;
    *bytes = entry->size;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    return nn_pickle_compare(x->key, x->key_length, y->key, y->key_length);
}

static int find_placed(const struct source *source, const struct nn_pickle_storage *storage,
                       const uint8_t **data, size_t *bytes, struct ws2_error *error)
{
    struct placed want = {.key = storage->key, .key_length = storage->key_length};
    const struct placed *found = bsearch(&want, source->placed, source->count, sizeof(want), by_key);
    if (!found)
        return damaged(storage, "is not in the file", error);
    *data = found->data;
    *bytes = found->bytes;
    return 0;
}

static int add_tensor(struct nn_weights *weights, const struct source *source,
                      const struct nn_pickle_value *name, const struct nn_pickle_tensor *tensor,
                      struct ws2_error *error)
{
    const struct nn_pickle_storage *storage = tensor->storage;
    const uint8_t *data = NULL;
    size_t bytes = 0, unit = nn_dtype_size(storage->dtype);
    int status = source->zip ? find_in_zip(source, storage, &data, &bytes, error)
                             : find_placed(source, storage, &data, &bytes, error);
    if (status < 0)
        return status;
    /* view and length are inside the storage, whose size has just been compared. */
    return nn_weights_add(weights, name->text, name->length, storage->dtype, &tensor->shape, tensor->stride,
                          tensor->first, data + storage->view * unit, (size_t)storage->length * unit, error);
}

static int add_tensors(struct nn_weights *weights, const struct source *source,
                       const struct nn_pickle_value *dict, struct ws2_error *error)
{
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const struct nn_pickle_value *name = dict->item[i], *value = dict->item[i + 1];
        if (name->type != NN_PICKLE_TEXT)
            return ws2_fail(error, WS2_ERR_INPUT, "a key among the weights is not text");
        int length = name->length < 100 ? (int)name->length : 100;
        if (value->type != NN_PICKLE_TENSOR)
            return ws2_fail(error, WS2_ERR_INPUT, "'%.*s' stands among the weights and is no tensor", length,
                            name->text);
        int status = add_tensor(weights, source, name, value->tensor, error);
        if (status < 0)
            return status;
    }
    return 0;
}

/* ---- zip ---------------------------------------------------------------------------------------------------------- */

static bool ends_with(const struct nn_zip_entry *entry, const char *tail)
{
    size_t length = strlen(tail);
    return entry->name_length >= length &&
           memcmp(entry->name + entry->name_length - length, tail, length) == 0;
}

/* The pickle; also refuses what only looks like a weight file. */
static const struct nn_zip_entry *find_pickle(const struct nn_zip *zip, struct ws2_error *error)
{
    const struct nn_zip_entry *found = NULL;
    for (size_t i = 0; i < zip->count; i++) {
        if (ends_with(&zip->entry[i], "/constants.pkl")) {
            ws2_fail(error, WS2_ERR_INPUT, "a TorchScript program, not weights; save its state_dict instead");
            return NULL;
        }
        if (!ends_with(&zip->entry[i], "/data.pkl"))
            continue;
        if (found) {
            ws2_fail(error, WS2_ERR_INPUT, "the archive holds two data.pkl");
            return NULL;
        }
        found = &zip->entry[i];
    }
    if (!found)
        ws2_fail(error, WS2_ERR_INPUT, "a zip archive, but not of PyTorch (it has no data.pkl)");
    return found;
}

/* Newer files say their byte order; only little-endian ones are read. */
static int check_byte_order(const struct nn_zip *zip, const char *top, size_t length, struct ws2_error *error)
{
    char path[PATH_BYTES];
    static const char tail[] = "byteorder";
    if (length + sizeof(tail) > sizeof(path))
        return ws2_fail(error, WS2_ERR_INPUT, "a name in the archive is too long");
    memcpy(path, top, length);
    memcpy(path + length, tail, sizeof(tail));
    const struct nn_zip_entry *entry = nn_zip_find(zip, path, length + sizeof(tail) - 1);
    if (entry && (entry->size != 6 || memcmp(entry->data, "little", 6) != 0))
        return ws2_fail(error, WS2_ERR_INPUT, "the file is not little-endian");
    return 0;
}

static int read_archive(struct nn_weights *weights, const struct nn_zip *zip, struct nn_pickle *pickle,
                        struct source *source, const char *key, struct ws2_error *error)
{
    const struct nn_zip_entry *program = find_pickle(zip, error);
    if (!program)
        return WS2_ERR_INPUT;
    size_t top = program->name_length - strlen("data.pkl"), used;
    char folder[PATH_BYTES];
    int status = check_byte_order(zip, program->name, top, error);
    if (status == 0)
        status = check_crc(program, error);
    if (status < 0)
        return status;
    memcpy(folder, program->name, top); /* check_byte_order has measured it */
    memcpy(folder + top, "data/", 5);
    source->zip = zip;
    source->folder = folder;
    source->folder_length = top + 5;
    const struct nn_pickle_value *value = nn_pickle_read(pickle, program->data, program->size, &used, error);
    if (value && used != program->size) {
        ws2_fail(error, WS2_ERR_INPUT, "bytes after the end of the pickle");
        value = NULL;
    }
    const struct nn_pickle_value *dict = value ? nn_pickle_weights(value, key, error) : NULL;
    return dict ? add_tensors(weights, source, dict, error) : (error ? error->status : WS2_ERR_INPUT);
}

int nn_read_pytorch_zip(struct nn_weights *weights, const char *key, struct ws2_error *error)
{
    struct nn_zip zip;
    weights->format = "pytorch zip";
    int status = nn_zip_open(&zip, weights->bytes, weights->size, error);
    if (status < 0)
        return status;
    struct source source = {.checked = ws2_calloc(zip.count, sizeof(bool))};
    struct nn_pickle *pickle = nn_pickle_new();
    if (!pickle || !source.checked)
        status = ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    else
        status = read_archive(weights, &zip, pickle, &source, key, error);
    nn_pickle_free(pickle);
    free(source.checked);
    nn_zip_free(&zip);
    return status;
}

/* ---- the older stream ------------------------------------------------------------------------------------------------- */

/* The first 15 bytes of every such file: the pickled number 0x1950a86a20f9469cfc6c. */
static const uint8_t stream_magic[] = {0x80, 2,    0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* What the pickle says of the storage `key`; storages are sorted. */
static const struct nn_pickle_storage *described(const struct nn_pickle_storage *const *list, size_t count,
                                                 const struct nn_pickle_value *key)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = nn_pickle_compare(list[middle]->key, list[middle]->key_length, key->text, key->length);
        if (order == 0)
            return list[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* One key has one type and one size, or the bytes cannot be found. */
static int check_descriptions(const struct nn_pickle_storage *const *list, size_t count,
                              struct ws2_error *error)
{
    for (size_t i = 1; i < count; i++) {
        const struct nn_pickle_storage *a = list[i - 1], *b = list[i];
        if (nn_pickle_compare(a->key, a->key_length, b->key, b->key_length) == 0 &&
            (a->dtype != b->dtype || a->elements != b->elements))
            return damaged(b, "is described in two ways", error);
    }
    return 0;
}

/* Takes the storages from `at` on, in the order of the list of keys: a count of elements, then the elements. */
static int place_storages(const struct nn_weights *weights, size_t at, const struct nn_pickle_value *keys,
                          const struct nn_pickle_storage *const *list, size_t count, struct source *source,
                          struct ws2_error *error)
{
    for (size_t i = 0; i < keys->count; i++) {
        const struct nn_pickle_value *key = keys->item[i];
        const struct nn_pickle_storage *storage =
            key->type == NN_PICKLE_TEXT ? described(list, count, key) : NULL;
        uint64_t elements = 0;
        size_t bytes;
        if (!storage)
            return ws2_fail(error, WS2_ERR_INPUT, "the stream lists a storage that no tensor uses");
        if (weights->size - at < 8)
            return ws2_fail(error, WS2_ERR_TRUNCATED, "the file ends before its last storage");
        for (int k = 7; k >= 0; k--)
            elements = elements << 8 | weights->bytes[at + (size_t)k];
        at += 8;
        if (elements != storage->elements || !ws2_mul_size(elements, nn_dtype_size(storage->dtype), &bytes))
            return damaged(storage, "has another size than the pickle says", error);
        if (bytes > weights->size - at)
            return ws2_fail(error, WS2_ERR_TRUNCATED, "the file ends inside a storage");
        source->placed[source->count++] = (struct placed){key->text, key->length, weights->bytes + at, bytes};
        at += bytes;
    }
    qsort(source->placed, source->count, sizeof(*source->placed), by_key);
    if (at != weights->size)
        return ws2_fail(error, WS2_ERR_INPUT, "bytes after the last storage");
    return 0;
}

static int find_storages(const struct nn_weights *weights, size_t at, const struct nn_pickle *pickle,
                         const struct nn_pickle_value *keys, struct source *source, struct ws2_error *error)
{
    const struct nn_pickle_storage **list = NULL;
    size_t count;
    if (keys->type != NN_PICKLE_LIST)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream has no list of storages");
    source->placed = ws2_calloc(keys->count, sizeof(*source->placed));
    if (!source->placed)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status = nn_pickle_storages(pickle, &list, &count, error);
    if (status == 0)
        status = check_descriptions(list, count, error);
    if (status == 0)
        status = place_storages(weights, at, keys, list, count, source, error);
    free(list);
    return status;
}

static const struct nn_pickle_value *next_pickle(const struct nn_weights *weights, struct nn_pickle *pickle,
                                                 size_t *at, struct ws2_error *error)
{
    size_t used;
    const struct nn_pickle_value *value =
        nn_pickle_read(pickle, weights->bytes + *at, weights->size - *at, &used, error);
    *at += used;
    return value;
}

/* The third pickle: a dictionary that says the byte order. */
static bool is_little_endian(const struct nn_pickle_value *info)
{
    for (size_t i = 0; info->type == NN_PICKLE_DICT && i + 1 < info->count; i += 2)
        if (nn_pickle_is(info->item[i], "little_endian"))
            return info->item[i + 1]->type == NN_PICKLE_BOOL && info->item[i + 1]->integer;
    return false;
}

static int read_stream(struct nn_weights *weights, struct nn_pickle *pickle, struct source *source,
                       const char *key, struct ws2_error *error)
{
    const int64_t version = 1001;
    const struct nn_pickle_value *part[4]; /* version, machine, object, keys */
    size_t at = sizeof(stream_magic);
    if (weights->size < at || memcmp(weights->bytes, stream_magic, at) != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "not a weight file (a pickle, but not of PyTorch)");
    for (int i = 0; i < 4; i++) {
        part[i] = next_pickle(weights, pickle, &at, error);
        if (!part[i])
            return error ? error->status : WS2_ERR_INPUT;
    }
    if (part[0]->type != NN_PICKLE_INT || part[0]->integer != version)
        return ws2_fail(error, WS2_ERR_INPUT, "a stream of another version than %d", (int)version);
    if (!is_little_endian(part[1]))
        return ws2_fail(error, WS2_ERR_INPUT, "the file is not little-endian");
    const struct nn_pickle_value *dict = nn_pickle_weights(part[2], key, error);
    if (!dict)
        return error ? error->status : WS2_ERR_INPUT;
    int status = find_storages(weights, at, pickle, part[3], source, error);
    return status < 0 ? status : add_tensors(weights, source, dict, error);
}

int nn_read_pytorch_stream(struct nn_weights *weights, const char *key, struct ws2_error *error)
{
    weights->format = "pytorch stream";
    struct source source = {0};
    struct nn_pickle *pickle = nn_pickle_new();
    int status = pickle ? read_stream(weights, pickle, &source, key, error)
                        : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    nn_pickle_free(pickle);
    free(source.placed);
    return status;
}
