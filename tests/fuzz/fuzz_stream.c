/*
 * Fuzz target of the reader, the index and the unpacking; a libFuzzer target, and without libFuzzer a program:
 *
 *     fuzz_stream FILE...       runs every file once (crashes found elsewhere)
 *     fuzz_stream -s DIRECTORY  writes the seeds
 *
 * Checksums keep a fuzzer out of everything behind them. So each input is run as it is, with the checksums and
 * hashes repaired, and with the numbers of the TAIL repaired as well. Beside not crashing, it must hold that
 * what reads well can be indexed, has as many records there, and reads the same when written again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stream/internal.h"
#include "stream/stream.h"
#include "tests/fuzz/must.h"

enum { SIZE_MAX_INPUT = 1 << 18, UNPACK_MAX = 1 << 22 };

struct bytes {
    unsigned char *data;
    size_t size;
};

static void bytes_add(struct bytes *bytes, const void *data, size_t size)
{
    bytes->data = realloc(bytes->data, bytes->size + size + 1);
    MUST(bytes->data != NULL);
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

/* ---- running ------------------------------------------------------------------------------------------ */

struct outcome {
    int status;
    int64_t segments, records;
    uint64_t hash;
};

static void touch(struct outcome *outcome, const void *data, size_t size)
{
    outcome->hash = outcome->hash * 1000003u + ws2_checksum(data, size);
}

static void take(struct outcome *outcome, struct ws2_record *record)
{
    const int64_t frame = ws2_record_frame(record);
    touch(outcome, &frame, sizeof frame);
    for (int i = 0; i < ws2_record_tensors(record); i++) {
        struct ws2_error error = {0};
        struct ws2_tensor tensor;
        MUST(ws2_record_peek(record, ws2_record_name(record, i), &tensor) == 1);
        touch(outcome, tensor.name, strlen(tensor.name));
        if (tensor.bytes > UNPACK_MAX)
            continue;
        const int status = ws2_record_get(record, tensor.name, &tensor, &error);
        MUST(status == 1 || status == error.status);
        if (status == 1)
            touch(outcome, tensor.data, tensor.bytes);
    }
    outcome->records++;
}

/* All segments in order; what is read is written into writer, unless that is NULL. */
static struct outcome run_through(struct ws2_reader *reader, struct ws2_writer *writer)
{
    struct outcome outcome = {0};
    struct ws2_record *record = ws2_record_new();
    do {
        outcome.segments++;
        MUST(ws2_head_json(ws2_reader_head(reader)) != NULL);
        if (writer != NULL)
            MUST(ws2_writer_begin(writer, ws2_reader_head(reader)) == 0);
        while ((outcome.status = ws2_reader_next(reader, record)) == 1) {
            take(&outcome, record);
            if (writer != NULL)
                MUST(ws2_writer_put(writer, record) == 0);
        }
        if (outcome.status == 0 && writer != NULL)
            MUST(ws2_writer_end(writer) == 0);
        if (outcome.status == 0)
            outcome.status = ws2_reader_next_segment(reader);
    } while (outcome.status == 1);
    MUST(outcome.status == 0 || ws2_reader_error(reader)->text[0] != '\0');
    ws2_record_free(record);
    return outcome;
}

static struct outcome run_file(const struct bytes *bytes, struct ws2_writer *writer)
{
    struct outcome outcome = {.status = WS2_ERR_TRUNCATED};
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    if (bytes->size == 0)
        return outcome;
    FILE *file = fmemopen(bytes->data, bytes->size, "r");
    MUST(file != NULL);
    outcome.status = ws2_reader_open_file(&reader, file, "input", &error);
    MUST(outcome.status == error.status);
    if (outcome.status == 0) {
        outcome = run_through(reader, writer);
        ws2_reader_close(reader);
    }
    fclose(file);
    return outcome;
}

static struct outcome run_index(const struct bytes *bytes)
{
    struct outcome outcome = {0};
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    char path[64];
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, bytes->data, bytes->size) == (ssize_t)bytes->size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    outcome.status = ws2_reader_open(&reader, path, &error);
    if (outcome.status == 0) {
        struct ws2_record *record = ws2_record_new();
        outcome.status = ws2_reader_index(reader, &outcome.segments, &outcome.records);
        const int64_t count = outcome.status == 0 ? outcome.records : 0, segments = outcome.segments;
        outcome.records = 0;
        for (int64_t i = 0; i < count && outcome.status >= 0; i++) {
            outcome.status = ws2_reader_at(reader, i, record);
            if (outcome.status == 1)
                take(&outcome, record);
        }
        for (int64_t i = 0, first, in; i < segments && outcome.status >= 0; i++)
            outcome.status = ws2_reader_segment(reader, i, &first, &in);
        ws2_record_free(record);
        ws2_reader_close(reader);
    }
    close(fd);
    return outcome;
}

