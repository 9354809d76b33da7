/*
 * Reader: metadata frames one after the other, each checked in full before it is believed. The order of the
 * checks makes a cut and a damage two different answers: nothing is judged before all its bytes are there, so
 * whatever ends too early is WS2_ERR_TRUNCATED and whatever is there but wrong is WS2_ERR_INPUT.
 */
#include "stream/internal.h"

#include <stdlib.h>

/* Read tensors in steps of this size at first, then doubling: memory follows the data, not the promise. */
enum { TENSOR_STEP = 8 << 20 };

const char *ws2_reader_label(const struct ws2_reader *reader)
{
    const bool named = reader->source.owned || reader->source.file != NULL;
    if (!named && reader->now.head != NULL && ws2_head_seq(reader->now.head)[0] != '\0')
        return ws2_head_seq(reader->now.head);
    return reader->source.name;
}

/* "clip.ws2: after frame 36": where we are between records. */
static const char *place(const struct ws2_reader *reader, char text[300])
{
    if (reader->now.state == WS2_AT_RECORD && reader->now.frame >= 0)
        snprintf(text, 300, "%.200s: after frame %lld", ws2_reader_label(reader),
                 (long long)reader->now.frame);
    else
        snprintf(text, 300, "%.200s", ws2_reader_label(reader));
    return text;
}

static int truncated(struct ws2_reader *reader)
{
    char text[300];
    const bool empty = reader->source.consumed == 0 && ws2_source_have(&reader->source) == 0;
    return ws2_fail(&reader->error, WS2_ERR_TRUNCATED, "%s: %s", place(reader, text),
                    empty                                ? "no data at all"
                    : reader->now.state == WS2_AT_RECORD ? "truncated, the TAIL is missing"
                                                         : "truncated");
}

static int corrupt(struct ws2_reader *reader, const char *what)
{
    char text[300];
    return ws2_fail(&reader->error, WS2_ERR_INPUT, "%s: %s", place(reader, text), what);
}

/* ---- metadata frames ---------------------------------------------------------------------------------- */

/* The input does not go on with a skippable frame. A cut leaves less than a magic that still could be one. */
static int no_metadata(struct ws2_reader *reader)
{
    const unsigned char *at = ws2_source_at(&reader->source);
    const size_t have = ws2_source_have(&reader->source);
    static const unsigned char magic[4] = {0x57, 0x2A, 0x4D, 0x18};
    bool cut = have < 4;
    for (size_t i = 0; cut && i < have; i++)
        cut = i == 0 ? (at[0] & 0xF0) == 0x50 : at[i] == magic[i];
    if (cut)
        return truncated(reader);
    if (reader->now.head == NULL)
        return corrupt(reader, have >= 4 && ws2_load32(at) == WS2_ZSTD_MAGIC
                                   ? "not a ws2 stream (zstd data without a HEAD)"
                                   : "not a ws2 stream");
    if (have >= 4 && ws2_load32(at) == WS2_ZSTD_MAGIC)
        return corrupt(reader, "corrupt: a tensor without a RECORD");
    return corrupt(reader, "corrupt: foreign bytes where a frame must begin");
}

static bool is_ours(const unsigned char *frame, uint32_t payload)
{
    return ws2_load32(frame) == WS2_SKIPPABLE_MAGIC && payload >= WS2_HEADER_SIZE &&
           memcmp(frame + 8, WS2_TAG_HEAD, 3) == 0 && strchr("HRT", frame[11]) != NULL && frame[11] != '\0';
}

/* Checks the frame of ours whose first 20 bytes are buffered, then buffers and checks the rest. */
static int meta_check(struct ws2_reader *reader, uint32_t payload, struct ws2_meta *meta)
{
    const unsigned char *at = ws2_source_at(&reader->source);
    const unsigned version = ws2_load16(at + 12);
    char text[300];
    if (version > WS2_FORMAT_VERSION)
        return ws2_fail(&reader->error, WS2_ERR_INPUT, "%s: format version %u, this program knows up to %d",
                        place(reader, text), version, WS2_FORMAT_VERSION);
    if (version < 1 || ws2_load16(at + 14) != 0)
        return corrupt(reader, "corrupt metadata (version or flags)");
    if (payload - WS2_HEADER_SIZE > WS2_BODY_MAX)
        return corrupt(reader, "metadata larger than 16 MiB");
    const size_t size = WS2_FRAME_SIZE + (size_t)payload;
    const int status = ws2_source_fill(&reader->source, size, &reader->error);
    if (status != WS2_OK)
        return status;
    if (ws2_source_have(&reader->source) < size)
        return truncated(reader);
    at = ws2_source_at(&reader->source);
    const uint32_t checksum = ws2_load32(at + 16);
    const struct ws2_slice body = {(const char *)at + WS2_BODY_AT, size - WS2_BODY_AT};
    if (ws2_checksum(body.text, body.size) != checksum)
        return corrupt(reader, "corrupt metadata (checksum)");
    *meta = (struct ws2_meta){(char)at[11], checksum, body, reader->source.consumed, size};
    return 1;
}

