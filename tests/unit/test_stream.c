/* stream: the format and its page, what goes in comes out, and every cut, flipped, foreign and hostile input. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <zstd.h>

#include "stream_help.h"

/* ---- the page and the table --------------------------------------------------------------------------- */

static char *read_text(const char *path)
{
    const char *top = getenv("TOP");
    char full[4096];
    snprintf(full, sizeof full, "%s/%s", top != NULL ? top : ".", path);
    FILE *file = fopen(full, "r");
    if (file == NULL)
        return NULL;
    struct bytes bytes = {0};
    char part[4096];
    for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;)
        bytes_add(&bytes, part, got);
    fclose(file);
    bytes.data[bytes.size] = '\0';
    return (char *)bytes.data;
}

/* Appends a cell without the blanks around it. */
static void add_cell(struct bytes *rows, const char *cell, size_t size, bool last)
{
    while (size > 0 && *cell == ' ') {
        cell++;
        size--;
    }
    while (size > 0 && cell[size - 1] == ' ')
        size--;
    bytes_add(rows, cell, size);
    bytes_add(rows, last ? "\n" : "|", 1);
}

static void add_row(struct bytes *rows, const char *row, size_t size, const char *separator)
{
    const char *end = row + size;
    for (;;) {
        const char *next = memmem(row, (size_t)(end - row), separator, strlen(separator));
        add_cell(rows, row, (size_t)((next != NULL ? next : end) - row), next == NULL);
        if (next == NULL)
            return;
        row = next + strlen(separator);
    }
}

/* Rows " *   a | b | c" of the header. */
static struct bytes rows_of_header(const char *text)
{
    struct bytes rows = {0};
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        const size_t size = strcspn(line, "\n");
        if (strncmp(line, " *   ", 5) == 0 && memchr(line, '|', size) != NULL)
            add_row(&rows, line + 5, size - 5, "|");
        if (line[size] == '\0')
            break;
    }
    bytes_add(&rows, "", 1);
    return rows;
}

/* Rows ".It a Ta b Ta c" of the page, with mdoc's escapes undone. */
static struct bytes rows_of_page(const char *text)
{
    struct bytes rows = {0};
    char row[512];
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        const size_t size = strcspn(line, "\n");
        if (strncmp(line, ".It ", 4) == 0 && memmem(line, size, " Ta ", 4) != NULL) {
            size_t used = 0;
            for (size_t i = 4; i < size; i++) {
                if (strncmp(line + i, "\\(dq", 4) == 0) {
                    row[used++] = '"';
                    i += 3;
                } else if (strncmp(line + i, "\\e", 2) == 0) {
                    row[used++] = '\\';
                    i++;
                } else if (strncmp(line + i, "Sy ", 3) == 0) {
                    i += 2;
                } else {
                    row[used++] = line[i];
                }
                assert_true(used < sizeof row);
            }
            add_row(&rows, row, used, " Ta ");
        }
        if (line[size] == '\0')
            break;
    }
    bytes_add(&rows, "", 1);
    return rows;
}

static void expect_row(const struct bytes *rows, const char *format, ...)
{
    char row[200];
    va_list args;
    va_start(args, format);
    vsnprintf(row, sizeof row, format, args);
    va_end(args);
    if (strstr((const char *)rows->data, row) == NULL)
        fail_msg("the table lacks the row: %s", row);
}

static void page_has_the_table_of_the_header(void **state)
{
    (void)state;
    char *header = read_text("lib/stream/format.h"), *page = read_text("man/man5/ws2.5");
    if (header == NULL || page == NULL) {
        free(header);
        free(page);
        print_message("not run from the source tree\n");
        skip();
    }
    struct bytes from_header = rows_of_header(header), from_page = rows_of_page(page);
    assert_string_equal((char *)from_page.data, (char *)from_header.data);
    /* And both tell what the code does. */
    expect_row(&from_page, "any|0|4|skippable magic 0x%X\n", WS2_SKIPPABLE_MAGIC);
    expect_row(&from_page, "any|8|4|tag: %s, %s or %s\n", WS2_TAG_HEAD, WS2_TAG_RECORD, WS2_TAG_TAIL);
    expect_row(&from_page, "any|12|2|format version: %d\n", WS2_FORMAT_VERSION);
    expect_row(&from_page, "any|%d|n|body\n", WS2_BODY_AT);
    expect_row(&from_page, "size of this frame: %d + 8 c\n", WS2_BODY_AT + WS2_TAIL_BODY_MIN);
    expect_row(&from_page, "end magic: \"%.6s\\r\\n\"\n", WS2_END_MAGIC);
    expect_row(&from_page, "body|%d\n", WS2_BODY_MAX);
    expect_row(&from_page, "tensors|%d\n", WS2_TENSORS_MAX);
    expect_row(&from_page, "axes|%d\n", WS2_AXES_MAX);
    expect_row(&from_page, "tensor bytes|%zu\n", WS2_TENSOR_BYTES_MAX);
    expect_row(&from_page, "records|%d\n", WS2_RECORDS_MAX);
    expect_row(&from_page, "name|%d\n", WS2_NAME_MAX);
    expect_row(&from_page, "axes and unit|%d\n", WS2_TEXT_MAX);
    expect_row(&from_page, "JSON depth|%d\n", WS2_JSON_DEPTH_MAX);
    expect_row(&from_page, "JSON values|%d\n", WS2_JSON_VALUES_MAX);
    expect_row(&from_page, "JSON members|%d\n", WS2_JSON_MEMBERS_MAX);
    expect_row(&from_page, "\n%d|%s|", WS2_FORMAT_VERSION, WS2_VERSION);
    char text[20];
    snprintf(text, sizeof text, "format %d,", WS2_FORMAT_VERSION);
    assert_non_null(strstr(ws2_stream_version(), text));
    bytes_free(&from_header);
    bytes_free(&from_page);
    free(header);
    free(page);
}

static struct bytes make_example(void)
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

/* Lines "00e0  3a 5b ...": offset and up to 16 bytes. */
static struct bytes dump_of_page(const char *text)
{
    struct bytes bytes = {0};
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        unsigned offset;
        int used = 0;
        if (strspn(line, "0123456789abcdef") != 4 || sscanf(line, "%4x  %n", &offset, &used) != 1 ||
            used != 6)
            continue;
        assert_int_equal(offset, bytes.size);
        for (int i = 0; i < 16 && line[6 + 3 * i] != ' '; i++) {
            const unsigned char byte = (unsigned char)strtoul(line + 6 + 3 * i, NULL, 16);
            bytes_add(&bytes, &byte, 1);
            if (line[8 + 3 * i] == '\0')
                break;
        }
    }
    return bytes;
}

