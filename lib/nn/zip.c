/*
 * The zip archives that PyTorch writes: every entry stored, sizes and checksums in the central directory (local
 * headers hold zeros), ZIP64 end records always there. Every offset is checked against the file before use.
 */
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"

#define END_SIZE 22
#define LOCATOR_SIZE 20
#define END64_SIZE 56
#define CENTRAL_SIZE 46
#define LOCAL_SIZE 30
#define COMMENT_MAX 65535
#define ENTRIES_MAX 1000000

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

static const uint32_t end_mark = 0x06054b50, locator_mark = 0x07064b50, end64_mark = 0x06064b50;
static const uint32_t central_mark = 0x02014b50, local_mark = 0x04034b50;

/* ---- CRC-32 (IEEE 802.3, reflected), eight bytes at a time -------------------------------------------------------- */

struct crc_table {
    uint32_t row[8][256];
};

static void crc_table_fill(struct crc_table *table)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table->row[0][i] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++)
            table->row[k][i] = table->row[k - 1][i] >> 8 ^ table->row[0][table->row[k - 1][i] & 255];
}

uint32_t nn_crc32(const uint8_t *bytes, size_t size)
{
    struct crc_table table;
    crc_table_fill(&table);
    uint32_t crc = 0xffffffffu;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint32_t a = crc ^ u32(bytes), b = u32(bytes + 4);
        crc = table.row[7][a & 255] ^ table.row[6][a >> 8 & 255] ^ table.row[5][a >> 16 & 255] ^
              table.row[4][a >> 24] ^ table.row[3][b & 255] ^ table.row[2][b >> 8 & 255] ^
              table.row[1][b >> 16 & 255] ^ table.row[0][b >> 24];
    }
    for (; size > 0; bytes++, size--)
        crc = crc >> 8 ^ table.row[0][(crc ^ *bytes) & 255];
    return crc ^ 0xffffffffu;
}

/* ---- the directory ------------------------------------------------------------------------------------------------ */

struct directory {
    uint64_t offset, size, count;
};

static int cut(struct ws2_error *error)
{
    return ws2_fail(error, WS2_ERR_TRUNCATED, "the archive has no end record (the file is cut)");
}

static int bad(struct ws2_error *error, const char *what)
{
    return ws2_fail(error, WS2_ERR_INPUT, "a damaged archive: %s", what);
}

/* Offset of the end record: the last one whose comment reaches the end of the file. */
static bool find_end(const uint8_t *bytes, size_t size, size_t *at)
{
    if (size < END_SIZE)
        return false;
    size_t low = size - END_SIZE > COMMENT_MAX ? size - END_SIZE - COMMENT_MAX : 0;
    for (size_t i = size - END_SIZE + 1; i-- > low;) {
        if (u32(bytes + i) == end_mark && i + END_SIZE + u16(bytes + i + 20) == size) {
            *at = i;
            return true;
        }
    }
    return false;
}

static int find_directory(const uint8_t *bytes, size_t size, struct directory *dir, struct ws2_error *error)
{
    size_t end;
    if (!find_end(bytes, size, &end))
        return cut(error);
    dir->count = u16(bytes + end + 10);
    dir->size = u32(bytes + end + 12);
    dir->offset = u32(bytes + end + 16);
    size_t limit = end;
    if (end >= LOCATOR_SIZE && u32(bytes + end - LOCATOR_SIZE) == locator_mark) {
        uint64_t at = u64(bytes + end - LOCATOR_SIZE + 8);
        if (end - LOCATOR_SIZE < END64_SIZE || at > end - LOCATOR_SIZE - END64_SIZE ||
            u32(bytes + at) != end64_mark)
            return bad(error, "its ZIP64 end record is not where it should be");
        dir->count = u64(bytes + at + 32);
        dir->size = u64(bytes + at + 40);
        dir->offset = u64(bytes + at + 48);
        limit = (size_t)at;
    }
    if (dir->offset > limit || dir->size > limit - dir->offset)
        return bad(error, "its directory lies outside the file");
    if (dir->count > ENTRIES_MAX || dir->count * CENTRAL_SIZE > dir->size)
        return bad(error, "its directory is too small for its entries");
    return 0;
}

/* Takes sizes and offset from the ZIP64 extra field where the 32-bit fields are all ones. */
static bool widen(const uint8_t *extra, size_t length, uint64_t *plain, uint64_t *packed, uint64_t *offset)
{
    const uint32_t ones = 0xffffffffu;
    if (*plain != ones && *packed != ones && *offset != ones)
        return true;
    for (size_t i = 0; i + 4 <= length;) {
        size_t field = u16(extra + i + 2), at = i + 4, end = at + field;
        if (end > length)
            return false;
        if (u16(extra + i) == 1) {
            uint64_t *wide[3] = {plain, packed, offset};
            for (int k = 0; k < 3; k++) {
                if (*wide[k] != ones)
                    continue;
                if (at + 8 > end)
                    return false;
                *wide[k] = u64(extra + at);
                at += 8;
            }
            return true;
        }
        i = end;
    }
    return false;
}