int ws2_meta_next(struct ws2_reader *reader, struct ws2_meta *meta)
{
    for (;;) {
        int status = ws2_source_fill(&reader->source, WS2_FRAME_SIZE, &reader->error);
        const size_t have = ws2_source_have(&reader->source);
        if (status != WS2_OK || have == 0)
            return status;
        const unsigned char *at = ws2_source_at(&reader->source);
        if (have < 4 || (ws2_load32(at) & WS2_SKIPPABLE_MASK) != WS2_SKIPPABLE_FIRST)
            return no_metadata(reader);
        if (have < WS2_FRAME_SIZE)
            return truncated(reader);
        const uint32_t payload = ws2_load32(at + 4);
        if (payload >= WS2_HEADER_SIZE) {
            status = ws2_source_fill(&reader->source, WS2_BODY_AT, &reader->error);
            if (status != WS2_OK)
                return status;
            if (ws2_source_have(&reader->source) < WS2_BODY_AT)
                return truncated(reader);
            if (is_ours(ws2_source_at(&reader->source), payload))
                return meta_check(reader, payload, meta);
        }
        uint64_t got;
        status = ws2_source_skip(&reader->source, WS2_FRAME_SIZE + (uint64_t)payload, &got, &reader->error);
        if (status != WS2_OK)
            return status;
        if (got < WS2_FRAME_SIZE + (uint64_t)payload)
            return truncated(reader);
    }
}

void ws2_meta_done(struct ws2_reader *reader, const struct ws2_meta *meta)
{
    ws2_source_consume(&reader->source, meta->size);
}

/* ---- HEAD, RECORD, TAIL ------------------------------------------------------------------------------- */

int ws2_reader_take_head(struct ws2_reader *reader, const struct ws2_meta *meta)
{
    if (meta->tag != 'H')
        return corrupt(reader, "corrupt: a RECORD or TAIL without a HEAD");
    struct ws2_head *head = ws2_head_parse(meta->body, &reader->error);
    if (head == NULL) {
        ws2_error_prefix(&reader->error, "%s", ws2_reader_label(reader));
        return reader->error.status;
    }
    ws2_head_free(reader->now.head);
    reader->now.head = head;
    reader->now.segment_start = meta->start;
    reader->now.records = 0;
    reader->now.frame = -1;
    reader->now.state = WS2_AT_RECORD;
    unsigned char checksum[4];
    ws2_store32(checksum, meta->checksum);
    ws2_running_reset(&reader->now.checksums);
    ws2_running_reset(&reader->now.offsets);
    ws2_running_add(&reader->now.checksums, checksum, sizeof checksum);
    ws2_meta_done(reader, meta);
    return 1;
}

static int tensor_fail(struct ws2_reader *reader, const struct ws2_record *record, int index,
                       const char *what)
{
    return ws2_fail(&reader->error, WS2_ERR_INPUT, "%s: frame %lld: tensor '%s' is corrupt (%s)",
                    ws2_reader_label(reader), (long long)ws2_record_frame(record),
                    ws2_record_name(record, index), what);
}

static int tensor_cut(struct ws2_reader *reader, const struct ws2_record *record, int index)
{
    return ws2_fail(&reader->error, WS2_ERR_TRUNCATED, "%s: frame %lld: truncated tensor '%s'",
                    ws2_reader_label(reader), (long long)ws2_record_frame(record),
                    ws2_record_name(record, index));
}

static int tensor_read(struct ws2_reader *reader, struct ws2_record *record, int index)
{
    const size_t size = ws2_record_packed_size(record, index);
    size_t have = 0, step = TENSOR_STEP;
    while (have < size) {
        const size_t want = size - have < step ? size - have : step;
        unsigned char *room = ws2_record_packed_room(record, index, have, have + want);
        if (room == NULL)
            return ws2_fail(&reader->error, WS2_ERR_SYSTEM, "%s: frame %lld: tensor '%s': out of memory",
                            ws2_reader_label(reader), (long long)ws2_record_frame(record),
                            ws2_record_name(record, index));
        size_t got;
        const int status = ws2_source_read(&reader->source, room + have, want, &got, &reader->error);
        if (status != WS2_OK)
            return status;
        if (got < want)
            return tensor_cut(reader, record, index);
        have += got;
        step = have;
    }
    const char *wrong = ws2_record_packed_check(record, index);
    return wrong == NULL ? WS2_OK : tensor_fail(reader, record, index, wrong);
}