static void page_shows_a_real_stream(void **state)
{
    (void)state;
    char *page = read_text("man/man5/ws2.5");
    if (page == NULL) {
        print_message("not run from the source tree\n");
        skip();
    }
    struct bytes shown = dump_of_page(page), made = make_example();
    assert_int_equal(shown.size, made.size);
    assert_memory_equal(shown.data, made.data, made.size);
    assert_int_equal(read_bytes(&shown).status, 0);
    bytes_free(&shown);
    bytes_free(&made);
    free(page);
}

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

/* ---- cut and flipped ---------------------------------------------------------------------------------- */

static void a_cut_at_every_byte_is_truncated(void **state)
{
    (void)state;
    struct bytes one = make_stream(1, 3, 6), two = make_stream(2, 3, 6);
    for (size_t size = 0; size < two.size; size++) {
        struct bytes cut = {two.data, size};
        const int want = size == one.size ? 0 : WS2_ERR_TRUNCATED;
        const struct outcome direct = read_bytes(&cut), file = read_file_bytes(&cut),
                             indexed = read_random(&cut);
        if (direct.status != want || file.status != want || indexed.status != want)
            fail_msg("cut at %zu of %zu: %d %d %d: %s%s%s", size, two.size, direct.status, file.status,
                     indexed.status, direct.error.text, file.error.text, indexed.error.text);
    }
    bytes_free(&one);
    bytes_free(&two);
}

static void a_flipped_bit_is_always_noticed(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(2, 2, 8);
    const struct outcome whole = read_bytes(&bytes);
    assert_int_equal(whole.status, 0);
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const struct outcome direct = read_bytes(&bytes);
        if (direct.status != WS2_ERR_INPUT && direct.status != WS2_ERR_TRUNCATED)
            fail_msg("bit %zu of byte %zu: %d", bit % 8, bit / 8, direct.status);
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    bytes_free(&bytes);
}

/* Random access reads what it is asked for: a flip either shows there, or nothing that was read is wrong. */
static void a_flipped_bit_never_changes_a_random_read(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(2, 2, 8);
    const struct outcome whole = read_random(&bytes);
    assert_int_equal(whole.status, 0);
    assert_int_equal(whole.records, 4);
    int noticed = 0;
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const struct outcome random = read_random(&bytes);
        noticed += random.status < 0;
        if (random.status == 0 && (random.hash != whole.hash || random.records != 4 || random.segments != 2))
            fail_msg("bit %zu of byte %zu changed what was read", bit % 8, bit / 8);
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_true(noticed > (int)(8 * bytes.size) * 9 / 10);
    bytes_free(&bytes);
}

static void damage_is_named(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(1, 4, 30);
    /* The last byte before the TAIL is the checksum of frame 13's mask. */
    const size_t tail = WS2_BODY_AT + WS2_TAIL_BODY_MIN + 4 * 8;
    bytes.data[bytes.size - tail - 1] ^= 0x10;
    const struct outcome flipped = read_file_bytes(&bytes);
    assert_int_equal(flipped.status, WS2_ERR_INPUT);
    assert_string_equal(flipped.error.text, "memory: frame 13: tensor 'fg' is corrupt (checksum)");
    bytes.data[bytes.size - tail - 1] ^= 0x10;
    struct bytes cut = {bytes.data, bytes.size - tail - 1};
    assert_string_equal(read_file_bytes(&cut).error.text, "memory: frame 13: truncated tensor 'fg'");
    cut.size = bytes.size - tail;
    assert_string_equal(read_file_bytes(&cut).error.text,
                        "memory: after frame 13: truncated, the TAIL is missing");
    cut.size = 0;
    assert_string_equal(read_file_bytes(&cut).error.text, "memory: no data at all");
    bytes_free(&bytes);
}

/* A good hash over bad content: zstd's own checksum travels end to end and is checked when unpacking. */
static void a_tensor_forged_with_its_hash_is_noticed(void **state)
{
    (void)state;
    struct bytes bytes = make_example();
    unsigned char *frame = memmem(bytes.data, bytes.size, "\x28\xb5\x2f\xfd", 4);
    assert_non_null(frame);
    char old[32], new[32];
    snprintf(old, sizeof old, "\"hash\":%u,", ws2_checksum(frame, 19));
    frame[10] ^= 1;
    const int digits = snprintf(new, sizeof new, "\"hash\":%u,", ws2_checksum(frame, 19));
    const unsigned char *record = memmem(bytes.data, bytes.size, WS2_TAG_RECORD, 4);
    const unsigned char *body = record + WS2_HEADER_SIZE,
                        *at = memmem(body, (size_t)(frame - body), old, strlen(old));
    assert_non_null(at);
    struct bytes forged = {0}, text = {0};
    bytes_add(&text, body, (size_t)(at - body));
    bytes_add(&text, new, (size_t)digits);
    bytes_add(&text, at + strlen(old), (size_t)(frame - at) - strlen(old));
    bytes_add(&forged, bytes.data, (size_t)(record - 8 - bytes.data));
    add_frame(&forged, WS2_TAG_RECORD, 1, 0, text.data, text.size);
    bytes_free(&text);
    bytes_add(&forged, frame, 19);
    const struct outcome outcome = read_bytes(&forged);
    assert_int_equal(outcome.status, WS2_ERR_INPUT);
    assert_string_equal(outcome.error.text, "tensor 'fg' is corrupt (checksum)");
    bytes_free(&forged);
    bytes_free(&bytes);
}

/* ---- foreign and hostile ------------------------------------------------------------------------------ */

static void expect(const struct bytes *bytes, int status, const char *text)
{
    const struct outcome direct = read_bytes(bytes), file = read_file_bytes(bytes);
    if (direct.status != status || strstr(direct.error.text, text) == NULL)
        fail_msg("%d '%s' instead of %d '%s'", direct.status, direct.error.text, status, text);
    assert_int_equal(file.status, status);
    assert_true(read_random(bytes).status < 0 || status == 0);
}

static void expect_text(const char *text, size_t size, int status, const char *message)
{
    const struct bytes bytes = {(unsigned char *)text, size};
    expect(&bytes, status, message);
}

