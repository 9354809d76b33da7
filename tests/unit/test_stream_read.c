/* Reading streams: what goes in comes out, whole, in pieces, at random and by zstd's own means. */
#include <pthread.h>
#include <signal.h>
#include <zstd.h>

#include "stream_help.h"

/* ---- round trips -------------------------------------------------------------------------------------- */

struct sample {
    const char *name;
    enum ws2_dtype dtype;
    struct ws2_shape shape;
};

/* All types, a scalar, all axes, and nothing at all in several ways. */
static const struct sample samples[] = {
    {"u8", WS2_U8, {2, {7, 9}}},
    {"i8", WS2_I8, {1, {1000}}},
    {"u16", WS2_U16, {3, {2, 3, 5}}},
    {"i16", WS2_I16, {1, {1}}},
    {"i32", WS2_I32, {4, {2, 2, 2, 2}}},
    {"i64", WS2_I64, {0, {0}}},
    {"f16", WS2_F16, {3, {3, 40, 50}}},
    {"f32", WS2_F32, {8, {1, 2, 1, 3, 1, 2, 1, 5}}},
    {"f64", WS2_F64, {2, {300, 70}}},
    {"empty.first", WS2_F32, {2, {0, 4}}},
    {"empty_last", WS2_U8, {3, {4, 5, 0}}},
    {"empty-one", WS2_I64, {1, {0}}},
};
enum { SAMPLES = sizeof samples / sizeof samples[0] };

static struct bytes make_samples(int level, int frames)
{
    struct ws2_error error = {0};
    struct sink sink;
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    sink_open(&sink, level);
    for (int i = 0; i < SAMPLES; i++)
        assert_int_equal(ws2_head_add_tensor(head, samples[i].name, samples[i].dtype, "a", "unit", &error),
                         0);
    assert_int_equal(ws2_writer_begin(sink.writer, head), 0);
    for (int frame = 0; frame < frames; frame++) {
        ws2_record_clear(record);
        ws2_record_set_frame(record, frame, -1);
        for (int i = 0; i < SAMPLES; i++) {
            size_t size;
            assert_true(ws2_shape_bytes(&samples[i].shape, samples[i].dtype, &size));
            unsigned char *data =
                ws2_record_add(record, samples[i].name, samples[i].dtype, &samples[i].shape, &error);
            assert_non_null(data);
            assert_int_equal((uintptr_t)data % 64, 0);
            fill(data, size, (uint64_t)(frame * SAMPLES + i));
        }
        assert_int_equal(ws2_writer_put(sink.writer, record), 0);
    }
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    assert_int_equal(ws2_writer_records(sink.writer), frames);
    assert_int_equal(ws2_writer_level(sink.writer), level);
    ws2_record_free(record);
    ws2_head_free(head);
    return sink_close(&sink, NULL);
}

static void check_sample(struct ws2_record *record, int frame, int i)
{
    struct ws2_error error = {0};
    struct ws2_tensor tensor;
    size_t size;
    ws2_shape_bytes(&samples[i].shape, samples[i].dtype, &size);
    assert_string_equal(ws2_record_name(record, i), samples[i].name);
    assert_int_equal(ws2_record_peek(record, samples[i].name, &tensor), 1);
    assert_null(tensor.data);
    assert_int_equal(tensor.bytes, size);
    assert_int_equal(
        ws2_record_want(record, samples[i].name, samples[i].dtype, samples[i].shape.rank, &tensor, &error),
        1);
    assert_non_null(tensor.data);
    assert_int_equal((uintptr_t)tensor.data % 64, 0);
    assert_true(ws2_shape_equal(&tensor.shape, &samples[i].shape));
    assert_int_equal(tensor.dtype, samples[i].dtype);
    unsigned char *expected = malloc(size + 1);
    fill(expected, size, (uint64_t)(frame * SAMPLES + i));
    assert_memory_equal(tensor.data, expected, size);
    free(expected);
}

static void every_type_and_shape_comes_back(void **state)
{
    (void)state;
    static const int level[] = {WS2_LEVEL_PIPE, 1, WS2_LEVEL_REST, 19};
    for (int n = 0; n < 4; n++) {
        struct ws2_error error = {0};
        struct ws2_reader *reader;
        char path[64];
        struct bytes bytes = make_samples(level[n], 3);
        const int fd = memory_file(&bytes, path);
        struct ws2_record *record = ws2_record_new();
        assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
        assert_int_equal(ws2_reader_size(reader), bytes.size);
        for (int frame = 0; frame < 3; frame++) {
            assert_int_equal(ws2_reader_next(reader, record), 1);
            assert_int_equal(ws2_record_frame(record), frame);
            assert_int_equal(ws2_record_pts(record), -1);
            assert_int_equal(ws2_record_tensors(record), SAMPLES);
            for (int i = 0; i < SAMPLES; i++)
                check_sample(record, frame, i);
        }
        assert_int_equal(ws2_reader_next(reader, record), 0);
        assert_int_equal(ws2_reader_next_segment(reader), 0);
        assert_int_equal(ws2_reader_next_segment(reader), 0);
        assert_int_equal(ws2_reader_next(reader, record), 0);
        assert_int_equal(ws2_reader_bytes(reader), bytes.size);
        ws2_reader_close(reader);
        ws2_record_free(record);
        close(fd);
        bytes_free(&bytes);
    }
}