static bool has_foreign_frames(const struct bytes *bytes)
{
    for (size_t at = 0; at + 12 <= bytes->size;) {
        const uint32_t magic = ws2_load32(bytes->data + at);
        if ((magic & WS2_SKIPPABLE_MASK) != WS2_SKIPPABLE_FIRST) {
            const unsigned char *next = memmem(bytes->data + at + 1, bytes->size - at - 1, "\x2A\x4D\x18", 3);
            if (next == NULL)
                return false;
            at = (size_t)(next - bytes->data) - 1;
            continue;
        }
        if (magic != WS2_SKIPPABLE_MAGIC || memcmp(bytes->data + at + 8, "WS2", 3) != 0)
            return true;
        at += 8 + (size_t)ws2_load32(bytes->data + at + 4);
    }
    return false;
}

static void run(const struct bytes *bytes)
{
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    const struct outcome indexed = run_index(bytes), read = run_file(bytes, NULL);
    if (read.status != 0)
        return;
    if (!has_foreign_frames(bytes))
        MUST(indexed.status >= 0 && indexed.records == read.records && indexed.segments == read.segments &&
             indexed.hash == read.hash);
    struct bytes again = {0};
    char *data;
    FILE *file = open_memstream(&data, &again.size);
    MUST(file != NULL && ws2_writer_open_file(&writer, file, "output", 3, &error) == 0);
    const struct outcome copied = run_file(bytes, writer);
    MUST(ws2_writer_close(writer, &error) == 0);
    fclose(file);
    again.data = (unsigned char *)data;
    const struct outcome second = run_file(&again, NULL);
    MUST(copied.hash == read.hash && second.status == 0 && second.hash == read.hash);
    free(data);
}

/* ---- repairing ---------------------------------------------------------------------------------------- */

/* Copies a RECORD's JSON with each "hash" set to that of the tensor at `tensors`, as far as there is one. */
static void repair_record(struct bytes *out, const char *body, size_t size, const unsigned char *tensors,
                          size_t left)
{
    const char *end = body + size;
    while (body < end) {
        const char *hash = memmem(body, (size_t)(end - body), "\"hash\":", 7);
        const char *packed = hash != NULL ? memmem(hash, (size_t)(end - hash), "\"packed\":", 9) : NULL;
        if (packed == NULL)
            break;
        char digits[24] = {0}, number[16];
        memcpy(digits, packed + 9, (size_t)(end - packed - 9) < 20 ? (size_t)(end - packed - 9) : 20);
        const size_t want = strtoull(digits, NULL, 10);
        if (want > left)
            break;
        bytes_add(out, body, (size_t)(hash + 7 - body));
        bytes_add(out, number, (size_t)snprintf(number, sizeof number, "%u", ws2_checksum(tensors, want)));
        body = hash + 7;
        while (body < end && *body >= '0' && *body <= '9')
            body++;
        bytes_add(out, body, (size_t)(packed + 9 - body));
        body = packed + 9;
        tensors += want;
        left -= want;
    }
    bytes_add(out, body, (size_t)(end - body));
}

struct repair {
    struct bytes out, offsets, checksums;
    size_t start; /* of the segment */
};

static void repair_frame(struct repair *repair, const unsigned char *frame, const struct bytes *body,
                         bool tail)
{
    unsigned char header[WS2_BODY_AT], number[8];
    const char tag = (char)frame[11];
    struct bytes *out = &repair->out;
    const size_t start = out->size;
    memcpy(header, frame, sizeof header);
    ws2_store32(header + 4, (uint32_t)(WS2_HEADER_SIZE + body->size));
    bytes_add(out, header, sizeof header);
    if (tag == 'H') {
        repair->start = start;
        repair->offsets.size = repair->checksums.size = 0;
    }
    if (tag == 'T' && tail) {
        struct ws2_running running;
        MUST(ws2_running_open(&running) == 0);
        ws2_running_add(&running, repair->checksums.data, repair->checksums.size);
        const uint64_t size = WS2_BODY_AT + WS2_TAIL_BODY_MIN + repair->offsets.size;
        const uint64_t numbers[] = {repair->offsets.size / 8, ws2_running_value(&running), size,
                                    start - repair->start + size};
        for (int i = 0; i < 4; i++) {
            ws2_store64(number, numbers[i]);
            bytes_add(out, number, 8);
            if (i == 1)
                bytes_add(out, repair->offsets.data, repair->offsets.size);
        }
        bytes_add(out, WS2_END_MAGIC, 8);
        ws2_running_close(&running);
        ws2_store32(out->data + start + 4, (uint32_t)(out->size - start - WS2_FRAME_SIZE));
    } else {
        bytes_add(out, body->data, body->size);
    }
    unsigned char *at = out->data + start;
    ws2_store32(at + 16, ws2_checksum(at + WS2_BODY_AT, out->size - start - WS2_BODY_AT));
    bytes_add(&repair->checksums, at + 16, 4);
    if (tag == 'R') {
        ws2_store64(number, start - repair->start);
        bytes_add(&repair->offsets, number, 8);
    }
}