static void foreign_files_are_refused(void **state)
{
    (void)state;
    char zeros[4096] = {0}, packed[200];
    expect_text("", 0, WS2_ERR_TRUNCATED, "no data at all");
    expect_text("W", 1, WS2_ERR_TRUNCATED, "truncated");
    expect_text("W*M", 3, WS2_ERR_TRUNCATED, "truncated");
    expect_text("Z", 1, WS2_ERR_TRUNCATED, "truncated"); /* 0x5A begins a skippable frame too */
    expect_text("x", 1, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text("W?", 2, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text("\x89PNG\r\n\x1a\n", 8, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text("all the king's horses", 21, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text(zeros, sizeof zeros, WS2_ERR_INPUT, "not a ws2 stream");
    const size_t size = ZSTD_compress(packed, sizeof packed, "hello", 5, 3);
    expect_text(packed, size, WS2_ERR_INPUT, "zstd data without a HEAD");
    struct bytes bytes = {0};
    add_foreign(&bytes, 0x184D2A50, "only somebody else's frame");
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated");
    bytes_free(&bytes);
    assert_int_equal(read_path("/").status, WS2_ERR_INPUT);
    assert_int_equal(read_path("/no/such/file.ws2").status, WS2_ERR_INPUT);
    assert_int_equal(read_path("/dev/null").status, WS2_ERR_TRUNCATED);
}

static const char good_head[] =
    "{\"tensors\":[{\"axes\":\"h,w\",\"dtype\":\"u8\",\"name\":\"fg\",\"unit\":\"\"}]}";

struct hostile {
    const char *json, *message;
};

static const struct hostile heads[] = {
    {"", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"{", "bad JSON"},
    {"{}", "no table of tensors"},
    {"{\"tensors\":{}}", "no table of tensors"},
    {"{\"tensors\":[]} x", "something follows"},
    {"{\"tensors\":[],\"tensors\":[]}", "a key stands twice"},
    {"{\"tensors\":[],\"x\":{\"a\":1,\"b\":2,\"a\":3}}", "a key stands twice"},
    {"{\"tensors\":[],\"x\":1.5}", "not an integer"},
    {"{\"tensors\":[],\"x\":1e3}", "not an integer"},
    {"{\"tensors\":[],\"x\":9223372036854775808}", "64 bits"},
    {"{\"tensors\":[],\"x\":-9223372036854775809}", "64 bits"},
    {"{\"tensors\":[],\"x\":99999999999999999999999999}", "64 bits"},
    {"{\"tensors\":[],\"x\":01}", "bad JSON"},
    {"{\"tensors\":[],\"x\":-}", "bad JSON"},
    {"{\"tensors\":[],\"x\":nul}", "bad JSON"},
    {"{\"tensors\":[],}", "bad JSON"},
    {"{\"tensors\":[1,]}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\\q\"}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\\u12g4\"}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\\u0000\"}", "u0000"},
    {"{\"tensors\":[],\"x\":\"\\ud800\"}", "HEAD"},
    {"{\"tensors\":[],\"x\\u0061\":1}", "backslash"},
    {"{\"tensors\":[],\"x\":\"a\nb\"}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\xff\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xc0\x80\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xed\xa0\x80\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xf4\x90\x80\x80\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xe2\x82\"}", "UTF-8"},
    {"{\"tensors\":[],\"seq\":7}", "bad sequence name"},
    {"{\"tensors\":[],\"seq\":\"a\\u001b[2J\"}", "bad sequence name"},
    {"{\"tensors\":[],\"role\":\"sideways\"}", "bad role"},
    {"{\"tensors\":[],\"size\":[0,5]}", "bad size"},
    {"{\"tensors\":[],\"size\":[5]}", "bad size"},
    {"{\"tensors\":[],\"size\":[5,-5]}", "bad size"},
    {"{\"tensors\":[],\"size\":\"5x5\"}", "bad size"},
    {"{\"tensors\":[],\"rate\":[25,0]}", "bad rate"},
    {"{\"tensors\":[],\"classes\":[1]}", "bad class names"},
    {"{\"tensors\":[],\"classes\":{}}", "bad class names"},
    {"{\"tensors\":[],\"notes\":[]}", "bad notes"},
    {"{\"tensors\":[],\"notes\":{\"a\":1}}", "bad notes"},
    {"{\"tensors\":[],\"history\":{}}", "bad history"},
    {"{\"tensors\":[],\"history\":[1]}", "bad history"},
    {"{\"tensors\":[1]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"a b\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u9\",\"name\":\"a\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"complex128\",\"name\":\"a\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"a\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"a\",\"unit\":\"\"},"
     "{\"axes\":\"\",\"dtype\":\"i8\",\"name\":\"a\",\"unit\":\"\"}]}",
     "stands twice"},
    {"{\"tensors\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}", "nested too deep"},
};

static void hostile_heads_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct bytes bytes = {0};
        add_text(&bytes, WS2_TAG_HEAD, heads[i].json);
        expect(&bytes, WS2_ERR_INPUT, heads[i].message);
        bytes_free(&bytes);
    }
}

#define ROW(bytes, packed, shape)                                                                            \
    "{\"bytes\":" bytes ",\"dtype\":\"u8\",\"hash\":1,\"name\":\"fg\",\"packed\":" packed                    \
    ",\"shape\":" shape "}"
#define RECORD(row) "{\"frame\":3,\"pts\":0,\"tensors\":[" row "]}"

static const struct hostile records[] = {
    {"", "not a JSON object"},
    {"{\"pts\":0,\"tensors\":[]}", "bad frame"},
    {"{\"frame\":-1,\"pts\":0,\"tensors\":[]}", "bad frame"},
    {"{\"frame\":\"1\",\"pts\":0,\"tensors\":[]}", "bad frame"},
    {"{\"frame\":1,\"tensors\":[]}", "bad pts"},
    {"{\"frame\":1,\"pts\":0}", "no table"},
    {"{\"frame\":1,\"pts\":0,\"tensors\":7}", "no table"},
    {RECORD("7"), "bad table"},
    {RECORD("{}"), "lacks a key"},
    {RECORD(ROW("6", "19", "[2,3]") "," ROW("6", "19", "[2,3]")), "frame 3: tensor 'fg' stands twice"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":1,\"name\":\"rgb\",\"packed\":19,\"shape\":[6]}"),
     "tensor 'rgb' is not in the HEAD"},
    {RECORD("{\"bytes\":6,\"dtype\":\"i8\",\"hash\":1,\"name\":\"fg\",\"packed\":19,\"shape\":[6]}"),
     "tensor 'fg' is not u8"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":1,\"name\":\"\\u001b\",\"packed\":19,\"shape\":[6]}"),
     "bad tensor name"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":4294967296,\"name\":\"fg\",\"packed\":19,\"shape\":[6]}"),
     "bad size or hash"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":-1,\"name\":\"fg\",\"packed\":19,\"shape\":[6]}"),
     "bad size or hash"},
    {RECORD(ROW("-6", "19", "[6]")), "bad size or hash"},
    {RECORD(ROW("6", "-19", "[6]")), "bad size or hash"},
    {RECORD(ROW("6", "\"19\"", "[6]")), "bad size or hash"},
    {RECORD(ROW("6", "19", "6")), "bad shape"},
    {RECORD(ROW("6", "19", "[-6]")), "bad shape"},
    {RECORD(ROW("6", "19", "[-2,-3]")), "bad shape"},
    {RECORD(ROW("6", "19", "[6,\"1\"]")), "bad shape"},
    {RECORD(ROW("1", "19", "[1,1,1,1,1,1,1,1,1]")), "bad shape"},
    {RECORD(ROW("7", "19", "[2,3]")), "do not fit its shape"},
    {RECORD(ROW("0", "19", "[4294967296,4294967296]")), "do not fit its shape"},
    {RECORD(ROW("6", "19", "[9223372036854775807,9223372036854775807,9223372036854775807]")),
     "do not fit its shape"},
    {RECORD(ROW("2147483649", "2147483649", "[2147483649]")), "larger than 2 GiB"},
    {RECORD(ROW("9223372036854775807", "19", "[9223372036854775807]")), "larger than 2 GiB"},
    {RECORD(ROW("2147483648", "19", "[2147483648]")), "compressed size 19 is impossible"},
    {RECORD(ROW("6", "9999", "[6]")), "compressed size 9999 is impossible"},
    {RECORD(ROW("6", "0", "[6]")), "compressed size 0 is impossible"},
    {RECORD(ROW("6", "13", "[6]")), "compressed size 13 is impossible"},
};