static void a_stream_without_records_is_complete(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(2, 0, 4);
    struct outcome outcome = read_bytes(&bytes);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(outcome.segments, 2);
    assert_int_equal(outcome.records, 0);
    assert_int_equal(read_file_bytes(&bytes).status, 0);
    outcome = read_random(&bytes);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(outcome.segments, 2);
    bytes_free(&bytes);
}

/* A record may have no tensors at all, and one may have 64. */
static void records_of_no_and_of_many_tensors(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct sink sink;
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    const struct ws2_shape shape = ws2_shape_1(3);
    char name[16];
    sink_open(&sink, 3);
    for (int i = 0; i < WS2_TENSORS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(ws2_head_add_tensor(head, name, WS2_I16, "", "", &error), 0);
    }
    assert_int_equal(ws2_head_add_tensor(head, "more", WS2_I16, "", "", &error), WS2_ERR_USAGE);
    assert_int_equal(ws2_writer_begin(sink.writer, head), 0);
    ws2_record_set_frame(record, 0, 0);
    assert_int_equal(ws2_writer_put(sink.writer, record), 0);
    for (int i = 0; i < WS2_TENSORS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_non_null(ws2_record_add(record, name, WS2_I16, &shape, &error));
    }
    error = (struct ws2_error){0};
    assert_null(ws2_record_add(record, "more", WS2_I16, &shape, &error));
    assert_int_equal(error.status, WS2_ERR_USAGE);
    ws2_record_clear(record);
    for (int i = 0; i < WS2_TENSORS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        error = (struct ws2_error){0};
        assert_int_equal(ws2_record_put(record, name, WS2_I16, &shape, "abcdef", &error), 0);
    }
    assert_int_equal(ws2_writer_put(sink.writer, record), 0);
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    struct bytes bytes = sink_close(&sink, NULL);
    assert_int_equal(read_bytes(&bytes).status, 0);
    assert_int_equal(read_bytes(&bytes).records, 2);
    bytes_free(&bytes);
    ws2_record_free(record);
    ws2_head_free(head);
}

struct pump {
    int fd;
    const struct bytes *bytes;
    size_t step;
};

/* Writes the bytes in small uneven pieces, as a slow producer does. */
static void *pump_main(void *argument)
{
    const struct pump *pump = argument;
    size_t at = 0, step = pump->step;
    while (at < pump->bytes->size) {
        const size_t rest = pump->bytes->size - at;
        const ssize_t done = write(pump->fd, pump->bytes->data + at, rest < step ? rest : step);
        if (done <= 0)
            break;
        at += (size_t)done;
        step = pump->step + (at * 2654435761u >> 7) % pump->step;
    }
    close(pump->fd);
    return NULL;
}

