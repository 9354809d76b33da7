/* filter: the same bytes for any number of threads, and every way to fail ends at once, in order, without TAIL. */
#include "filter_help.h"

/* A filter that adds a tensor made from another one, drops every `drop`th record, and can be told to fail. */
struct plan {
    bool delays;
    int drop;
    int64_t fail_begin, fail_frame; /* segment or frame number, or NEVER */
    int segment;
    int64_t factor;     /* set anew by each begin: workers must never see the wrong one */
    int64_t done, last; /* records that `done` has seen */
    bool in_order;
};

static int plan_begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct plan *plan = context;
    static const char *const options[] = {"b=2", "a=1"};
    const struct ws2_history entry = {"test", "1", options, 2, true, 7, NULL};
    if (plan->segment == plan->fail_begin)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor that I like");
    assert_non_null(ws2_head_find(in, "fg"));
    plan->factor = 3 + plan->segment++;
    plan->last = -1;
    if (ws2_head_add_history(out, &entry) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return ws2_head_add_tensor(out, "new", WS2_U16, "h,w", "", error);
}

static int plan_work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct plan *plan = context;
    struct ws2_tensor fg;
    const int64_t frame = ws2_record_frame(record);
    struct ws2_random random = ws2_random_make((uint64_t)frame, (uint64_t)worker);
    if (plan->delays)
        pause_randomly(&random);
    if (plan->drop != 0 && frame % plan->drop == 0)
        return 1;
    if (frame == plan->fail_frame)
        return ws2_fail(error, WS2_ERR_INPUT, "the picture is upside down");
    const int got = ws2_record_want(record, "fg", WS2_U8, 2, &fg, error);
    if (got < 0)
        return got;
    uint16_t *made = ws2_record_add(record, "new", WS2_U16, &fg.shape, error);
    if (made == NULL)
        return error->status;
    for (size_t i = 0; i < fg.bytes; i++)
        made[i] = (uint16_t)(((const uint8_t *)fg.data)[i] * plan->factor);
    return 0;
}

static void plan_done(void *context, const struct ws2_reader *reader, const struct ws2_record *record)
{
    struct plan *plan = context;
    plan->done++;
    plan->in_order = plan->in_order && ws2_record_frame(record) > plan->last && ws2_reader_bytes(reader) > 0;
    plan->last = ws2_record_frame(record);
}

static struct plan plan_make(void)
{
    return (struct plan){.fail_begin = NEVER, .fail_frame = NEVER, .in_order = true};
}

static struct ws2_filter plan_filter(struct plan *plan)
{
    return (struct ws2_filter){.begin = plan_begin, .work = plan_work, .done = plan_done, .context = plan};
}

static struct run_outcome run(struct plan *plan, const struct bytes *bytes, int threads)
{
    const struct ws2_filter filter = plan_filter(plan);
    return run_filter(&filter, bytes, threads);
}

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 8};
    struct bytes in = make_stream(3, 30, SIDE), first = {0};
    for (int i = 0; i < 8; i++) {
        struct plan plan = plan_make();
        plan.delays = i >= 4;
        struct run_outcome outcome = run(&plan, &in, threads[i % 4]);
        assert_int_equal(outcome.status, 0);
        assert_int_equal(plan.done, 90);
        assert_true(plan.in_order);
        keep_or_compare(&first, &outcome.out);
    }
    const struct outcome read = read_bytes(&first);
    assert_int_equal(read.status, 0);
    assert_int_equal(read.segments, 3);
    assert_int_equal(read.records, 90);
    bytes_free(&first);
    bytes_free(&in);
}

