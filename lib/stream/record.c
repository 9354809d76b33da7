/*
 * RECORD: the tensors of one frame, each as raw bytes, as a compressed frame, or as both. Buffers stay with the
 * record when it is cleared and go to the tensor of the same name next time, so a loop over records allocates
 * for the first ones only.
 */
#include "stream/internal.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* Members of a JSON object that we do not know, sorted by key; texts as they were. */
struct extra {
    struct ws2_text text;
    struct {
        size_t key, key_size, value, value_size; /* places in text */
    } member[WS2_JSON_MEMBERS_MAX / 8];
    int count;
};

struct slot {
    char name[WS2_NAME_MAX + 1];
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    size_t bytes, packed_size;
    uint32_t hash; /* of the compressed frame */
    bool has_raw, has_packed;
    struct ws2_block raw, packed;
    struct extra extra;
};

struct ws2_record {
    int64_t frame, pts;
    struct slot *slot[WS2_TENSORS_MAX]; /* [0, count) in use, [count, made) kept for reuse */
    int count, made;
    struct extra extra;
    struct ws2_codec *codec; /* lent, or NULL */
    struct ws2_codec own;
};

/* ---- unknown members ---------------------------------------------------------------------------------- */

static int compare_keys(const char *a, size_t a_size, const char *b, size_t b_size)
{
    const int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static int extra_keep(struct extra *extra, struct ws2_slice key, struct ws2_slice value,
                      struct ws2_error *error)
{
    if (extra->count == (int)(sizeof extra->member / sizeof extra->member[0]))
        return ws2_fail(error, WS2_ERR_INPUT, "RECORD: too many unknown keys");
    int at = extra->count++;
    for (; at > 0; at--) {
        const char *before = extra->text.data + extra->member[at - 1].key;
        if (compare_keys(before, extra->member[at - 1].key_size, key.text, key.size) < 0)
            break;
        extra->member[at] = extra->member[at - 1];
    }
    extra->member[at].key = extra->text.size;
    extra->member[at].key_size = key.size;
    ws2_text_add(&extra->text, key.text, key.size);
    extra->member[at].value = extra->text.size;
    extra->member[at].value_size = value.size;
    ws2_text_add(&extra->text, value.text, value.size);
    return extra->text.failed ? ws2_fail(error, WS2_ERR_SYSTEM, "out of memory") : WS2_OK;
}

static void extra_clear(struct extra *extra)
{
    extra->count = 0;
    extra->text.size = 0;
    extra->text.failed = false;
}

/* ---- slots -------------------------------------------------------------------------------------------- */

static void slot_free(struct slot *slot)
{
    if (slot == NULL)
        return;
    ws2_block_free(&slot->raw);
    ws2_block_free(&slot->packed);
    ws2_text_free(&slot->extra.text);
    free(slot);
}

static int find(const struct ws2_record *record, const char *name)
{
    for (int i = 0; i < record->count; i++) {
        if (strcmp(record->slot[i]->name, name) == 0)
            return i;
    }
    return -1;
}

/* Appends an empty slot, best one that carried a tensor of this name before: its buffers fit. */
static struct slot *slot_take(struct ws2_record *record, const char *name)
{
    int pick = record->count;
    for (int i = record->count; i < record->made; i++) {
        if (strcmp(record->slot[i]->name, name) == 0) {
            pick = i;
            break;
        }
    }
    if (pick == record->made) {
        record->slot[pick] = ws2_calloc(1, sizeof *record->slot[pick]);
        if (record->slot[pick] == NULL)
            return NULL;
        record->made++;
    }
    struct slot *slot = record->slot[pick];
    record->slot[pick] = record->slot[record->count];
    record->slot[record->count++] = slot;
    snprintf(slot->name, sizeof slot->name, "%s", name);
    slot->has_raw = slot->has_packed = false;
    extra_clear(&slot->extra);
    return slot;
}

/* Takes slot `index` out of the record's order; it stays at the place after the last one in use. */
static struct slot *slot_leave(struct ws2_record *record, int index)
{
    struct slot *slot = record->slot[index];
    record->count--;
    memmove(&record->slot[index], &record->slot[index + 1],
            (size_t)(record->count - index) * sizeof record->slot[0]);
    record->slot[record->count] = slot;
    return slot;
}

/* ---- the record --------------------------------------------------------------------------------------- */

struct ws2_record *ws2_record_new(void)
{
    struct ws2_record *record = ws2_calloc(1, sizeof *record);
    if (record != NULL)
        ws2_record_clear(record);
    return record;
}

void ws2_record_free(struct ws2_record *record)
{
    if (record == NULL)
        return;
    for (int i = 0; i < record->made; i++)
        slot_free(record->slot[i]);
    ws2_text_free(&record->extra.text);
    ws2_codec_free(&record->own);
    free(record);
}

void ws2_record_clear(struct ws2_record *record)
{
    record->count = 0;
    record->frame = 0;
    record->pts = -1;
    extra_clear(&record->extra);
}

int64_t ws2_record_frame(const struct ws2_record *record)
{
    return record->frame;
}

int64_t ws2_record_pts(const struct ws2_record *record)
{
    return record->pts;
}

void ws2_record_set_frame(struct ws2_record *record, int64_t frame, int64_t pts)
{
    record->frame = frame;
    record->pts = pts;
}

int ws2_record_tensors(const struct ws2_record *record)
{
    return record->count;
}

const char *ws2_record_name(const struct ws2_record *record, int index)
{
    return index >= 0 && index < record->count ? record->slot[index]->name : NULL;
}

bool ws2_record_has(const struct ws2_record *record, const char *name)
{
    return find(record, name) >= 0;
}

int ws2_record_peek(const struct ws2_record *record, const char *name, struct ws2_tensor *tensor)
{
    const int index = find(record, name);
    if (index < 0)
        return 0;
    const struct slot *slot = record->slot[index];
    *tensor = (struct ws2_tensor){slot->name, slot->dtype, slot->shape, slot->bytes, NULL};
    return 1;
}

/* ---- packing and unpacking ---------------------------------------------------------------------------- */

void ws2_codec_free(struct ws2_codec *codec)
{
    ZSTD_freeCCtx(codec->pack);
    ZSTD_freeDCtx(codec->unpack);
    *codec = (struct ws2_codec){0};
}

void ws2_record_lend(struct ws2_record *record, struct ws2_codec *codec)
{
    record->codec = codec;
}

static struct ws2_codec *codec_of(struct ws2_record *record)
{
    return record->codec != NULL ? record->codec : &record->own;
}

static int codec_level(struct ws2_codec *codec, int level, struct ws2_error *error)
{
    if (codec->pack != NULL && codec->level == level)
        return WS2_OK;
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel())
        return ws2_fail(error, WS2_ERR_USAGE, "no such compression level: %d", level);
    if (codec->pack == NULL)
        codec->pack = ZSTD_createCCtx();
    if (codec->pack == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    codec->level = level;
    if (ZSTD_isError(ZSTD_CCtx_setParameter(codec->pack, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(codec->pack, ZSTD_c_checksumFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(codec->pack, ZSTD_c_contentSizeFlag, 1)))
        return ws2_fail(error, WS2_ERR_SYSTEM, "libzstd refuses level %d", level);
    return WS2_OK;
}

static int slot_pack(struct slot *slot, struct ws2_codec *codec, struct ws2_error *error)
{
    if (ws2_block_reserve(&slot->packed, ZSTD_compressBound(slot->bytes), 0) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "tensor '%s': out of memory", slot->name);
    const size_t size =
        ZSTD_compress2(codec->pack, slot->packed.data, slot->packed.capacity, slot->raw.data, slot->bytes);
    if (ZSTD_isError(size))
        return ws2_fail(error, WS2_ERR_SYSTEM, "tensor '%s': %s", slot->name, ZSTD_getErrorName(size));
    slot->packed_size = size;
    slot->hash = ws2_checksum(slot->packed.data, size);
    slot->has_packed = true;
    return WS2_OK;
}

int ws2_record_pack(struct ws2_record *record, int level, struct ws2_error *error)
{
    struct ws2_codec *codec = codec_of(record);
    for (int i = 0; i < record->count; i++) {
        struct slot *slot = record->slot[i];
        if (slot->has_packed)
            continue;
        int status = codec_level(codec, level, error);
        if (status == WS2_OK)
            status = slot_pack(slot, codec, error);
        if (status != WS2_OK)
            return status;
    }
    return WS2_OK;
}

static int slot_unpack(struct slot *slot, struct ws2_codec *codec, struct ws2_error *error)
{
    if (codec->unpack == NULL)
        codec->unpack = ZSTD_createDCtx();
    if (codec->unpack == NULL || ws2_block_reserve(&slot->raw, slot->bytes, 0) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "tensor '%s': out of memory", slot->name);
    const size_t size =
        ZSTD_decompressDCtx(codec->unpack, slot->raw.data, slot->bytes, slot->packed.data, slot->packed_size);
    if (!ZSTD_isError(size) && size == slot->bytes) {
        slot->has_raw = true;
        return WS2_OK;
    }
    const ZSTD_ErrorCode code = ZSTD_getErrorCode(size);
    if (code == ZSTD_error_memory_allocation)
        return ws2_fail(error, WS2_ERR_SYSTEM, "tensor '%s': out of memory", slot->name);
    return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is corrupt (%s)", slot->name,
                    code == ZSTD_error_checksum_wrong ? "checksum" : ZSTD_getErrorName(size));
}

int ws2_record_repack(struct ws2_record *record, int level, struct ws2_error *error)
{
    for (int i = 0; i < record->count; i++) {
        struct slot *slot = record->slot[i];
        const int status = slot->has_raw ? WS2_OK : slot_unpack(slot, codec_of(record), error);
        if (status != WS2_OK)
            return status;
        slot->has_packed = false;
    }
    return ws2_record_pack(record, level, error);
}

int ws2_record_get(struct ws2_record *record, const char *name, struct ws2_tensor *tensor,
                   struct ws2_error *error)
{
    const int index = find(record, name);
    if (index < 0)
        return 0;
    struct slot *slot = record->slot[index];
    const int status = slot->has_raw ? WS2_OK : slot_unpack(slot, codec_of(record), error);
    if (status != WS2_OK)
        return status;
    *tensor = (struct ws2_tensor){slot->name, slot->dtype, slot->shape, slot->bytes, slot->raw.data};
    return 1;
}

int ws2_record_want(struct ws2_record *record, const char *name, enum ws2_dtype dtype, int rank,
                    struct ws2_tensor *tensor, struct ws2_error *error)
{
    struct ws2_tensor found;
    if (!ws2_record_peek(record, name, &found))
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", name);
    if (found.dtype != dtype)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, wanted %s", name,
                        ws2_dtype_name(found.dtype), ws2_dtype_name(dtype));
    if (found.shape.rank != rank)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' has %d axes, wanted %d", name, found.shape.rank,
                        rank);
    return ws2_record_get(record, name, tensor, error);
}