/* Where an entry's bytes begin, from its local header; `limit` is where the directory starts. */
static bool find_payload(const uint8_t *bytes, uint64_t limit, uint64_t offset, const uint8_t *name,
                         size_t length, uint64_t size, uint64_t *payload)
{
    if (offset > limit || limit - offset < LOCAL_SIZE)
        return false;
    const uint8_t *local = bytes + offset;
    size_t name_length = u16(local + 26), extra = u16(local + 28);
    if (u32(local) != local_mark || name_length != length ||
        limit - offset - LOCAL_SIZE < name_length + extra)
        return false;
    if (memcmp(local + LOCAL_SIZE, name, length) != 0)
        return false;
    *payload = offset + LOCAL_SIZE + name_length + extra;
    return size <= limit - *payload;
}

static int read_entry(const uint8_t *bytes, const struct directory *dir, uint64_t *at,
                      struct nn_zip_entry *entry, struct ws2_error *error)
{
    uint64_t end = dir->offset + dir->size;
    if (end - *at < CENTRAL_SIZE || u32(bytes + *at) != central_mark)
        return bad(error, "its directory ends early");
    const uint8_t *p = bytes + *at;
    size_t name = u16(p + 28), extra = u16(p + 30), comment = u16(p + 32);
    if (end - *at - CENTRAL_SIZE < name + extra + comment)
        return bad(error, "its directory ends early");
    if (u16(p + 8) & 1)
        return ws2_fail(error, WS2_ERR_INPUT, "the archive is encrypted");
    if (u16(p + 10) != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the archive is compressed; PyTorch only stores");
    uint64_t packed = u32(p + 20), plain = u32(p + 24), offset = u32(p + 42), payload;
    if (!widen(p + CENTRAL_SIZE + name, extra, &plain, &packed, &offset) || packed != plain)
        return bad(error, "sizes of an entry disagree");
    if (!find_payload(bytes, dir->offset, offset, p + CENTRAL_SIZE, name, plain, &payload))
        return bad(error, "an entry lies outside the file or its local header disagrees");
    *entry = (struct nn_zip_entry){(const char *)p + CENTRAL_SIZE, name, bytes + payload, (size_t)plain,
                                   u32(p + 16)};
    *at += CENTRAL_SIZE + name + extra + comment;
    return 0;
}

static int compare_names(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int by_name(const void *a, const void *b)
{
    const struct nn_zip_entry *x = a, *y = b;
    return compare_names(x->name, x->name_length, y->name, y->name_length);
}

static int by_place(const void *a, const void *b)
{
    const struct nn_zip_entry *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* No two payloads may overlap and no two names be equal. Leaves the entries in order of name. */
static int check_entries(struct nn_zip *zip, struct ws2_error *error)
{
    qsort(zip->entry, zip->count, sizeof(*zip->entry), by_place);
    for (size_t i = 1; i < zip->count; i++)
        if (zip->entry[i - 1].data + zip->entry[i - 1].size > zip->entry[i].data)
            return bad(error, "entries overlap");
    qsort(zip->entry, zip->count, sizeof(*zip->entry), by_name);
    for (size_t i = 1; i < zip->count; i++)
        if (by_name(&zip->entry[i - 1], &zip->entry[i]) == 0)
            return bad(error, "two entries have one name");
    return 0;
}

int nn_zip_open(struct nn_zip *zip, const uint8_t *bytes, size_t size, struct ws2_error *error)
{
    struct directory dir = {0};
    *zip = (struct nn_zip){0};
    int status = find_directory(bytes, size, &dir, error);
    if (status < 0)
        return status;
    zip->entry = ws2_calloc((size_t)dir.count, sizeof(*zip->entry));
    if (!zip->entry)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    uint64_t at = dir.offset;
    while (status == 0 && zip->count < dir.count)
        status = read_entry(bytes, &dir, &at, &zip->entry[zip->count++], error);
    if (status == 0 && at != dir.offset + dir.size)
        status = bad(error, "its directory is longer than its entries");
    if (status == 0)
        status = check_entries(zip, error);
    if (status < 0)
        nn_zip_free(zip);
    return status;
}

void nn_zip_free(struct nn_zip *zip)
{
    free(zip->entry);
    *zip = (struct nn_zip){0};
}

const struct nn_zip_entry *nn_zip_find(const struct nn_zip *zip, const char *name, size_t length)
{
    size_t low = 0, high = zip->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct nn_zip_entry *entry = &zip->entry[middle];
        int order = compare_names(entry->name, entry->name_length, name, length);
        if (order == 0)
            return entry;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