static void run_repaired(const unsigned char *data, size_t size, bool tail)
{
    struct repair repair = {0};
    size_t at = 0;
    while (at < size) {
        const uint32_t payload = size - at >= WS2_BODY_AT ? ws2_load32(data + at + 4) : 0;
        const bool ours = payload >= WS2_HEADER_SIZE && ws2_load32(data + at) == WS2_SKIPPABLE_MAGIC &&
                          payload <= size - at - WS2_FRAME_SIZE && memcmp(data + at + 8, "WS2", 3) == 0;
        if (!ours) {
            bytes_add(&repair.out, data + at++, 1);
            continue;
        }
        struct bytes body = {0};
        const size_t next = at + WS2_FRAME_SIZE + payload;
        if (data[at + 11] == 'R')
            repair_record(&body, (const char *)data + at + WS2_BODY_AT, payload - WS2_HEADER_SIZE,
                          data + next, size - next);
        else
            bytes_add(&body, data + at + WS2_BODY_AT, payload - WS2_HEADER_SIZE);
        repair_frame(&repair, data + at, &body, tail);
        free(body.data);
        at = next;
    }
    run(&repair.out);
    free(repair.out.data);
    free(repair.offsets.data);
    free(repair.checksums.data);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size > SIZE_MAX_INPUT)
        return 0;
    struct bytes bytes = {0};
    bytes_add(&bytes, data, size);
    run(&bytes);
    free(bytes.data);
    run_repaired(data, size, false);
    run_repaired(data, size, true);
    return 0;
}

/* ---- as a program ------------------------------------------------------------------------------------- */

#ifndef WS2_LIBFUZZER

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    struct bytes bytes = {0};
    char part[4096];
    for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;)
        bytes_add(&bytes, part, got);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes.data, bytes.size);
    free(bytes.data);
}

/* One segment; kind decides what is in it. */
static void seed_segment(struct ws2_writer *writer, int kind)
{
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    static const char *const classes[] = {"a", "b"}, *const options[] = {"k=v"};
    const struct ws2_history entry = {"p", "1", options, 1, true, 5, "m"};
    ws2_head_set_seq(head, "s");
    if (kind & 1) {
        ws2_head_set_role(head, WS2_ROLE_AFTER);
        ws2_head_set_size(head, 4, 3);
        ws2_head_set_rate(head, 25, 1);
        ws2_head_set_classes(head, classes, 2);
        ws2_head_set_note(head, "n", "t");
        ws2_head_add_history(head, &entry);
    }
    for (int i = 0; i < WS2_DTYPES; i++)
        ws2_head_add_tensor(head, ws2_dtype_name((enum ws2_dtype)i), (enum ws2_dtype)i, "h", "u", &error);
    MUST(ws2_writer_begin(writer, head) == 0);
    for (int frame = 0; frame < (kind & 6); frame++) {
        ws2_record_clear(record);
        ws2_record_set_frame(record, frame, frame);
        for (int i = 0; i <= frame % 3; i++) {
            const enum ws2_dtype dtype = (enum ws2_dtype)((kind + i + frame) % WS2_DTYPES);
            const struct ws2_shape shape = {i, {kind % 5, 3, 4}};
            size_t size;
            ws2_shape_bytes(&shape, dtype, &size);
            unsigned char *data = ws2_record_add(record, ws2_dtype_name(dtype), dtype, &shape, &error);
            MUST(data != NULL);
            for (size_t k = 0; k < size; k++)
                data[k] = (unsigned char)(k * k % 7);
        }
        MUST(ws2_writer_put(writer, record) == 0);
    }
    MUST(ws2_writer_end(writer) == 0);
    ws2_record_free(record);
    ws2_head_free(head);
}

static void write_seeds(const char *directory)
{
    for (int kind = 0; kind < 24; kind++) {
        struct ws2_error error = {0};
        struct ws2_writer *writer;
        char path[4096];
        snprintf(path, sizeof path, "%s/seed%02d.ws2", directory, kind);
        if (ws2_writer_open(&writer, path, kind % 8 - 3, &error) != 0) {
            fprintf(stderr, "%s\n", error.text);
            exit(1);
        }
        for (int i = 0; i <= kind / 8; i++)
            seed_segment(writer, kind + i);
        MUST(ws2_writer_close(writer, &error) == 0);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "-s") == 0) {
        write_seeds(argv[2]);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    return 0;
}

#endif