int ws2_record_misfit(const struct ws2_record *record, const char *a, const char *b, struct ws2_error *error)
{
    const char *const name[] = {a, b};
    char text[2][96] = {"not there", "not there"};
    struct ws2_tensor tensor;
    for (int i = 0; i < 2; i++)
        if (ws2_record_peek(record, name[i], &tensor))
            ws2_shape_text(&tensor.shape, text[i], sizeof text[i]);
    return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, '%s' is %s", a, text[0], b, text[1]);
}

/* ---- adding and removing ------------------------------------------------------------------------------ */

void *ws2_record_add(struct ws2_record *record, const char *name, enum ws2_dtype dtype,
                     const struct ws2_shape *shape, struct ws2_error *error)
{
    size_t bytes;
    if (!ws2_name_valid(name)) {
        ws2_fail(error, WS2_ERR_USAGE, "'%.80s' is not a tensor name", name);
        return NULL;
    }
    if (ws2_dtype_size(dtype) == 0 || !ws2_shape_bytes(shape, dtype, &bytes) ||
        bytes > WS2_TENSOR_BYTES_MAX) {
        ws2_fail(error, WS2_ERR_USAGE, "tensor '%s': bad type or shape, or more than 2 GiB", name);
        return NULL;
    }
    if (find(record, name) >= 0 || record->count == WS2_TENSORS_MAX) {
        ws2_fail(error, WS2_ERR_USAGE, "tensor '%s': %s", name,
                 find(record, name) >= 0 ? "already in the record" : "64 tensors are in the record already");
        return NULL;
    }
    struct slot *slot = slot_take(record, name);
    if (slot == NULL || ws2_block_reserve(&slot->raw, bytes, 0) != WS2_OK) {
        record->count -= slot != NULL;
        ws2_fail(error, WS2_ERR_SYSTEM, "tensor '%s': out of memory", name);
        return NULL;
    }
    slot->dtype = dtype;
    slot->shape = *shape;
    slot->bytes = bytes;
    slot->has_raw = true;
    return slot->raw.data;
}