/* Each segment's records must be worked on with what its own begin has set. */
static void segments_do_not_mix(void **state)
{
    (void)state;
    struct bytes in = make_stream(4, 5, SIDE);
    struct plan plan = plan_make();
    plan.delays = true;
    struct run_outcome outcome = run(&plan, &in, 8);
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    char path[64];
    const int fd = memory_file(&outcome.out, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    for (int segment = 0; segment < 4; segment++) {
        struct ws2_tensor fg, made;
        assert_int_equal(ws2_head_histories(ws2_reader_head(reader)), 1);
        assert_string_equal(
            ws2_head_history(ws2_reader_head(reader), 0),
            "{\"options\":[\"a=1\",\"b=2\"],\"program\":\"test\",\"seed\":7,\"version\":\"1\"}");
        while (ws2_reader_next(reader, record) == 1) {
            assert_int_equal(ws2_record_get(record, "fg", &fg, &error), 1);
            assert_int_equal(ws2_record_get(record, "new", &made, &error), 1);
            for (size_t i = 0; i < fg.bytes; i++)
                assert_int_equal(((const uint16_t *)made.data)[i],
                                 ((const uint8_t *)fg.data)[i] * (3 + segment));
        }
        assert_int_equal(ws2_reader_next_segment(reader), segment < 3);
    }
    ws2_reader_close(reader);
    ws2_record_free(record);
    close(fd);
    bytes_free(&outcome.out);
    bytes_free(&in);
}

/* A filter that touches nothing copies the stream byte by byte, whatever level its writer has. */
static void what_is_not_touched_stays_as_it_is(void **state)
{
    (void)state;
    const struct ws2_filter filter = {.begin = idle_begin, .work = idle_work};
    struct bytes in = make_stream(3, 7, SIDE);
    for (int level = -10; level <= 5; level += 5) {
        struct ws2_error error = {0};
        struct ws2_reader *reader;
        struct sink sink;
        char path[64];
        const int fd = memory_file(&in, path);
        assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
        sink_open(&sink, level);
        assert_int_equal(ws2_filter_run(&filter, reader, sink.writer, 2, &error), 0);
        assert_int_equal(ws2_writer_records(sink.writer), 21);
        struct bytes out = sink_close(&sink, NULL);
        assert_true(bytes_equal(&in, &out));
        bytes_free(&out);
        ws2_reader_close(reader);
        close(fd);
    }
    bytes_free(&in);
}

static void records_can_be_dropped(void **state)
{
    (void)state;
    struct bytes in = make_stream(2, 10, SIDE);
    struct plan plan = plan_make();
    plan.drop = 3; /* frames 12, 15, 18 */
    struct run_outcome outcome = run(&plan, &in, 3);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(plan.done, 14);
    assert_int_equal(read_bytes(&outcome.out).records, 14);
    bytes_free(&outcome.out);
    plan = plan_make();
    plan.drop = 1;
    outcome = run(&plan, &in, 2);
    assert_int_equal(outcome.status, 0);
    const struct outcome read = read_bytes(&outcome.out);
    assert_int_equal(read.status, 0);
    assert_int_equal(read.segments, 2);
    assert_int_equal(read.records, 0);
    bytes_free(&outcome.out);
    bytes_free(&in);
}

static void an_error_in_the_work_stops_in_order(void **state)
{
    (void)state;
    struct bytes in = make_stream(2, 30, SIDE), first = {0};
    for (int threads = 1; threads <= 8; threads++) {
        struct plan plan = plan_make();
        plan.fail_frame = 21;
        plan.delays = true;
        struct run_outcome outcome = run(&plan, &in, threads);
        assert_int_equal(outcome.status, WS2_ERR_INPUT);
        assert_string_equal(outcome.error.text, "bear: frame 21: the picture is upside down");
        assert_int_equal(plan.done, 11); /* frames 10 to 20, and nothing after */
        assert_int_equal(read_bytes(&outcome.out).status, WS2_ERR_TRUNCATED);
        keep_or_compare(&first, &outcome.out);
    }
    bytes_free(&first);
    bytes_free(&in);
}

static void an_error_at_the_beginning_stops(void **state)
{
    (void)state;
    struct bytes in = make_stream(3, 4, SIDE);
    for (int64_t segment = 0; segment < 3; segment++) {
        static const char *const names[] = {"bear", "crow", "deer"};
        struct plan plan = plan_make();
        plan.fail_begin = segment;
        struct run_outcome outcome = run(&plan, &in, 2);
        char text[80];
        snprintf(text, sizeof text, "%s: no tensor that I like", names[segment]);
        assert_int_equal(outcome.status, WS2_ERR_INPUT);
        assert_string_equal(outcome.error.text, text);
        assert_int_equal(plan.done, 4 * segment);
        bytes_free(&outcome.out);
    }
    bytes_free(&in);
}

/* Upstream died: what came is passed on, the TAIL is not, and the status says so. */
static void a_truncated_input_gives_a_truncated_output(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 12, SIDE);
    const size_t whole = in.size;
    struct bytes head = make_stream(1, 0, SIDE);
    const size_t head_size = head.size - WS2_BODY_AT - WS2_TAIL_BODY_MIN;
    for (in.size = head_size; in.size < whole; in.size += 97) {
        struct plan plan = plan_make();
        struct run_outcome outcome = run(&plan, &in, 3);
        assert_int_equal(outcome.status, WS2_ERR_TRUNCATED);
        assert_int_equal(plan.done, read_bytes(&in).records);
        assert_int_equal(read_bytes(&outcome.out).status, WS2_ERR_TRUNCATED);
        bytes_free(&outcome.out);
    }
    bytes_free(&head);
    bytes_free(&in);
}