static void hostile_records_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct bytes bytes = {0};
        add_text(&bytes, WS2_TAG_HEAD, good_head);
        add_text(&bytes, WS2_TAG_RECORD, records[i].json);
        expect(&bytes, WS2_ERR_INPUT, records[i].message);
        bytes_free(&bytes);
    }
}

/* A promise of 2 GiB with nothing behind it: told as a cut, and no memory taken for it. */
static void a_huge_promise_is_only_a_cut(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    add_text(&bytes, WS2_TAG_HEAD, good_head);
    add_text(&bytes, WS2_TAG_RECORD, RECORD(ROW("2147483648", "2147483648", "[2147483648]")));
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated tensor 'fg'");
    bytes_add(&bytes, "\x28\xb5\x2f\xfd and so on", 14);
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated tensor 'fg'");
    bytes_free(&bytes);
}

static void huge_and_deep_metadata_is_refused(void **state)
{
    (void)state;
    struct bytes bytes = {0}, text = {0};
    unsigned char head[WS2_BODY_AT] = {0x57, 0x2A, 0x4D, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 'W', 'S', '2', 'H', 1};
    bytes_add(&bytes, head, sizeof head);
    expect(&bytes, WS2_ERR_INPUT, "metadata larger than 16 MiB");
    ws2_store32(bytes.data + 4, WS2_HEADER_SIZE + WS2_BODY_MAX + 1);
    expect(&bytes, WS2_ERR_INPUT, "metadata larger than 16 MiB");
    ws2_store32(bytes.data + 4, WS2_HEADER_SIZE + WS2_BODY_MAX);
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated");
    /* 4 GiB of somebody else's: skipped, and missing. */
    bytes.data[8] = 'X';
    ws2_store32(bytes.data + 4, 0xFFFFFFFF);
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated");
    bytes_free(&bytes);
    for (int i = 0; i < 100000; i++)
        bytes_puts(&text, "[");
    struct bytes deep = {0};
    bytes_puts(&deep, "{\"tensors\":[],\"x\":");
    bytes_add(&deep, text.data, text.size);
    add_frame(&bytes, WS2_TAG_HEAD, 1, 0, deep.data, deep.size);
    expect(&bytes, WS2_ERR_INPUT, "nested too deep");
    bytes_free(&bytes);
    bytes_free(&deep);
    bytes_free(&text);
    /* Many small values cost far more memory than bytes when built: refused by number. */
    bytes_puts(&deep, "{\"tensors\":[],\"x\":[0");
    for (int i = 0; i < 70000; i++)
        bytes_puts(&deep, ",0");
    bytes_puts(&deep, "]}");
    add_frame(&bytes, WS2_TAG_HEAD, 1, 0, deep.data, deep.size);
    expect(&bytes, WS2_ERR_INPUT, "too many values");
    bytes_free(&bytes);
    bytes_free(&deep);
    bytes_puts(&deep, "{\"tensors\":[]");
    for (int i = 0; i < WS2_JSON_MEMBERS_MAX; i++) {
        char member[20];
        bytes_add(&deep, member, (size_t)snprintf(member, sizeof member, ",\"k%d\":0", i));
    }
    bytes_puts(&deep, "}");
    add_frame(&bytes, WS2_TAG_HEAD, 1, 0, deep.data, deep.size);
    expect(&bytes, WS2_ERR_INPUT, "too many members");
    bytes_free(&bytes);
    bytes_free(&deep);
}

static void other_versions_and_flags_are_refused(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    add_frame(&bytes, WS2_TAG_HEAD, 2, 0, good_head, strlen(good_head));
    expect(&bytes, WS2_ERR_INPUT, "format version 2, this program knows up to 1");
    bytes_free(&bytes);
    add_frame(&bytes, WS2_TAG_HEAD, 0, 0, good_head, strlen(good_head));
    expect(&bytes, WS2_ERR_INPUT, "version or flags");
    bytes_free(&bytes);
    add_frame(&bytes, WS2_TAG_HEAD, 1, 1, good_head, strlen(good_head));
    expect(&bytes, WS2_ERR_INPUT, "version or flags");
    bytes_free(&bytes);
}

