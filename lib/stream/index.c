/*
 * Index: random access through the TAILs. The footer at the very end tells where the last TAIL and its HEAD
 * begin, the byte before that HEAD ends the segment before, and so on to the start. A file that does not end
 * with a footer (cut, or something appended) is read forward instead, metadata only, which finds the index or
 * says exactly what is wrong.
 */
#include "stream/internal.h"

#include <stdlib.h>

void ws2_index_free(struct ws2_reader *reader)
{
    free(reader->segment);
    free(reader->offset);
    reader->segment = NULL;
    reader->offset = NULL;
    reader->segment_capacity = reader->offset_capacity = 0;
    reader->segments = reader->current = -1;
    reader->records = 0;
}

static int out_of_memory(struct ws2_reader *reader)
{
    return ws2_fail(&reader->error, WS2_ERR_SYSTEM, "%s: out of memory", ws2_reader_label(reader));
}

/* Makes room for one more element of `size` bytes after `count`, doubling. */
static int grow(void **array, size_t *capacity, int64_t count, size_t size)
{
    const size_t need = ((size_t)count + 1) * size;
    return need <= *capacity ? WS2_OK : ws2_reserve(array, capacity, 2 * need);
}

static int add_offset(struct ws2_reader *reader, int64_t offset)
{
    void *array = reader->offset;
    if (grow(&array, &reader->offset_capacity, reader->records, sizeof *reader->offset) != WS2_OK)
        return out_of_memory(reader);
    reader->offset = array;
    reader->offset[reader->records++] = offset;
    return WS2_OK;
}

static int add_segment(struct ws2_reader *reader, struct ws2_segment segment)
{
    void *array = reader->segment;
    if (grow(&array, &reader->segment_capacity, reader->segments, sizeof *reader->segment) != WS2_OK)
        return out_of_memory(reader);
    reader->segment = array;
    reader->segment[reader->segments++] = segment;
    return WS2_OK;
}

/* Takes the segments and records found so far away. */
static void forget(struct ws2_reader *reader)
{
    reader->segments = reader->records = 0;
}

/* ---- backwards ---------------------------------------------------------------------------------------- */

/* The metadata frame with this tag that must be at this offset: 1 (not yet consumed), 0 when something else is
 * there, or a status. */
static int meta_at(struct ws2_reader *reader, int64_t offset, char tag, struct ws2_meta *meta)
{
    int status = ws2_source_seek(&reader->source, offset, &reader->error);
    if (status == WS2_OK)
        status = ws2_meta_next(reader, meta);
    return status <= 0 ? status : meta->tag == tag && meta->start == offset;
}

/* Adds the records of a TAIL's table; they must lie in order between HEAD and TAIL. 1, 0 or a status. */
static int take_table(struct ws2_reader *reader, const struct ws2_meta *tail, int64_t head_size,
                      int64_t tail_at)
{
    const unsigned char *table = (const unsigned char *)tail->body.text + 16;
    const uint64_t count = (tail->body.size - WS2_TAIL_BODY_MIN) / 8;
    int64_t least = head_size;
    if (count > WS2_RECORDS_MAX)
        return 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t offset = ws2_load64(table + 8 * i);
        if (offset < (uint64_t)least || offset >= (uint64_t)tail_at)
            return 0;
        const int status = add_offset(reader, (int64_t)offset);
        if (status != WS2_OK)
            return status;
        least = (int64_t)offset + WS2_BODY_AT;
    }
    return 1;
}