static struct outcome read_pipe(const struct bytes *bytes, size_t step)
{
    int ends[2];
    char path[64];
    pthread_t thread;
    assert_int_equal(pipe(ends), 0);
    struct pump pump = {ends[1], bytes, step};
    assert_int_equal(pthread_create(&thread, NULL, pump_main, &pump), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    const struct outcome outcome = read_path(path);
    close(ends[0]);
    pthread_join(thread, NULL);
    return outcome;
}

static void a_pipe_in_pieces_gives_the_same(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(2, 3, 12);
    const struct outcome whole = read_bytes(&bytes);
    assert_int_equal(whole.status, 0);
    for (size_t step = 1; step < 2000; step = step * 3 + 1) {
        const struct outcome pieces = read_pipe(&bytes, step);
        assert_int_equal(pieces.status, 0);
        assert_int_equal(pieces.records, 6);
        assert_true(pieces.hash == whole.hash);
    }
    bytes_free(&bytes);
}

static void tensors_larger_than_a_pipe(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct sink sink;
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    const struct ws2_shape shape = ws2_shape_3(1800, 1800, 3);
    sink_open(&sink, WS2_LEVEL_PIPE);
    ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error);
    assert_int_equal(ws2_writer_begin(sink.writer, head), 0);
    for (int i = 0; i < 2; i++) {
        ws2_record_clear(record);
        ws2_record_set_frame(record, i, i);
        unsigned char *data = ws2_record_add(record, "rgb", WS2_U8, &shape, &error);
        struct ws2_random random = ws2_random_make(9, (uint64_t)i);
        for (size_t k = 0; k < 1800 * 1800 * 3; k += 4) {
            const uint32_t noise = (uint32_t)ws2_random_u64(&random);
            memcpy(data + k, &noise, 4);
        }
        assert_int_equal(ws2_writer_put(sink.writer, record), 0);
    }
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    struct bytes bytes = sink_close(&sink, NULL);
    assert_true(bytes.size > 2 * 9 * 1000 * 1000);
    const struct outcome whole = read_bytes(&bytes), piped = read_pipe(&bytes, 1 << 20);
    assert_int_equal(whole.status, 0);
    assert_int_equal(piped.status, 0);
    assert_true(whole.hash == piped.hash);
    /* A cut far inside, beyond the first step of memory. */
    struct bytes cut = {bytes.data, bytes.size - 200000};
    const struct outcome broken = read_bytes(&cut);
    assert_int_equal(broken.status, WS2_ERR_TRUNCATED);
    assert_non_null(strstr(broken.error.text, "frame 1: truncated tensor 'rgb'"));
    bytes_free(&bytes);
    ws2_record_free(record);
    ws2_head_free(head);
}

/* ---- zstd's view -------------------------------------------------------------------------------------- */

/* What `zstd -t` and `zstd -dc` do: decode the file as a stream, skippable frames and all. */
static void a_stream_is_a_zstd_file(void **state)
{
    (void)state;
    struct bytes bytes = make_samples(3, 2), out = {0}, want = {0};
    ZSTD_DStream *stream = ZSTD_createDStream();
    ZSTD_inBuffer in = {bytes.data, bytes.size, 0};
    size_t left = 1;
    while (in.pos < in.size) {
        char part[1000];
        ZSTD_outBuffer to = {part, sizeof part, 0};
        left = ZSTD_decompressStream(stream, &to, &in);
        assert_false(ZSTD_isError(left));
        bytes_add(&out, part, to.pos);
    }
    assert_int_equal(left, 0);
    for (int n = 0; n < 2 * SAMPLES; n++) {
        size_t size;
        ws2_shape_bytes(&samples[n % SAMPLES].shape, samples[n % SAMPLES].dtype, &size);
        unsigned char *data = malloc(size + 1);
        fill(data, size, (uint64_t)n);
        bytes_add(&want, data, size);
        free(data);
    }
    assert_true(bytes_equal(&out, &want));
    ZSTD_freeDStream(stream);
    bytes_free(&out);
    bytes_free(&want);
    bytes_free(&bytes);
}

/* ---- random access ------------------------------------------------------------------------------------ */