static void a_corrupt_input_stops(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 12, SIDE);
    in.data[in.size - 600] ^= 4;
    struct plan plan = plan_make();
    struct run_outcome outcome = run(&plan, &in, 2);
    assert_int_equal(outcome.status, WS2_ERR_INPUT);
    assert_non_null(strstr(outcome.error.text, "frame "));
    assert_int_equal(read_bytes(&outcome.out).status, WS2_ERR_TRUNCATED);
    bytes_free(&outcome.out);
    bytes_free(&in);
}

static void a_full_disk_stops(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 200, SIDE);
    for (int threads = 1; threads <= 3; threads++) {
        struct plan plan = plan_make();
        const struct ws2_filter filter = plan_filter(&plan);
        run_to_full_disk(&filter, &in, threads);
        assert_int_equal(plan.done, 0);
    }
    bytes_free(&in);
}

/* The reader waits for a producer that says nothing more, when the work fails: it must be woken. */
static void a_waiting_reader_is_woken(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 30, SIDE);
    const unsigned char *at = in.data;
    for (int i = 0; i < 20; i++)
        at = memmem(at + 1, (size_t)(in.data + in.size - at - 1), WS2_TAG_RECORD, 4);
    for (int threads = 1; threads <= 4; threads++) {
        struct ws2_error error = {0};
        struct ws2_reader *reader;
        struct sink sink;
        struct plan plan = plan_make();
        plan.fail_frame = 25;
        const struct ws2_filter filter = plan_filter(&plan);
        char path[64];
        int ends[2], closed;
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], in.data, (size_t)(at - in.data)), at - in.data);
        snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
        assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
        sink_open(&sink, 3);
        assert_int_equal(ws2_filter_run(&filter, reader, sink.writer, threads, &error), WS2_ERR_INPUT);
        assert_string_equal(error.text, "bear: frame 25: the picture is upside down");
        assert_int_equal(plan.done, 15);
        struct bytes out = sink_close(&sink, &closed);
        bytes_free(&out);
        ws2_reader_close(reader);
        close(ends[0]);
        close(ends[1]);
    }
    bytes_free(&in);
}

/* A record leaves the filter as soon as it is done, though the producer has not gone on. */
static void records_are_not_held_back(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 3, SIDE);
    int from[2], to[2];
    const struct ws2_filter filter = {.begin = idle_begin, .work = idle_work};
    assert_int_equal(pipe(from), 0);
    assert_int_equal(pipe(to), 0);
    start_filter(&filter, from, to);
    close(from[0]);
    close(to[1]);
    const unsigned char *tail = memmem(in.data, in.size, WS2_TAG_TAIL, 4);
    const size_t before = (size_t)(tail - 8 - in.data);
    assert_int_equal(write(from[1], in.data, before), (ssize_t)before);
    unsigned char *back = malloc(in.size);
    size_t have = 0;
    while (have < before) {
        const ssize_t got = read(to[0], back + have, in.size - have);
        assert_true(got > 0);
        have += (size_t)got;
    }
    assert_int_equal(have, before);
    assert_int_equal(write(from[1], in.data + before, in.size - before), (ssize_t)(in.size - before));
    close(from[1]);
    while (have < in.size) {
        const ssize_t got = read(to[0], back + have, in.size - have);
        assert_true(got > 0);
        have += (size_t)got;
    }
    assert_memory_equal(back, in.data, in.size);
    assert_int_equal(read(to[0], back, 1), 0);
    close(to[0]);
    free(back);
    bytes_free(&in);
}

static void threads_must_be_at_least_one(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    const struct ws2_filter filter = {.begin = idle_begin, .work = idle_work};
    assert_int_equal(ws2_filter_run(&filter, NULL, NULL, 0, &error), WS2_ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(segments_do_not_mix),
        cmocka_unit_test(what_is_not_touched_stays_as_it_is),
        cmocka_unit_test(records_can_be_dropped),
        cmocka_unit_test(an_error_in_the_work_stops_in_order),
        cmocka_unit_test(an_error_at_the_beginning_stops),
        cmocka_unit_test(a_truncated_input_gives_a_truncated_output),
        cmocka_unit_test(a_corrupt_input_stops),
        cmocka_unit_test(a_full_disk_stops),
        cmocka_unit_test(a_waiting_reader_is_woken),
        cmocka_unit_test(records_are_not_held_back),
        cmocka_unit_test(threads_must_be_at_least_one),
    };
    return cmocka_run_group_tests(tests, ignore_pipe, NULL);
}
