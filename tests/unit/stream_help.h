/* What the tests of streams share: streams in memory, raw frames made by hand, and a reader that takes all. */
#ifndef WS2_TEST_STREAM_HELP_H
#define WS2_TEST_STREAM_HELP_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "stream/internal.h"
#include "stream/stream.h"

struct bytes {
    unsigned char *data;
    size_t size;
};

static inline void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static inline void bytes_add(struct bytes *bytes, const void *data, size_t size)
{
    bytes->data = realloc(bytes->data, bytes->size + size + 1);
    assert_non_null(bytes->data);
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static inline void bytes_puts(struct bytes *bytes, const char *text)
{
    bytes_add(bytes, text, strlen(text));
}

static inline bool bytes_equal(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* ---- raw frames --------------------------------------------------------------------------------------- */

static inline void add_frame(struct bytes *bytes, const char *tag, unsigned version, unsigned flags,
                             const void *body, size_t size)
{
    unsigned char head[WS2_BODY_AT];
    ws2_store32(head, WS2_SKIPPABLE_MAGIC);
    ws2_store32(head + 4, (uint32_t)(WS2_HEADER_SIZE + size));
    memcpy(head + 8, tag, 4);
    ws2_store16(head + 12, (uint16_t)version);
    ws2_store16(head + 14, (uint16_t)flags);
    ws2_store32(head + 16, ws2_checksum(body, size));
    bytes_add(bytes, head, sizeof head);
    bytes_add(bytes, body, size);
}

static inline void add_text(struct bytes *bytes, const char *tag, const char *json)
{
    add_frame(bytes, tag, 1, 0, json, strlen(json));
}

/* A skippable frame that is none of ours. */
static inline void add_foreign(struct bytes *bytes, uint32_t magic, const char *payload)
{
    unsigned char head[8];
    ws2_store32(head, magic);
    ws2_store32(head + 4, (uint32_t)strlen(payload));
    bytes_add(bytes, head, sizeof head);
    bytes_add(bytes, payload, strlen(payload));
}

/* ---- writing into memory ------------------------------------------------------------------------------ */

struct sink {
    struct ws2_writer *writer;
    FILE *file;
    char *data;
    size_t size;
};

static inline void sink_open(struct sink *sink, int level)
{
    struct ws2_error error = {0};
    *sink = (struct sink){0};
    sink->file = open_memstream(&sink->data, &sink->size);
    assert_non_null(sink->file);
    assert_int_equal(ws2_writer_open_file(&sink->writer, sink->file, "sink", level, &error), 0);
}

/* What was written, whether or not the writer ended well (then its status is in *status). */
static inline struct bytes sink_close(struct sink *sink, int *status)
{
    struct ws2_error error = {0};
    const int closed = ws2_writer_close(sink->writer, &error);
    if (status != NULL)
        *status = closed;
    else
        assert_int_equal(closed, 0);
    fclose(sink->file);
    return (struct bytes){(unsigned char *)sink->data, sink->size};
}

/* Numbers that compress somewhat, so that blocks of several kinds occur. */
static inline void fill(void *data, size_t size, uint64_t seed)
{
    struct ws2_random random = ws2_random_make(seed, 1);
    unsigned char *at = data;
    for (size_t i = 0; i < size; i++) {
        const bool noise = ws2_random_below(&random, 4) == 0;
        at[i] = (unsigned char)(noise ? (size_t)ws2_random_below(&random, 40) : i / 16);
    }
}

/* One segment: `frames` records of a mask, and in every second one a map. */
static inline void write_segment(struct ws2_writer *writer, const char *seq, int frames, int side)
{
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    assert_int_equal(ws2_head_set_seq(head, seq), 0);
    assert_int_equal(ws2_head_add_tensor(head, "fg", WS2_U8, "h,w", "0/1", &error), 0);
    assert_int_equal(ws2_head_add_tensor(head, "cam", WS2_F32, "c,h,w", "", &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    for (int i = 0; i < frames; i++) {
        const struct ws2_shape flat = ws2_shape_2(side, side), deep = ws2_shape_3(2, side, side);
        ws2_record_clear(record);
        ws2_record_set_frame(record, 10 + i, i * 40000);
        fill(ws2_record_add(record, "fg", WS2_U8, &flat, &error), (size_t)(side * side), (uint64_t)i);
        if (i % 2 == 0)
            fill(ws2_record_add(record, "cam", WS2_F32, &deep, &error), (size_t)(8 * side * side),
                 (uint64_t)i);
        assert_int_equal(ws2_writer_put(writer, record), 0);
    }
    assert_int_equal(ws2_writer_end(writer), 0);
    ws2_record_free(record);
    ws2_head_free(head);
}

static inline struct bytes make_stream(int segments, int frames, int side)
{
    static const char *const names[] = {"bear", "crow", "deer", "elk"};
    struct sink sink;
    sink_open(&sink, 3);
    for (int i = 0; i < segments; i++)
        write_segment(sink.writer, names[i % 4], frames, side);
    return sink_close(&sink, NULL);
}

/* The stream that the page shows byte by byte: one record, a mask of 2 x 3. */
static inline struct bytes make_example(void)
{
    struct ws2_error error = {0};
    struct sink sink;
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    const struct ws2_shape shape = ws2_shape_2(2, 3);
    sink_open(&sink, 3);
    ws2_head_set_seq(head, "tiny");
    ws2_head_add_tensor(head, "fg", WS2_U8, "h,w", "", &error);
    ws2_record_set_frame(record, 7, 280000);
    assert_int_equal(ws2_record_put(record, "fg", WS2_U8, &shape, "\0\0\1\0\1\1", &error), 0);
    assert_int_equal(ws2_writer_begin(sink.writer, head), 0);
    assert_int_equal(ws2_writer_put(sink.writer, record), 0);
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    ws2_record_free(record);
    ws2_head_free(head);
    return sink_close(&sink, NULL);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

/* A file without a name that holds the bytes; its path goes to `path`. Close the descriptor. */
static inline int memory_file(const struct bytes *bytes, char path[64])
{
    const int fd = memfd_create("ws2-test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    if (bytes->size > 0)
        assert_int_equal(write(fd, bytes->data, bytes->size), (ssize_t)bytes->size);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

struct outcome {
    int status; /* 0 when all was read */
    int segments;
    int64_t records;
    uint64_t hash; /* over frame numbers, names, shapes and bytes */
    struct ws2_error error;
};

static inline void outcome_add(struct outcome *outcome, const void *data, size_t size)
{
    outcome->hash = outcome->hash * 1000003u + ws2_checksum(data, size);
}

static inline int take_record(struct outcome *outcome, struct ws2_record *record)
{
    const int64_t stamp[2] = {ws2_record_frame(record), ws2_record_pts(record)};
    outcome_add(outcome, stamp, sizeof stamp);
    for (int i = 0; i < ws2_record_tensors(record); i++) {
        struct ws2_tensor tensor;
        const int got = ws2_record_get(record, ws2_record_name(record, i), &tensor, &outcome->error);
        if (got < 0)
            return got;
        assert_int_equal(got, 1);
        assert_int_equal((uintptr_t)tensor.data % 64, 0);
        outcome_add(outcome, tensor.name, strlen(tensor.name));
        outcome_add(outcome, &tensor.shape.rank, sizeof tensor.shape.rank);
        outcome_add(outcome, tensor.shape.dim, (size_t)tensor.shape.rank * sizeof tensor.shape.dim[0]);
        outcome_add(outcome, tensor.data, tensor.bytes);
    }
    outcome->records++;
    return 1;
}

/* Reads every segment, record and tensor; takes over the reader. */
static inline void read_rest(struct outcome *outcome, struct ws2_reader *reader)
{
    struct ws2_record *record = ws2_record_new();
    do {
        outcome->segments++;
        while ((outcome->status = ws2_reader_next(reader, record)) == 1) {
            outcome->status = take_record(outcome, record);
            if (outcome->status < 0)
                break;
        }
        if (outcome->status == 0)
            outcome->status = ws2_reader_next_segment(reader);
    } while (outcome->status == 1);
    if (outcome->status < 0 && outcome->error.status == 0)
        outcome->error = *ws2_reader_error(reader);
    assert_int_equal(outcome->error.status, outcome->status);
    ws2_record_free(record);
    ws2_reader_close(reader);
}

static inline struct outcome read_path(const char *path)
{
    struct outcome outcome = {0};
    struct ws2_reader *reader;
    outcome.status = ws2_reader_open(&reader, path, &outcome.error);
    if (outcome.status == 0)
        read_rest(&outcome, reader);
    else
        assert_null(reader);
    return outcome;
}

/* Through a descriptor. */
static inline struct outcome read_bytes(const struct bytes *bytes)
{
    char path[64];
    const int fd = memory_file(bytes, path);
    const struct outcome outcome = read_path(path);
    close(fd);
    return outcome;
}

/* Through a FILE. */
static inline struct outcome read_file_bytes(const struct bytes *bytes)
{
    struct outcome outcome = {0};
    struct ws2_reader *reader;
    FILE *file = bytes->size > 0 ? fmemopen(bytes->data, bytes->size, "r") : fopen("/dev/null", "r");
    assert_non_null(file);
    outcome.status = ws2_reader_open_file(&reader, file, "memory", &outcome.error);
    if (outcome.status == 0)
        read_rest(&outcome, reader);
    fclose(file);
    return outcome;
}

/* Every record through the index, in order. */
static inline struct outcome read_random(const struct bytes *bytes)
{
    struct outcome outcome = {0};
    struct ws2_reader *reader;
    char path[64];
    int64_t segments = 0, records = 0;
    const int fd = memory_file(bytes, path);
    outcome.status = ws2_reader_open(&reader, path, &outcome.error);
    if (outcome.status == 0) {
        struct ws2_record *record = ws2_record_new();
        outcome.status = ws2_reader_index(reader, &segments, &records);
        for (int64_t i = 0; outcome.status >= 0 && i < records; i++) {
            outcome.status = ws2_reader_at(reader, i, record);
            if (outcome.status == 1)
                outcome.status = take_record(&outcome, record);
        }
        if (outcome.status < 0 && outcome.error.status == 0)
            outcome.error = *ws2_reader_error(reader);
        if (outcome.status > 0)
            outcome.status = 0;
        outcome.segments = (int)segments;
        ws2_record_free(record);
        ws2_reader_close(reader);
    }
    close(fd);
    return outcome;
}

#endif