/* Frames in the wrong order, and records lost or doubled by a bad copy, each frame good in itself. */
static void wrong_order_is_noticed(void **state)
{
    (void)state;
    struct bytes whole = make_stream(1, 3, 4), bytes = {0};
    const unsigned char *record[4];
    const unsigned char *at = whole.data;
    for (int i = 0; i < 3; i++) {
        at = memmem(at, (size_t)(whole.data + whole.size - at), WS2_TAG_RECORD, 4);
        record[i] = at - 8;
        at++;
    }
    record[3] =
        (const unsigned char *)memmem(at, (size_t)(whole.data + whole.size - at), WS2_TAG_TAIL, 4) - 8;
    const unsigned char *end = whole.data + whole.size;
    bytes_add(&bytes, whole.data, (size_t)(record[1] - whole.data)); /* the second is lost */
    bytes_add(&bytes, record[2], (size_t)(end - record[2]));
    expect(&bytes, WS2_ERR_INPUT, "the TAIL counts 3 records, 2 are there");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[2] - whole.data)); /* the second stands twice */
    bytes_add(&bytes, record[1], (size_t)(end - record[1]));
    expect(&bytes, WS2_ERR_INPUT, "the TAIL counts 3 records, 4 are there");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[1] - whole.data)); /* second and third changed places */
    bytes_add(&bytes, record[2], (size_t)(record[3] - record[2]));
    bytes_add(&bytes, record[1], (size_t)(record[2] - record[1]));
    bytes_add(&bytes, record[3], (size_t)(end - record[3]));
    expect(&bytes, WS2_ERR_INPUT, "hash does not fit");
    bytes_free(&bytes);
    bytes_add(&bytes, record[0], (size_t)(end - record[0]));
    expect(&bytes, WS2_ERR_INPUT, "without a HEAD");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[1] - whole.data));
    bytes_add(&bytes, whole.data, whole.size);
    expect(&bytes, WS2_ERR_INPUT, "a HEAD before the TAIL");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[0] - whole.data));
    bytes_add(&bytes, memmem(record[0], 400, "\x28\xb5\x2f\xfd", 4), 20);
    expect(&bytes, WS2_ERR_INPUT, "a tensor without a RECORD");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, whole.size);
    bytes_puts(&bytes, "and then some");
    expect(&bytes, WS2_ERR_INPUT, "foreign bytes");
    bytes_free(&bytes);
    bytes_free(&whole);
}

/* A TAIL whose numbers are wrong, though its checksum is right. */
static void a_wrong_tail_is_noticed(void **state)
{
    (void)state;
    static const struct {
        size_t at; /* from the end of a stream of 3 records */
        const char *message;
    } field[] = {{24 + 24 + 16, "count"}, {24 + 24 + 8, "hash"}, {24 + 24, "offsets"}, {24 + 8, "offsets"},
                 {24, "footer"},          {16, "footer"},        {8, "footer"}};
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) {
        struct bytes bytes = make_stream(1, 3, 4);
        unsigned char *tail = bytes.data + bytes.size - (WS2_BODY_AT + WS2_TAIL_BODY_MIN + 24);
        bytes.data[bytes.size - field[i].at] ^= 1;
        ws2_store32(tail + 16, ws2_checksum(tail + WS2_BODY_AT, WS2_TAIL_BODY_MIN + 24));
        const struct outcome outcome = read_bytes(&bytes);
        assert_int_equal(outcome.status, WS2_ERR_INPUT);
        assert_non_null(strstr(outcome.error.text, field[i].message));
        bytes_free(&bytes);
    }
    struct bytes bytes = {0};
    add_text(&bytes, WS2_TAG_HEAD, good_head);
    add_text(&bytes, WS2_TAG_TAIL, "too short");
    expect(&bytes, WS2_ERR_INPUT, "corrupt TAIL (size)");
    bytes_free(&bytes);
}

/* ---- what is kept and what is skipped ----------------------------------------------------------------- */

static void foreign_frames_are_skipped(void **state)
{
    (void)state;
    struct bytes whole = make_stream(2, 2, 5), one = make_stream(1, 2, 5), bytes = {0};
    const struct outcome want = read_bytes(&whole);
    const unsigned char *tail = (const unsigned char *)memmem(one.data, one.size, WS2_TAG_TAIL, 4) - 8;
    add_foreign(&bytes, 0x184D2A5E, "a seek table of somebody else");
    add_foreign(&bytes, WS2_SKIPPABLE_MAGIC, "");
    add_foreign(&bytes, WS2_SKIPPABLE_MAGIC, "short");
    add_foreign(&bytes, WS2_SKIPPABLE_MAGIC, "WS2X is a tag of the future");
    bytes_add(&bytes, one.data, one.size);
    add_foreign(&bytes, 0x184D2A50, "between the segments");
    bytes_add(&bytes, whole.data + one.size, whole.size - one.size);
    add_foreign(&bytes, 0x184D2A5F, "at the end");
    const struct outcome got = read_bytes(&bytes), random = read_random(&bytes);
    assert_int_equal(got.status, 0);
    assert_int_equal(got.segments, 2);
    assert_true(got.hash == want.hash);
    assert_int_equal(random.status, 0);
    assert_int_equal(random.segments, 2);
    assert_true(random.hash == want.hash);
    bytes_free(&bytes);
    /* Inside a segment it counts: the TAIL's offsets were made without it. */
    bytes_add(&bytes, one.data, (size_t)(tail - one.data));
    add_foreign(&bytes, 0x184D2A50, "before the TAIL");
    bytes_add(&bytes, tail, (size_t)(one.data + one.size - tail));
    assert_int_equal(read_bytes(&bytes).status, WS2_ERR_INPUT);
    bytes_free(&bytes);
    bytes_free(&one);
    bytes_free(&whole);
}