/* Steps over the tensor; only its magic is looked at. */
static int tensor_pass(struct ws2_reader *reader, struct ws2_record *record, int index)
{
    const uint64_t size = ws2_record_packed_size(record, index);
    uint64_t got;
    int status = ws2_source_fill(&reader->source, 4, &reader->error);
    if (status != WS2_OK)
        return status;
    const bool magic =
        ws2_source_have(&reader->source) >= 4 && ws2_load32(ws2_source_at(&reader->source)) == WS2_ZSTD_MAGIC;
    status = ws2_source_skip(&reader->source, size, &got, &reader->error);
    if (status != WS2_OK)
        return status;
    if (got < size)
        return tensor_cut(reader, record, index);
    return magic ? WS2_OK : tensor_fail(reader, record, index, "frame header");
}

int ws2_reader_take_record(struct ws2_reader *reader, const struct ws2_meta *meta, struct ws2_record *record,
                           bool unseen)
{
    int status = ws2_record_parse(record, meta->body, reader->now.head, &reader->error);
    if (status != WS2_OK) {
        char text[300];
        const bool knows = strncmp(reader->error.text, "frame ", 6) == 0;
        ws2_error_prefix(&reader->error, "%s", knows ? ws2_reader_label(reader) : place(reader, text));
        return status;
    }
    ws2_meta_done(reader, meta);
    for (int i = 0; status == WS2_OK && i < ws2_record_tensors(record); i++)
        status = unseen ? tensor_pass(reader, record, i) : tensor_read(reader, record, i);
    if (status != WS2_OK) {
        ws2_record_clear(record);
        return status;
    }
    reader->now.frame = ws2_record_frame(record);
    return 1;
}

/* Compares the TAIL with what was read since the HEAD. */
static int take_tail(struct ws2_reader *reader, const struct ws2_meta *meta)
{
    const unsigned char *body = (const unsigned char *)meta->body.text;
    const size_t size = meta->body.size;
    char text[300];
    if (size < WS2_TAIL_BODY_MIN || (size - WS2_TAIL_BODY_MIN) % 8 != 0)
        return corrupt(reader, "corrupt TAIL (size)");
    const size_t table = size - WS2_TAIL_BODY_MIN;
    const unsigned char *footer = body + size - WS2_FOOTER_SIZE;
    if (ws2_load64(body) != table / 8)
        return corrupt(reader, "corrupt TAIL (count)");
    if (table / 8 != (uint64_t)reader->now.records)
        return ws2_fail(&reader->error, WS2_ERR_INPUT,
                        "%s: corrupt: the TAIL counts %zu records, %lld are there", place(reader, text),
                        table / 8, (long long)reader->now.records);
    struct ws2_running *offsets = &reader->now.offsets;
    const uint64_t read_offsets = ws2_running_value(offsets);
    ws2_running_reset(offsets);
    ws2_running_add(offsets, body + 16, table);
    if (ws2_load64(body + 8) != ws2_running_value(&reader->now.checksums))
        return corrupt(reader, "corrupt: the TAIL's hash does not fit the records");
    if (ws2_running_value(offsets) != read_offsets)
        return corrupt(reader, "corrupt TAIL (offsets)");
    if (ws2_load64(footer) != meta->size ||
        ws2_load64(footer + 8) != (uint64_t)(meta->start - reader->now.segment_start) + meta->size ||
        memcmp(footer + 16, WS2_END_MAGIC, 8) != 0)
        return corrupt(reader, "corrupt TAIL (footer)");
    ws2_meta_done(reader, meta);
    reader->now.state = WS2_AT_TAIL;
    return 0;
}

static int take_next(struct ws2_reader *reader, const struct ws2_meta *meta, struct ws2_record *record,
                     bool unseen)
{
    if (meta->tag == 'H')
        return corrupt(reader, "corrupt: a HEAD before the TAIL");
    if (meta->tag == 'T')
        return take_tail(reader, meta);
    if (reader->now.records == WS2_RECORDS_MAX)
        return corrupt(reader, "more than 2000000 records in a segment");
    unsigned char checksum[4], offset[8];
    ws2_store32(checksum, meta->checksum);
    ws2_store64(offset, (uint64_t)(meta->start - reader->now.segment_start));
    ws2_running_add(&reader->now.checksums, checksum, sizeof checksum);
    ws2_running_add(&reader->now.offsets, offset, sizeof offset);
    reader->now.records++;
    return ws2_reader_take_record(reader, meta, record, unseen);
}

