/* Writing streams: files that appear only when complete, places that cannot be written, wrong use, records. */
#include <signal.h>
#include <sys/stat.h>

#include "folder_help.h"
#include "stream_help.h"

/* ---- writing ------------------------------------------------------------------------------------------ */

/* Leaving early is an error of the writer here, not the end of the program. */
static int make_quiet_folder(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    return make_folder(state);
}

/* Fails when a test has left something behind. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, make_quiet_folder, drop_folder);
}