static void any_frame_can_be_read(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    char path[64];
    int64_t segments, count, first;
    struct bytes bytes = make_stream(3, 5, 9), empty = make_stream(2, 0, 9), joined = {0};
    bytes_add(&joined, bytes.data, bytes.size);
    bytes_add(&joined, empty.data, empty.size);
    bytes_add(&joined, bytes.data, bytes.size);
    const int fd = memory_file(&joined, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    /* In the middle of a pass: the index must not disturb it. */
    assert_int_equal(ws2_reader_next(reader, record), 1);
    assert_int_equal(ws2_reader_index(reader, &segments, &count), 0);
    assert_int_equal(segments, 8);
    assert_int_equal(count, 30);
    assert_int_equal(ws2_reader_next(reader, record), 1);
    assert_int_equal(ws2_record_frame(record), 11);
    static const char *const names[] = {"bear", "crow", "deer"};
    struct ws2_random random = ws2_random_make(5, 5);
    for (int i = 0; i < 200; i++) {
        const int64_t index = ws2_random_below(&random, 30);
        assert_int_equal(ws2_reader_at(reader, index, record), 1);
        assert_int_equal(ws2_record_frame(record), 10 + index % 5);
        assert_string_equal(ws2_head_seq(ws2_reader_head(reader)), names[index / 5 % 3]);
        struct ws2_tensor tensor;
        unsigned char expected[81];
        fill(expected, sizeof expected, (uint64_t)(index % 5));
        assert_int_equal(ws2_record_get(record, "fg", &tensor, &error), 1);
        assert_memory_equal(tensor.data, expected, sizeof expected);
    }
    assert_int_equal(ws2_reader_segment(reader, 3, &first, &count), 0);
    assert_int_equal(first, 15);
    assert_int_equal(count, 0);
    assert_int_equal(ws2_reader_segment(reader, 7, &first, &count), 0);
    assert_int_equal(first, 25);
    assert_int_equal(count, 5);
    assert_string_equal(ws2_head_seq(ws2_reader_head(reader)), "deer");
    assert_int_equal(ws2_reader_next(reader, record), WS2_ERR_USAGE);
    ws2_reader_close(reader);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_int_equal(ws2_reader_at(reader, 30, record), WS2_ERR_USAGE);
    ws2_reader_close(reader);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_int_equal(ws2_reader_at(reader, -1, record), WS2_ERR_USAGE);
    ws2_reader_close(reader);
    ws2_record_free(record);
    close(fd);
    bytes_free(&joined);
    bytes_free(&empty);
    bytes_free(&bytes);
}

static void a_file_pointer_gives_random_access_too(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    int64_t segments, count;
    struct bytes bytes = make_stream(2, 4, 9), padded = {0};
    bytes_puts(&padded, "sixteen bytes!!!");
    bytes_add(&padded, bytes.data, bytes.size);
    FILE *file = fmemopen(padded.data, padded.size, "r");
    assert_int_equal(fseek(file, 16, SEEK_SET), 0); /* a stream that begins somewhere in a file */
    assert_int_equal(ws2_reader_open_file(&reader, file, "part", &error), 0);
    assert_int_equal(ws2_reader_size(reader), bytes.size);
    assert_int_equal(ws2_reader_index(reader, &segments, &count), 0);
    assert_int_equal(count, 8);
    for (int64_t i = 7; i >= 0; i--) {
        assert_int_equal(ws2_reader_at(reader, i, record), 1);
        assert_int_equal(ws2_record_frame(record), 10 + i % 4);
    }
    ws2_reader_close(reader);
    fclose(file);
    ws2_record_free(record);
    bytes_free(&padded);
    bytes_free(&bytes);
}

static void a_pipe_has_no_random_access(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    int64_t segments, count;
    int ends[2];
    char path[64];
    struct bytes bytes = make_stream(1, 1, 4);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], bytes.data, bytes.size), (ssize_t)bytes.size);
    close(ends[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_int_equal(ws2_reader_size(reader), -1);
    assert_int_equal(ws2_reader_index(reader, &segments, &count), WS2_ERR_INPUT);
    assert_non_null(strstr(ws2_reader_error(reader)->text, "needs a file, not a pipe"));
    ws2_reader_close(reader);
    close(ends[0]);
    bytes_free(&bytes);
}

static void an_index_of_many_records(void **state)
{
    (void)state;
    enum { MANY = 120000 };
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    struct sink sink;
    char path[64];
    int64_t segments, count;
    sink_open(&sink, 3);
    assert_int_equal(ws2_writer_begin(sink.writer, head), 0);
    for (int i = 0; i < MANY; i++) {
        ws2_record_set_frame(record, 3 * i, -1);
        assert_int_equal(ws2_writer_put(sink.writer, record), 0);
    }
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    struct bytes bytes = sink_close(&sink, NULL);
    const int fd = memory_file(&bytes, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_int_equal(ws2_reader_index(reader, &segments, &count), 0);
    assert_int_equal(count, MANY);
    for (int i = 0; i < MANY; i += 7919) {
        assert_int_equal(ws2_reader_at(reader, i, record), 1);
        assert_int_equal(ws2_record_frame(record), 3 * i);
    }
    assert_int_equal(ws2_reader_at(reader, MANY - 1, record), 1);
    assert_int_equal(ws2_record_frame(record), 3 * (MANY - 1));
    ws2_reader_close(reader);
    assert_int_equal(read_bytes(&bytes).records, MANY);
    close(fd);
    bytes_free(&bytes);
    ws2_record_free(record);
    ws2_head_free(head);
}

/* A reader that leaves early shall fail a test, not end the program. */
static int ignore_pipe(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_shape_comes_back),
        cmocka_unit_test(a_stream_without_records_is_complete),
        cmocka_unit_test(records_of_no_and_of_many_tensors),
        cmocka_unit_test(a_pipe_in_pieces_gives_the_same),
        cmocka_unit_test(tensors_larger_than_a_pipe),
        cmocka_unit_test(any_frame_can_be_read),
        cmocka_unit_test(a_file_pointer_gives_random_access_too),
        cmocka_unit_test(a_pipe_has_no_random_access),
        cmocka_unit_test(an_index_of_many_records),
        cmocka_unit_test(a_stream_is_a_zstd_file),
    };
    return cmocka_run_group_tests(tests, ignore_pipe, NULL);
}