/* The segment that ends at `end`: 1 and *start, 0 when there is none, or a status. */
static int segment_before(struct ws2_reader *reader, int64_t end, int64_t *start)
{
    enum { TAIL_MIN = WS2_BODY_AT + WS2_TAIL_BODY_MIN };
    unsigned char footer[WS2_FOOTER_SIZE];
    size_t got;
    if (end < WS2_BODY_AT + TAIL_MIN)
        return 0;
    int status = ws2_source_seek(&reader->source, end - WS2_FOOTER_SIZE, &reader->error);
    if (status == WS2_OK)
        status = ws2_source_read(&reader->source, footer, sizeof footer, &got, &reader->error);
    if (status != WS2_OK)
        return status;
    const uint64_t tail = ws2_load64(footer), size = ws2_load64(footer + 8);
    if (got < sizeof footer || memcmp(footer + 16, WS2_END_MAGIC, 8) != 0 || tail < TAIL_MIN ||
        tail > WS2_BODY_AT + WS2_BODY_MAX || size > (uint64_t)end || size < tail + WS2_BODY_AT)
        return 0;
    *start = end - (int64_t)size;
    struct ws2_meta meta;
    status = meta_at(reader, *start, 'H', &meta);
    if (status == 1)
        status = ws2_reader_take_head(reader, &meta);
    if (status <= 0)
        return status;
    const int64_t head_size = (int64_t)meta.size, tail_at = (int64_t)(size - tail);
    status = meta_at(reader, end - (int64_t)tail, 'T', &meta);
    if (status <= 0 || meta.size != tail || meta.body.size < WS2_TAIL_BODY_MIN || meta.body.size % 8 != 0 ||
        ws2_load64((const unsigned char *)meta.body.text) != (meta.body.size - WS2_TAIL_BODY_MIN) / 8)
        return status < 0 ? status : 0;
    const int64_t before = reader->records;
    status = take_table(reader, &meta, head_size, tail_at);
    if (status <= 0)
        return status;
    status = add_segment(reader, (struct ws2_segment){.start = *start,
                                                      .tail = *start + tail_at,
                                                      .count = reader->records - before,
                                                      .at = before});
    return status < 0 ? status : 1;
}

/* 1 when the whole file is a chain of segments, 0 when not, or a status. */
static int walk_back(struct ws2_reader *reader)
{
    int64_t end = reader->source.size;
    int status = 1;
    while (status == 1 && end > 0)
        status = segment_before(reader, end, &end);
    for (int64_t i = 0, j = reader->segments - 1; i < j; i++, j--) {
        const struct ws2_segment other = reader->segment[i];
        reader->segment[i] = reader->segment[j];
        reader->segment[j] = other;
    }
    return reader->segments > 0 ? status : 0;
}

/* ---- forwards ----------------------------------------------------------------------------------------- */

static int walk_forward(struct ws2_reader *reader, struct ws2_record *scratch)
{
    int status = ws2_source_seek(&reader->source, 0, &reader->error);
    while (status == WS2_OK && (status = ws2_reader_next_segment(reader)) == 1) {
        struct ws2_segment segment = {.start = reader->now.segment_start, .at = reader->records};
        while ((status = ws2_reader_step(reader, scratch, true, &segment.tail)) == 1) {
            status = add_offset(reader, segment.tail - segment.start);
            if (status != WS2_OK)
                return status;
        }
        segment.count = reader->records - segment.at;
        if (status == WS2_OK)
            status = add_segment(reader, segment);
    }
    return status;
}

static int build(struct ws2_reader *reader)
{
    forget(reader);
    int status = walk_back(reader);
    /* Damage met on the way back is met again on the way forth, where it can be told from a cut. */
    if (status == 0 || status == WS2_ERR_INPUT || status == WS2_ERR_TRUNCATED) {
        reader->error = (struct ws2_error){0};
        ws2_progress_close(&reader->now);
        struct ws2_record *scratch = ws2_record_new();
        if (ws2_progress_open(&reader->now) != WS2_OK || scratch == NULL) {
            ws2_record_free(scratch);
            return out_of_memory(reader);
        }
        forget(reader);
        status = walk_forward(reader, scratch);
        ws2_record_free(scratch);
    }
    if (status < 0)
        return status;
    int64_t first = 0;
    for (int64_t i = 0; i < reader->segments; i++) {
        reader->segment[i].first = first;
        first += reader->segment[i].count;
    }
    return WS2_OK;
}