static void unknown_keys_are_kept(void **state)
{
    (void)state;
    static const char head[] =
        "{\"aa\":[1,{\"deep\":null}],\"seq\":\"s\",\"tensors\":[{\"axes\":\"h,w\",\"colour\":\"red\","
        "\"dtype\":\"u8\",\"name\":\"fg\",\"unit\":\"\"}],\"zz\":true}";
    struct bytes plain = make_example(), bytes = {0};
    const unsigned char *frame = memmem(plain.data, plain.size, "\x28\xb5\x2f\xfd", 4);
    char record[600];
    snprintf(record, sizeof record,
             "{\"aa\":{\"k\":[-5]},\"frame\":7,\"light\":\"\\u00e9\\n\",\"pts\":1,\"tensors\":[{\"a\":0,"
             "\"bytes\":6,\"dtype\":\"u8\",\"hash\":%u,\"kind\":\"x\",\"name\":\"fg\",\"packed\":19,"
             "\"shape\":[2,3],\"z\":[]}],\"zz\":false}",
             ws2_checksum(frame, 19));
    add_text(&bytes, WS2_TAG_HEAD, head);
    const size_t head_size = bytes.size;
    add_text(&bytes, WS2_TAG_RECORD, record);
    bytes_add(&bytes, frame, 19);
    /* Read the record, and write it again. */
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *kept = ws2_record_new();
    struct sink sink;
    char path[64];
    const int fd = memory_file(&bytes, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_string_equal(ws2_head_json(ws2_reader_head(reader)), head);
    assert_int_equal(ws2_reader_next(reader, kept), 1);
    sink_open(&sink, 3);
    assert_int_equal(ws2_writer_begin(sink.writer, ws2_reader_head(reader)), 0);
    assert_int_equal(ws2_writer_put(sink.writer, kept), 0);
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    struct bytes out = sink_close(&sink, NULL);
    assert_true(out.size > bytes.size);
    assert_memory_equal(out.data, bytes.data, bytes.size);
    assert_int_equal(read_bytes(&out).status, 0);
    /* A change of the head leaves them in place too. */
    struct ws2_head *changed = ws2_head_copy(ws2_reader_head(reader));
    assert_int_equal(ws2_head_set_role(changed, WS2_ROLE_BEFORE), 0);
    assert_int_equal(ws2_head_add_tensor(changed, "new", WS2_U8, "", "", &error), 0);
    assert_non_null(strstr(ws2_head_json(changed), "\"aa\":[1,{\"deep\":null}]"));
    assert_non_null(strstr(ws2_head_json(changed), "\"colour\":\"red\""));
    assert_non_null(strstr(ws2_head_json(changed), "\"zz\":true"));
    assert_true(head_size > 0);
    ws2_head_free(changed);
    ws2_record_free(kept);
    ws2_reader_close(reader);
    close(fd);
    bytes_free(&out);
    bytes_free(&bytes);
    bytes_free(&plain);
}

/* Members that a foreign writer left unsorted come out sorted, whatever their keys. */
static void unknown_keys_are_sorted_in(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    struct ws2_text text = {0};
    static const char in[] =
        "{ \"zz\" : 1 , \"tensors\" : [ ], \"g\":[1, 2],\"pts\":-1,\"a\":\"}\",\"frame\":0,"
        "\"tensor\":{\"x\":\"\\\"\"}}";
    assert_int_equal(ws2_record_parse(record, (struct ws2_slice){in, strlen(in)}, head, &error), 0);
    assert_int_equal(ws2_record_json(record, &text), 0);
    ws2_text_add(&text, "", 1);
    assert_string_equal(text.data, "{\"a\":\"}\",\"frame\":0,\"g\":[1, 2],\"pts\":-1,"
                                   "\"tensor\":{\"x\":\"\\\"\"},\"tensors\":[],\"zz\":1}");
    ws2_text_free(&text);
    struct bytes many = {0};
    bytes_puts(&many, "{\"frame\":0,\"pts\":0,\"tensors\":[]");
    for (int i = 0; i < 60; i++) {
        char member[20];
        bytes_add(&many, member, (size_t)snprintf(member, sizeof member, ",\"k%d\":0", i));
    }
    bytes_puts(&many, "}");
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_parse(record, (struct ws2_slice){(char *)many.data, many.size}, head, &error),
                     WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "too many unknown keys"));
    bytes_free(&many);
    ws2_record_free(record);
    ws2_head_free(head);
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

/* Numbers in a TAIL that point anywhere, with a good checksum over them. */
static void hostile_offsets_are_refused(void **state)
{
    (void)state;
    static const uint64_t wild[] = {0, 1, 19, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF};
    struct bytes good = make_stream(1, 3, 4);
    for (size_t place = 24; place <= 24 + 24 + 16; place += 8) {
        for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
            for (int footer = 0; footer < 2; footer++) {
                struct bytes bytes = {0};
                bytes_add(&bytes, good.data, good.size);
                unsigned char *tail = bytes.data + bytes.size - (WS2_BODY_AT + WS2_TAIL_BODY_MIN + 24);
                ws2_store64(bytes.data + bytes.size - (footer ? place - 16 : place), wild[i]);
                ws2_store32(tail + 16, ws2_checksum(tail + WS2_BODY_AT, WS2_TAIL_BODY_MIN + 24));
                const struct outcome outcome = read_random(&bytes);
                assert_true(outcome.status == WS2_ERR_INPUT || outcome.status == WS2_ERR_TRUNCATED ||
                            outcome.records == 3);
                bytes_free(&bytes);
            }
        }
    }
    bytes_free(&good);
}

/* ---- writing ------------------------------------------------------------------------------------------ */

static char folder[] = "/tmp/ws2-test-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int drop_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static void a_file_appears_only_when_complete(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    char path[200], temporary[220], link[200];
    snprintf(path, sizeof path, "%s/a.ws2", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    snprintf(link, sizeof link, "%s/link.ws2", folder);
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), 0);
    write_segment(writer, "one", 2, 4);
    assert_false(exists(path));
    assert_true(exists(temporary));
    const int64_t bytes = ws2_writer_bytes(writer);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    assert_false(exists(temporary));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, bytes);
    const struct outcome before = read_path(path);
    assert_int_equal(before.status, 0);
    /* Given up, or not ended: the old file stays as it was, and nothing is left behind. */
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), 0);
    write_segment(writer, "two", 5, 4);
    ws2_writer_abandon(writer);
    assert_false(exists(temporary));
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), 0);
    struct ws2_head *head = ws2_head_new();
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    assert_int_equal(ws2_writer_close(writer, &error), WS2_ERR_USAGE);
    assert_non_null(strstr(error.text, "before the TAIL"));
    assert_false(exists(temporary));
    assert_true(read_path(path).hash == before.hash);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), 0);
    assert_int_equal(ws2_writer_close(writer, &error), WS2_ERR_USAGE);
    assert_true(read_path(path).hash == before.hash);
    /* Through a link the file behind it is replaced; a left-over of a dead program is not in the way. */
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(symlink("/no/such/place", temporary), 0);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_writer_open(&writer, link, 3, &error), 0);
    write_segment(writer, "three", 3, 4);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(read_path(path).records, 3);
    assert_false(exists(temporary));
    unlink(link);
    unlink(path);
    ws2_head_free(head);
}