int ws2_record_put(struct ws2_record *record, const char *name, enum ws2_dtype dtype,
                   const struct ws2_shape *shape, const void *data, struct ws2_error *error)
{
    struct ws2_error local = {0};
    void *room = ws2_record_add(record, name, dtype, shape, &local);
    if (room == NULL)
        return ws2_fail(error, local.status, "%s", local.text);
    const size_t bytes = record->slot[record->count - 1]->bytes;
    if (bytes > 0)
        memcpy(room, data, bytes);
    return WS2_OK;
}

void ws2_record_drop(struct ws2_record *record, const char *name)
{
    const int index = find(record, name);
    if (index >= 0)
        slot_leave(record, index);
}

int ws2_record_rename(struct ws2_record *record, const char *from, const char *to, struct ws2_error *error)
{
    const int index = find(record, from);
    if (index < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", from);
    if (!ws2_name_valid(to))
        return ws2_fail(error, WS2_ERR_USAGE, "'%.80s' is not a tensor name", to);
    if (strcmp(from, to) == 0)
        return WS2_OK;
    if (find(record, to) >= 0)
        return ws2_fail(error, WS2_ERR_USAGE, "tensor '%s': already in the record", to);
    snprintf(record->slot[index]->name, sizeof record->slot[index]->name, "%s", to);
    return WS2_OK;
}

int ws2_record_move(struct ws2_record *to, struct ws2_record *from, const char *name, struct ws2_error *error)
{
    const int index = find(from, name);
    if (index < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", name);
    if (to == from)
        return WS2_OK;
    if (find(to, name) >= 0 || to->count == WS2_TENSORS_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "tensor '%s': %s", name,
                        find(to, name) >= 0 ? "already in the record"
                                            : "64 tensors are in the record already");
    /* The two records swap the slot for a spare one, so that both keep what they need for the next frame. */
    struct slot *spare = slot_take(to, name);
    if (spare == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "tensor '%s': out of memory", name);
    to->slot[to->count - 1] = slot_leave(from, index);
    from->slot[from->count] = spare;
    return WS2_OK;
}

/* ---- from a RECORD's body ----------------------------------------------------------------------------- */

/* The known keys of a tensor's object, in order. */
enum { KEY_BYTES, KEY_DTYPE, KEY_HASH, KEY_NAME, KEY_PACKED, KEY_SHAPE, KEYS };
static const char *const tensor_keys[KEYS] = {"bytes", "dtype", "hash", "name", "packed", "shape"};

static bool parse_shape(struct ws2_slice value, struct ws2_shape *shape)
{
    struct ws2_slice key, item;
    *shape = (struct ws2_shape){0};
    if (value.size == 0 || value.text[0] != '[')
        return false;
    for (struct ws2_json_walk walk = ws2_json_walk(value); ws2_json_next(&walk, &key, &item);) {
        if (shape->rank == WS2_AXES_MAX || !ws2_json_integer(item, &shape->dim[shape->rank]) ||
            shape->dim[shape->rank] < 0)
            return false;
        shape->rank++;
    }
    return true;
}

static int tensor_key(struct ws2_slice key)
{
    int i = 0;
    while (i < KEYS && !ws2_slice_is(key, tensor_keys[i]))
        i++;
    return i;
}

/* The known members of a tensor's object by key. */
static int parse_known(struct ws2_slice row, struct ws2_slice value[KEYS], struct ws2_error *error)
{
    struct ws2_slice key, found;
    int seen = 0;
    if (row.text[0] != '{')
        return ws2_fail(error, WS2_ERR_INPUT, "RECORD: bad table of tensors");
    for (struct ws2_json_walk walk = ws2_json_walk(row); ws2_json_next(&walk, &key, &found);) {
        const int i = tensor_key(key);
        if (i < KEYS) {
            value[i] = found;
            seen++;
        }
    }
    return seen == KEYS ? WS2_OK : ws2_fail(error, WS2_ERR_INPUT, "RECORD: a tensor lacks a key");
}

static int parse_unknown(struct ws2_slice row, struct extra *extra, struct ws2_error *error)
{
    struct ws2_slice key, found;
    int status = WS2_OK;
    for (struct ws2_json_walk walk = ws2_json_walk(row);
         status == WS2_OK && ws2_json_next(&walk, &key, &found);) {
        if (tensor_key(key) == KEYS)
            status = extra_keep(extra, key, found, error);
    }
    return status;
}

/* Checks the sizes against each other and against the limits before anyone allocates by them. */
static int parse_sizes(struct slot *slot, const struct ws2_slice value[KEYS], struct ws2_error *error)
{
    int64_t bytes, packed, hash;
    size_t real;
    if (!ws2_json_integer(value[KEY_BYTES], &bytes) || !ws2_json_integer(value[KEY_PACKED], &packed) ||
        !ws2_json_integer(value[KEY_HASH], &hash) || bytes < 0 || packed < 0 || hash < 0 || hash > UINT32_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s': bad size or hash", slot->name);
    if (!parse_shape(value[KEY_SHAPE], &slot->shape))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s': bad shape", slot->name);
    if (!ws2_shape_bytes(&slot->shape, slot->dtype, &real) || real != (uint64_t)bytes)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s': %lld bytes do not fit its shape", slot->name,
                        (long long)bytes);
    if (real > WS2_TENSOR_BYTES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is larger than 2 GiB", slot->name);
    if ((uint64_t)packed < ws2_packed_min(real) || (uint64_t)packed > ws2_packed_max(real))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s': compressed size %lld is impossible", slot->name,
                        (long long)packed);
    slot->bytes = real;
    slot->packed_size = (size_t)packed;
    slot->hash = (uint32_t)hash;
    return WS2_OK;
}

static int parse_tensor(struct ws2_record *record, struct ws2_slice row, const struct ws2_head *head,
                        struct ws2_error *error)
{
    struct ws2_slice value[KEYS];
    char name[WS2_NAME_MAX + 1], dtype[8];
    const int status = parse_known(row, value, error);
    if (status != WS2_OK)
        return status;
    if (!ws2_json_string(value[KEY_NAME], name, sizeof name) || !ws2_name_valid(name))
        return ws2_fail(error, WS2_ERR_INPUT, "RECORD: bad tensor name");
    const struct ws2_tensor_info *info = ws2_head_find(head, name);
    if (info == NULL)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is not in the HEAD", name);
    if (find(record, name) >= 0)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' stands twice", name);
    if (!ws2_json_string(value[KEY_DTYPE], dtype, sizeof dtype) ||
        strcmp(dtype, ws2_dtype_name(info->dtype)) != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is not %s as the HEAD says", name,
                        ws2_dtype_name(info->dtype));
    struct slot *slot = slot_take(record, name);
    if (slot == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    slot->dtype = info->dtype;
    const int fits = parse_sizes(slot, value, error);
    return fits == WS2_OK ? parse_unknown(row, &slot->extra, error) : fits;
}

static int parse_table(struct ws2_record *record, struct ws2_slice table, const struct ws2_head *head,
                       struct ws2_error *error)
{
    struct ws2_slice key, row;
    if (table.size == 0 || table.text[0] != '[')
        return ws2_fail(error, WS2_ERR_INPUT, "RECORD: no table of tensors");
    for (struct ws2_json_walk walk = ws2_json_walk(table); ws2_json_next(&walk, &key, &row);) {
        if (record->count == WS2_TENSORS_MAX)
            return ws2_fail(error, WS2_ERR_INPUT, "RECORD: more than 64 tensors");
        const int status = parse_tensor(record, row, head, error);
        if (status != WS2_OK)
            return status;
    }
    return WS2_OK;
}

int ws2_record_parse(struct ws2_record *record, struct ws2_slice json, const struct ws2_head *head,
                     struct ws2_error *error)
{
    ws2_record_clear(record);
    const char *wrong = ws2_json_check(json);
    if (wrong != NULL)
        return ws2_fail(error, WS2_ERR_INPUT, "RECORD: %s", wrong);
    struct ws2_slice key, value, table = {0};
    bool frame = false, pts = false;
    int status = WS2_OK;
    for (struct ws2_json_walk walk = ws2_json_walk(json);
         status == WS2_OK && ws2_json_next(&walk, &key, &value);) {
        if (ws2_slice_is(key, "frame"))
            frame = ws2_json_integer(value, &record->frame) && record->frame >= 0;
        else if (ws2_slice_is(key, "pts"))
            pts = ws2_json_integer(value, &record->pts);
        else if (ws2_slice_is(key, "tensors"))
            table = value;
        else
            status = extra_keep(&record->extra, key, value, error);
    }
    if (status == WS2_OK && (!frame || !pts))
        status = ws2_fail(error, WS2_ERR_INPUT, "RECORD: bad %s", frame ? "pts" : "frame");
    if (status == WS2_OK) {
        status = parse_table(record, table, head, error);
        if (status == WS2_ERR_INPUT)
            ws2_error_prefix(error, "frame %lld", (long long)record->frame);
    }
    if (status != WS2_OK)
        ws2_record_clear(record);
    return status;
}

size_t ws2_record_packed_size(const struct ws2_record *record, int index)
{
    return record->slot[index]->packed_size;
}

unsigned char *ws2_record_packed_room(struct ws2_record *record, int index, size_t have, size_t bytes)
{
    struct slot *slot = record->slot[index];
    /* Compressed sizes differ a little from frame to frame: with some room to spare the first one decides. */
    const size_t room = slot->packed.capacity < bytes ? bytes + bytes / 4 + 256 : bytes;
    return ws2_block_reserve(&slot->packed, room, have) == WS2_OK ? slot->packed.data : NULL;
}

const char *ws2_record_packed_check(struct ws2_record *record, int index)
{
    struct slot *slot = record->slot[index];
    const unsigned char *frame = slot->packed.data;
    /* The frame header's flags: dictionary 0, checksum 1, reserved 0, and the unused bit, which any decoder
     * ignores, 0 as the library writes it. */
    if (ws2_load32(frame) != WS2_ZSTD_MAGIC || (frame[4] & 0x1F) != 0x04)
        return "frame header";
    if (ZSTD_getFrameContentSize(frame, slot->packed_size) != slot->bytes)
        return "content size";
    if (ZSTD_findFrameCompressedSize(frame, slot->packed_size) != slot->packed_size)
        return "frame size";
    if (ws2_checksum(frame, slot->packed_size) != slot->hash)
        return "checksum";
    slot->has_packed = true;
    return NULL;
}

const unsigned char *ws2_record_packed(const struct ws2_record *record, int index)
{
    return record->slot[index]->packed.data;
}

/* ---- to a RECORD's body ------------------------------------------------------------------------------- */

static void put_name(struct ws2_text *text, const char *name, size_t size)
{
    if (!text->failed && text->data[text->size - 1] != '{')
        ws2_text_puts(text, ",");
    ws2_text_puts(text, "\"");
    ws2_text_add(text, name, size);
    ws2_text_puts(text, "\":");
}

/* Writes the unknown members whose keys sort before `key` (NULL: all that are left), then key and colon. */
static void put_key(struct ws2_text *text, const struct extra *extra, int *next, const char *key)
{
    for (; *next < extra->count; ++*next) {
        const char *name = extra->text.data + extra->member[*next].key;
        const size_t size = extra->member[*next].key_size;
        if (key != NULL && compare_keys(name, size, key, strlen(key)) > 0)
            break;
        put_name(text, name, size);
        ws2_text_add(text, extra->text.data + extra->member[*next].value, extra->member[*next].value_size);
    }
    if (key != NULL)
        put_name(text, key, strlen(key));
}

static void put_tensor(struct ws2_text *text, const struct slot *slot)
{
    int next = 0;
    ws2_text_puts(text, "{");
    put_key(text, &slot->extra, &next, "bytes");
    ws2_text_number(text, (int64_t)slot->bytes);
    put_key(text, &slot->extra, &next, "dtype");
    ws2_text_puts(text, "\"");
    ws2_text_puts(text, ws2_dtype_name(slot->dtype));
    ws2_text_puts(text, "\"");
    put_key(text, &slot->extra, &next, "hash");
    ws2_text_number(text, slot->hash);
    put_key(text, &slot->extra, &next, "name");
    ws2_text_puts(text, "\"");
    ws2_text_puts(text, slot->name);
    ws2_text_puts(text, "\"");
    put_key(text, &slot->extra, &next, "packed");
    ws2_text_number(text, (int64_t)slot->packed_size);
    put_key(text, &slot->extra, &next, "shape");
    ws2_text_puts(text, "[");
    for (int i = 0; i < slot->shape.rank; i++) {
        if (i > 0)
            ws2_text_puts(text, ",");
        ws2_text_number(text, slot->shape.dim[i]);
    }
    ws2_text_puts(text, "]");
    put_key(text, &slot->extra, &next, NULL);
    ws2_text_puts(text, "}");
}

int ws2_record_json(const struct ws2_record *record, struct ws2_text *text)
{
    int next = 0;
    ws2_text_puts(text, "{");
    put_key(text, &record->extra, &next, "frame");
    ws2_text_number(text, record->frame);
    put_key(text, &record->extra, &next, "pts");
    ws2_text_number(text, record->pts);
    put_key(text, &record->extra, &next, "tensors");
    ws2_text_puts(text, "[");
    for (int i = 0; i < record->count; i++) {
        if (i > 0)
            ws2_text_puts(text, ",");
        put_tensor(text, record->slot[i]);
    }
    ws2_text_puts(text, "]");
    put_key(text, &record->extra, &next, NULL);
    ws2_text_puts(text, "}");
    return text->failed ? WS2_ERR_SYSTEM : WS2_OK;
}