int ws2_reader_index(struct ws2_reader *reader, int64_t *segments, int64_t *records)
{
    if (reader->error.status != 0)
        return reader->error.status;
    if (reader->source.base < 0)
        return ws2_fail(&reader->error, WS2_ERR_INPUT, "%s: random access needs a file, not a pipe",
                        ws2_reader_label(reader));
    if (reader->segments < 0) {
        /* The pass that is under way goes on afterwards as if nothing had happened. */
        const struct ws2_progress now = reader->now;
        const int64_t at = ws2_reader_bytes(reader);
        int status = ws2_progress_open(&reader->now) == WS2_OK ? build(reader) : out_of_memory(reader);
        ws2_progress_close(&reader->now);
        reader->now = now;
        if (status == WS2_OK)
            status = ws2_source_seek(&reader->source, at, &reader->error);
        if (status != WS2_OK) {
            ws2_index_free(reader);
            return status;
        }
    }
    *segments = reader->segments;
    *records = reader->records;
    return WS2_OK;
}

/* ---- access ------------------------------------------------------------------------------------------- */

/* Tells of a file that does not (or no longer) hold what its TAIL says. */
static int mismatch(struct ws2_reader *reader, int status, const char *what)
{
    if (status < 0)
        return status;
    return ws2_fail(&reader->error, WS2_ERR_INPUT, "%s: corrupt: no %s where the TAIL says",
                    ws2_reader_label(reader), what);
}

static int enter_segment(struct ws2_reader *reader, int64_t number)
{
    if (reader->current != number) {
        struct ws2_meta meta;
        int status = meta_at(reader, reader->segment[number].start, 'H', &meta);
        if (status == 1)
            status = ws2_reader_take_head(reader, &meta);
        if (status != 1)
            return mismatch(reader, status, "HEAD");
        reader->current = number;
    }
    reader->now.state = WS2_AT_RANDOM;
    return WS2_OK;
}

static int need_index(struct ws2_reader *reader)
{
    int64_t segments, records;
    return ws2_reader_index(reader, &segments, &records);
}

int ws2_reader_segment(struct ws2_reader *reader, int64_t segment, int64_t *first, int64_t *count)
{
    int status = need_index(reader);
    if (status == WS2_OK && (segment < 0 || segment >= reader->segments))
        status = ws2_fail(&reader->error, WS2_ERR_USAGE, "%s: no segment %lld", ws2_reader_label(reader),
                          (long long)segment);
    if (status == WS2_OK)
        status = enter_segment(reader, segment);
    if (status != WS2_OK)
        return status;
    *first = reader->segment[segment].first;
    *count = reader->segment[segment].count;
    return WS2_OK;
}

/* The last segment that begins at or before record `index`, which is the one that holds it. */
static int64_t segment_of(const struct ws2_reader *reader, int64_t index)
{
    int64_t low = 0, high = reader->segments - 1;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (reader->segment[middle].first <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

int ws2_reader_at(struct ws2_reader *reader, int64_t index, struct ws2_record *record)
{
    ws2_record_clear(record);
    int status = need_index(reader);
    if (status == WS2_OK && (index < 0 || index >= reader->records))
        status = ws2_fail(&reader->error, WS2_ERR_USAGE, "%s: no record %lld", ws2_reader_label(reader),
                          (long long)index);
    if (status != WS2_OK)
        return status;
    const int64_t number = segment_of(reader, index);
    const struct ws2_segment *segment = &reader->segment[number];
    status = enter_segment(reader, number);
    if (status != WS2_OK)
        return status;
    const int64_t inside = index - segment->first;
    const int64_t *offset = reader->offset + segment->at + inside;
    const int64_t end = inside + 1 < segment->count ? segment->start + offset[1] : segment->tail;
    struct ws2_meta meta;
    status = meta_at(reader, segment->start + *offset, 'R', &meta);
    if (status != 1)
        return mismatch(reader, status, "RECORD");
    status = ws2_reader_take_record(reader, &meta, record, false);
    if (status == 1 && ws2_reader_bytes(reader) > end) {
        ws2_record_clear(record);
        return mismatch(reader, 0, "end of a record");
    }
    return status;
}