static void places_that_cannot_be_written(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    char path[200];
    assert_int_equal(ws2_writer_open(&writer, folder, 3, &error), WS2_ERR_SYSTEM);
    assert_null(writer);
    error = (struct ws2_error){0};
    snprintf(path, sizeof path, "%s/none/a.ws2", folder);
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), WS2_ERR_SYSTEM);
    assert_non_null(strstr(error.text, "cannot create"));
    error = (struct ws2_error){0};
    assert_int_equal(ws2_writer_open(&writer, "-", 999, &error), WS2_ERR_USAGE);
    assert_null(writer);
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    struct ws2_head *head = ws2_head_new();
    assert_int_equal(ws2_writer_open(&writer, "/dev/full", 3, &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), WS2_ERR_SYSTEM);
    assert_non_null(strstr(ws2_writer_error(writer)->text, "/dev/full: cannot write: No space left"));
    assert_int_equal(ws2_writer_end(writer), WS2_ERR_SYSTEM);
    assert_int_equal(ws2_writer_close(writer, &error), WS2_ERR_SYSTEM);
    FILE *full = fopen("/dev/full", "w");
    error = (struct ws2_error){0};
    assert_int_equal(ws2_writer_open_file(&writer, full, "full", 3, &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), WS2_ERR_SYSTEM);
    assert_int_equal(ws2_writer_close(writer, &error), WS2_ERR_SYSTEM);
    fclose(full);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_writer_open(&writer, "/dev/null", 3, &error), 0);
    write_segment(writer, "nowhere", 3, 8);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    struct stat info;
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    ws2_head_free(head);
}

static void a_closed_pipe_is_an_error(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    struct ws2_head *head = ws2_head_new();
    int ends[2];
    char path[64];
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    close(ends[0]);
    assert_int_equal(ws2_writer_end(writer), WS2_ERR_SYSTEM);
    assert_non_null(strstr(ws2_writer_error(writer)->text, "Broken pipe"));
    assert_int_equal(ws2_writer_close(writer, &error), WS2_ERR_SYSTEM);
    close(ends[1]);
    ws2_head_free(head);
}

static void a_named_pipe_is_written_directly(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    char path[200];
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    const int keep = open(path, O_RDWR | O_CLOEXEC); /* lets both ends open without waiting */
    assert_int_equal(ws2_writer_open(&writer, path, 3, &error), 0);
    write_segment(writer, "fifo", 2, 4);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    struct stat info;
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    /* The writer still being there, the records must come without waiting for more. */
    assert_int_equal(ws2_reader_next(reader, record), 1);
    assert_int_equal(ws2_reader_next(reader, record), 1);
    assert_int_equal(ws2_reader_next(reader, record), 0);
    ws2_reader_close(reader);
    ws2_record_free(record);
    close(keep);
    unlink(path);
}

static void wrong_use_of_a_writer(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct sink sink;
    int status;
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    const struct ws2_shape shape = ws2_shape_1(4);
    ws2_head_add_tensor(head, "fg", WS2_U8, "n", "", &error);
    for (int i = 0; i < 6; i++) {
        sink_open(&sink, 3);
        ws2_record_clear(record);
        assert_int_equal(i < 2 ? 0 : ws2_writer_begin(sink.writer, head), 0);
        if (i == 0)
            assert_int_equal(ws2_writer_put(sink.writer, record), WS2_ERR_USAGE);
        if (i == 1)
            assert_int_equal(ws2_writer_end(sink.writer), WS2_ERR_USAGE);
        if (i == 2)
            assert_int_equal(ws2_writer_begin(sink.writer, head), WS2_ERR_USAGE);
        if (i == 3) {
            assert_int_equal(ws2_record_put(record, "cam", WS2_U8, &shape, "abcd", &error), 0);
            assert_int_equal(ws2_writer_put(sink.writer, record), WS2_ERR_USAGE);
            assert_non_null(strstr(ws2_writer_error(sink.writer)->text, "'cam' is not in the HEAD"));
        }
        if (i == 4) {
            assert_int_equal(ws2_record_put(record, "fg", WS2_I8, &shape, "abcd", &error), 0);
            assert_int_equal(ws2_writer_put(sink.writer, record), WS2_ERR_USAGE);
            assert_non_null(strstr(ws2_writer_error(sink.writer)->text, "'fg' is i8, the HEAD says u8"));
        }
        if (i == 5) {
            ws2_record_set_frame(record, -5, 0);
            assert_int_equal(ws2_writer_put(sink.writer, record), WS2_ERR_USAGE);
        }
        struct bytes bytes = sink_close(&sink, &status);
        assert_int_equal(status, WS2_ERR_USAGE);
        assert_true(read_bytes(&bytes).status < 0);
        bytes_free(&bytes);
    }
    ws2_record_free(record);
    ws2_head_free(head);
}

/* ---- records ------------------------------------------------------------------------------------------ */

static void a_record_can_be_rearranged(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_record *a = ws2_record_new(), *b = ws2_record_new();
    const struct ws2_shape shape = ws2_shape_1(4);
    struct ws2_tensor tensor;
    assert_int_equal(ws2_record_put(a, "one", WS2_U8, &shape, "1111", &error), 0);
    assert_int_equal(ws2_record_put(a, "two", WS2_U8, &shape, "2222", &error), 0);
    assert_int_equal(ws2_record_put(a, "three", WS2_U8, &shape, "3333", &error), 0);
    assert_int_equal(ws2_record_put(b, "two", WS2_U8, &shape, "bbbb", &error), 0);
    assert_int_equal(ws2_record_put(a, "two", WS2_U8, &shape, "xxxx", &error), WS2_ERR_USAGE);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_pack(a, 3, &error), 0);
    ws2_record_drop(a, "one");
    ws2_record_drop(a, "never");
    assert_int_equal(ws2_record_tensors(a), 2);
    assert_string_equal(ws2_record_name(a, 0), "two");
    assert_string_equal(ws2_record_name(a, 1), "three");
    assert_null(ws2_record_name(a, 2));
    assert_int_equal(ws2_record_move(b, a, "two", &error), WS2_ERR_USAGE);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_rename(a, "two", "deux", &error), 0);
    assert_int_equal(ws2_record_rename(a, "two", "x", &error), WS2_ERR_INPUT);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_rename(a, "deux", "three", &error), WS2_ERR_USAGE);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_rename(a, "deux", "not a name", &error), WS2_ERR_USAGE);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_move(b, a, "deux", &error), 0);
    assert_int_equal(ws2_record_move(b, a, "deux", &error), WS2_ERR_INPUT);
    error = (struct ws2_error){0};
    assert_false(ws2_record_has(a, "deux"));
    assert_true(ws2_record_has(b, "deux"));
    assert_int_equal(ws2_record_get(b, "deux", &tensor, &error), 1);
    assert_memory_equal(tensor.data, "2222", 4);
    assert_int_equal(ws2_record_get(b, "two", &tensor, &error), 1);
    assert_memory_equal(tensor.data, "bbbb", 4);
    assert_int_equal(ws2_record_get(a, "three", &tensor, &error), 1);
    assert_memory_equal(tensor.data, "3333", 4);
    assert_int_equal(ws2_record_get(a, "deux", &tensor, &error), 0);
    /* A dropped name may come again. */
    ws2_record_drop(b, "deux");
    assert_int_equal(ws2_record_put(b, "deux", WS2_U8, &shape, "neu!", &error), 0);
    assert_int_equal(ws2_record_get(b, "deux", &tensor, &error), 1);
    assert_memory_equal(tensor.data, "neu!", 4);
    ws2_record_free(a);
    ws2_record_free(b);
}