int ws2_reader_step(struct ws2_reader *reader, struct ws2_record *record, bool unseen, int64_t *start)
{
    struct ws2_meta meta;
    int status = ws2_meta_next(reader, &meta);
    if (status == 0)
        status = truncated(reader);
    if (status < 0)
        return status;
    *start = meta.start;
    return take_next(reader, &meta, record, unseen);
}

/* ---- public ------------------------------------------------------------------------------------------- */

int ws2_reader_next(struct ws2_reader *reader, struct ws2_record *record)
{
    int64_t start;
    ws2_record_clear(record);
    if (reader->error.status != 0)
        return reader->error.status;
    if (reader->now.state == WS2_AT_RANDOM)
        return ws2_fail(&reader->error, WS2_ERR_USAGE, "%s: reading on after random access",
                        ws2_reader_label(reader));
    return reader->now.state == WS2_AT_RECORD ? ws2_reader_step(reader, record, false, &start) : 0;
}

int ws2_reader_next_segment(struct ws2_reader *reader)
{
    struct ws2_meta meta;
    if (reader->error.status != 0)
        return reader->error.status;
    if (reader->now.state == WS2_AT_END)
        return 0;
    if (reader->now.state != WS2_AT_TAIL && reader->now.state != WS2_AT_HEAD)
        return ws2_fail(&reader->error, WS2_ERR_USAGE, "%s: the segment is not read to its end",
                        ws2_reader_label(reader));
    const int status = ws2_meta_next(reader, &meta);
    if (status < 0)
        return status;
    if (status > 0)
        return ws2_reader_take_head(reader, &meta);
    if (reader->now.state == WS2_AT_HEAD)
        return truncated(reader);
    reader->now.state = WS2_AT_END;
    return 0;
}

int ws2_progress_open(struct ws2_progress *progress)
{
    *progress = (struct ws2_progress){.frame = -1};
    if (ws2_running_open(&progress->checksums) == WS2_OK && ws2_running_open(&progress->offsets) == WS2_OK)
        return WS2_OK;
    ws2_progress_close(progress);
    return WS2_ERR_SYSTEM;
}

void ws2_progress_close(struct ws2_progress *progress)
{
    ws2_running_close(&progress->checksums);
    ws2_running_close(&progress->offsets);
    ws2_head_free(progress->head);
    progress->head = NULL;
}

/* Finishes the opening of a reader whose source is open, or has failed with `status`. */
static int open_finish(struct ws2_reader **out, struct ws2_reader *reader, int status,
                       struct ws2_error *error)
{
    reader->segments = reader->current = -1;
    if (status == WS2_OK && ws2_progress_open(&reader->now) != WS2_OK)
        status = ws2_fail(&reader->error, WS2_ERR_SYSTEM, "%s: out of memory", reader->source.name);
    if (status == WS2_OK)
        status = ws2_reader_next_segment(reader);
    if (status == 1) {
        *out = reader;
        return WS2_OK;
    }
    ws2_fail(error, reader->error.status, "%s", reader->error.text);
    ws2_reader_close(reader);
    return status;
}

static struct ws2_reader *reader_new(struct ws2_reader **out, struct ws2_error *error)
{
    *out = NULL;
    struct ws2_reader *reader = ws2_calloc(1, sizeof *reader);
    if (reader == NULL)
        ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return reader;
}

int ws2_reader_open(struct ws2_reader **out, const char *path, struct ws2_error *error)
{
    struct ws2_reader *reader = reader_new(out, error);
    if (reader == NULL)
        return WS2_ERR_SYSTEM;
    return open_finish(out, reader, ws2_source_open(&reader->source, path, &reader->error), error);
}

int ws2_reader_open_file(struct ws2_reader **out, FILE *file, const char *name, struct ws2_error *error)
{
    struct ws2_reader *reader = reader_new(out, error);
    if (reader == NULL)
        return WS2_ERR_SYSTEM;
    return open_finish(out, reader, ws2_source_open_file(&reader->source, file, name, &reader->error), error);
}

void ws2_reader_close(struct ws2_reader *reader)
{
    if (reader == NULL)
        return;
    ws2_source_close(&reader->source);
    ws2_progress_close(&reader->now);
    ws2_index_free(reader);
    free(reader);
}

const struct ws2_error *ws2_reader_error(const struct ws2_reader *reader)
{
    return &reader->error;
}

const struct ws2_head *ws2_reader_head(const struct ws2_reader *reader)
{
    return reader->now.head;
}

int64_t ws2_reader_bytes(const struct ws2_reader *reader)
{
    return atomic_load_explicit(&reader->source.consumed, memory_order_relaxed);
}

int64_t ws2_reader_size(const struct ws2_reader *reader)
{
    return reader->source.size;
}

void ws2_reader_wake(struct ws2_reader *reader, int wake)
{
    reader->source.wake = wake;
}
