/* Memory of the stream: after the first records nothing is allocated any more, in any of the loops. Counts the
 * calls by standing in for malloc, so it is a program of its own, and has nothing to say under a sanitizer. */
#include "stream_help.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

static void no_allocation_after_the_first_records(void **state)
{
    (void)state;
    print_message("the sanitizer has the allocator\n");
    skip();
}

#else

static atomic_long calls;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

void *malloc(size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __libc_memalign(alignment, size);
}

void free(void *block)
{
    __libc_free(block);
}

/* A filter of two threads reads one tensor and adds another; `done` counts the records at which something had
 * been allocated since the one before. */
struct watch {
    long calls;
    int records, allocating;
};

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    (void)context, (void)in;
    return ws2_head_add_tensor(out, "inverse", WS2_U8, "h,w", "", error);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    (void)context, (void)worker;
    struct ws2_tensor fg;
    const int got = ws2_record_want(record, "fg", WS2_U8, 2, &fg, error);
    if (got < 0)
        return got;
    uint8_t *made = ws2_record_add(record, "inverse", WS2_U8, &fg.shape, error);
    if (made == NULL)
        return error->status;
    for (size_t i = 0; i < fg.bytes; i++)
        made[i] = (uint8_t) ~((const uint8_t *)fg.data)[i];
    return 0;
}

static void done(void *context, const struct ws2_reader *reader, const struct ws2_record *record)
{
    struct watch *watch = context;
    (void)reader, (void)record;
    const long now = atomic_load(&calls);
    watch->allocating += now != watch->calls;
    watch->calls = now;
    watch->records++;
}

static void no_allocation_after_the_first_records(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    struct watch watch = {0};
    const struct ws2_filter filter = {.begin = begin, .work = work, .done = done, .context = &watch};
    char path[64];
    struct bytes bytes = make_stream(1, 600, 50);
    const int fd = memory_file(&bytes, path);
    /* Reading and unpacking. */
    struct ws2_record *record = ws2_record_new();
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    long before = 0;
    for (int i = 0; i < 600; i++) {
        struct ws2_tensor tensor;
        assert_int_equal(ws2_reader_next(reader, record), 1);
        for (int k = 0; k < ws2_record_tensors(record); k++)
            assert_int_equal(ws2_record_get(record, ws2_record_name(record, k), &tensor, &error), 1);
        if (i == 1)
            before = atomic_load(&calls);
    }
    assert_int_equal(atomic_load(&calls), before);
    ws2_reader_close(reader);
    ws2_record_free(record);
    /* The filter loop. */
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_int_equal(ws2_writer_open(&writer, "/dev/null", 3, &error), 0);
    assert_int_equal(ws2_filter_run(&filter, reader, writer, 2, &error), 0);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    ws2_reader_close(reader);
    assert_int_equal(watch.records, 600);
    /* Two workers have six jobs between them. Each job allocates when it first meets each kind of record, each
     * worker when it first unpacks and packs, whenever that may be; then it is over. */
    assert_true(watch.allocating <= 6 * 4 + 2 * 4);
    close(fd);
    bytes_free(&bytes);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_allocation_after_the_first_records)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