static void wanting_a_tensor_checks_it(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_record *record = ws2_record_new();
    struct ws2_tensor tensor;
    const struct ws2_shape shape = ws2_shape_2(2, 2), huge = ws2_shape_2(65536, 32769), bad = ws2_shape_1(-1);
    assert_int_equal(ws2_record_put(record, "fg", WS2_U8, &shape, "abcd", &error), 0);
    assert_int_equal(ws2_record_want(record, "fg", WS2_U8, 2, &tensor, &error), 1);
    assert_int_equal(ws2_record_want(record, "rgb", WS2_U8, 3, &tensor, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "no tensor 'rgb'");
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_want(record, "fg", WS2_F32, 2, &tensor, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "tensor 'fg' is u8, wanted f32");
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_want(record, "fg", WS2_U8, 3, &tensor, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "tensor 'fg' has 2 axes, wanted 3");
    assert_null(ws2_record_add(record, "big", WS2_U8, &huge, NULL));
    assert_null(ws2_record_add(record, "bad", WS2_U8, &bad, NULL));
    assert_null(ws2_record_add(record, "bad", WS2_DTYPES, &shape, NULL));
    assert_null(ws2_record_add(record, "", WS2_U8, &shape, NULL));
    assert_null(ws2_record_add(record, "a/b", WS2_U8, &shape, NULL));
    char name[WS2_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[WS2_NAME_MAX + 1] = '\0';
    assert_null(ws2_record_add(record, name, WS2_U8, &shape, NULL));
    name[WS2_NAME_MAX] = '\0';
    assert_non_null(ws2_record_add(record, name, WS2_U8, &shape, NULL));
    ws2_record_free(record);
}

static void wrong_levels_are_refused(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_record *record = ws2_record_new();
    const struct ws2_shape shape = ws2_shape_1(4);
    assert_int_equal(ws2_record_put(record, "fg", WS2_U8, &shape, "abcd", &error), 0);
    assert_int_equal(ws2_record_pack(record, 1000, &error), WS2_ERR_USAGE);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_pack(record, 22, &error), 0);
    ws2_record_free(record);
}

/* The same tensor packed by a used context and by a new one must give the same bytes. */
static void packing_does_not_depend_on_the_past(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    static const int level[] = {WS2_LEVEL_PIPE, 1, 3, 6, 12, 17};
    for (int n = 0; n < 6; n++) {
        struct ws2_record *used = ws2_record_new();
        for (int i = 0; i < 6; i++) {
            struct ws2_record *fresh = ws2_record_new();
            const struct ws2_shape shape = ws2_shape_1(200000 - 30000 * i);
            ws2_record_clear(used);
            fill(ws2_record_add(used, "x", WS2_U8, &shape, &error), (size_t)shape.dim[0], (uint64_t)i);
            fill(ws2_record_add(fresh, "x", WS2_U8, &shape, &error), (size_t)shape.dim[0], (uint64_t)i);
            assert_int_equal(ws2_record_pack(used, level[n], &error), 0);
            assert_int_equal(ws2_record_pack(fresh, level[n], &error), 0);
            const size_t size = ws2_record_packed_size(fresh, 0);
            assert_int_equal(ws2_record_packed_size(used, 0), size);
            assert_memory_equal(ws2_record_packed(used, 0), ws2_record_packed(fresh, 0), size);
            ws2_record_free(fresh);
        }
        ws2_record_free(used);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_has_the_table_of_the_header),
        cmocka_unit_test(page_shows_a_real_stream),
        cmocka_unit_test(every_type_and_shape_comes_back),
        cmocka_unit_test(a_stream_without_records_is_complete),
        cmocka_unit_test(records_of_no_and_of_many_tensors),
        cmocka_unit_test(a_pipe_in_pieces_gives_the_same),
        cmocka_unit_test(tensors_larger_than_a_pipe),
        cmocka_unit_test(a_cut_at_every_byte_is_truncated),
        cmocka_unit_test(a_flipped_bit_is_always_noticed),
        cmocka_unit_test(a_flipped_bit_never_changes_a_random_read),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(a_tensor_forged_with_its_hash_is_noticed),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(hostile_heads_are_refused),
        cmocka_unit_test(hostile_records_are_refused),
        cmocka_unit_test(a_huge_promise_is_only_a_cut),
        cmocka_unit_test(huge_and_deep_metadata_is_refused),
        cmocka_unit_test(other_versions_and_flags_are_refused),
        cmocka_unit_test(wrong_order_is_noticed),
        cmocka_unit_test(a_wrong_tail_is_noticed),
        cmocka_unit_test(foreign_frames_are_skipped),
        cmocka_unit_test(unknown_keys_are_kept),
        cmocka_unit_test(unknown_keys_are_sorted_in),
        cmocka_unit_test(any_frame_can_be_read),
        cmocka_unit_test(a_file_pointer_gives_random_access_too),
        cmocka_unit_test(a_pipe_has_no_random_access),
        cmocka_unit_test(an_index_of_many_records),
        cmocka_unit_test(hostile_offsets_are_refused),
        cmocka_unit_test(a_file_appears_only_when_complete),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(a_closed_pipe_is_an_error),
        cmocka_unit_test(a_named_pipe_is_written_directly),
        cmocka_unit_test(wrong_use_of_a_writer),
        cmocka_unit_test(a_record_can_be_rearranged),
        cmocka_unit_test(wanting_a_tensor_checks_it),
        cmocka_unit_test(wrong_levels_are_refused),
        cmocka_unit_test(packing_does_not_depend_on_the_past),
        cmocka_unit_test(a_stream_is_a_zstd_file),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
