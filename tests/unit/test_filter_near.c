/* Filters that see neighbours: the right window for each record, the same bytes for any number of threads, and every
 * way to fail ends in order. */
#include <stdatomic.h>
#include <sys/wait.h>

#include "filter_help.h"

enum { REACH_MOST = 3 };

/* What a record leaves for its neighbours: `part[s]` by step s, from its own part[s-1] and those before it. */
struct mark {
    int64_t frame;
    uint64_t part[4];
};

/* A filter that adds what it saw of its window, drops every `drop`th record, and can be told to fail. */
struct view {
    int reach, steps;
    bool delays;
    int drop;
    int64_t fail_frame; /* or NEVER */
    int fail_step;      /* `steps`: in the work */
    atomic_int made;    /* notes */
    int64_t done;
};

static atomic_int marks_freed;

static int view_begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    (void)context;
    assert_non_null(ws2_head_find(in, "fg"));
    return ws2_head_add_tensor(out, "seen", WS2_I64, "k,2", "", error);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    return (a ^ b) * 0x9E3779B97F4A7C15u + (a >> 17);
}

/* Step 0: of the record alone. */
static uint64_t first_part(const struct ws2_tensor *fg, int64_t frame)
{
    return mix(ws2_checksum(fg->data, fg->bytes), (uint64_t)frame);
}

/* A later step: of the part before, own and of the neighbours before; before[k] is NULL beyond the segment. */
static uint64_t later_part(int step, const struct mark *own, const struct mark *const *before, int reach)
{
    uint64_t part = own->part[step - 1];
    for (int k = 0; k < reach; k++)
        part = mix(part, before[k] != NULL ? before[k]->part[step - 1] : 7);
    return part;
}

static int view_stop(const struct view *view, int step, const struct ws2_record *record, int worker,
                     struct ws2_error *error)
{
    const int64_t frame = ws2_record_frame(record);
    struct ws2_random random = ws2_random_make((uint64_t)(frame * 8 + step), (uint64_t)worker);
    if (view->delays)
        pause_randomly(&random);
    if (frame == view->fail_frame && step == view->fail_step)
        return ws2_fail(error, WS2_ERR_INPUT, "step %d dislikes it", step);
    return 0;
}

static int view_prepare(void *context, int step, struct ws2_record *record, void **note, int worker,
                        struct ws2_error *error)
{
    struct view *view = context;
    const struct mark *before[REACH_MOST];
    if (step == 0 && *note == NULL) {
        *note = calloc(1, sizeof(struct mark));
        atomic_fetch_add(&view->made, 1);
    }
    struct mark *mark = *note;
    struct ws2_tensor fg;
    if (view_stop(view, step, record, worker, error) != 0)
        return error->status;
    if (step == 0) {
        const int got = ws2_record_want(record, "fg", WS2_U8, 2, &fg, error);
        if (got < 0)
            return got;
        mark->frame = ws2_record_frame(record);
        mark->part[0] = first_part(&fg, mark->frame);
        return 0;
    }
    for (int k = 0; k < view->reach; k++)
        before[k] = note[-1 - k];
    mark->part[step] = later_part(step, mark, before, view->reach);
    return 0;
}

static int view_work(void *context, struct ws2_record *record, void *const *note, int worker,
                     struct ws2_error *error)
{
    const struct view *view = context;
    const int reach = view->reach;
    const struct ws2_shape shape = ws2_shape_2(2 * reach + 1, 2);
    if (view_stop(view, view->steps, record, worker, error) != 0)
        return error->status;
    if (view->drop != 0 && ws2_record_frame(record) % view->drop == 0)
        return 1;
    int64_t *seen = ws2_record_add(record, "seen", WS2_I64, &shape, error);
    if (seen == NULL)
        return error->status;
    for (int k = -reach; k <= reach; k++) {
        const struct mark *mark = note[k];
        seen[2 * (k + reach)] = mark != NULL ? mark->frame : -1;
        seen[2 * (k + reach) + 1] = mark != NULL ? (int64_t)mark->part[view->steps - 1] : -1;
    }
    return 0;
}

static void view_done(void *context, const struct ws2_reader *reader, const struct ws2_record *record)
{
    (void)reader, (void)record;
    ((struct view *)context)->done++;
}

static void mark_free(void *note)
{
    atomic_fetch_add(&marks_freed, 1);
    free(note);
}

static struct ws2_filter view_filter(struct view *view)
{
    return (struct ws2_filter){.begin = view_begin,
                               .done = view_done,
                               .context = view,
                               .reach = view->reach,
                               .steps = view->steps,
                               .prepare = view_prepare,
                               .work_near = view_work,
                               .forget = mark_free};
}

/* Runs the view over the bytes; every note must be freed, and there are no more than records in memory. */
static struct run_outcome run_view(struct view *view, const struct bytes *bytes, int threads)
{
    const struct ws2_filter filter = view_filter(view);
    atomic_store(&marks_freed, 0);
    const struct run_outcome outcome = run_filter(&filter, bytes, threads);
    assert_int_equal(atomic_load(&marks_freed), atomic_load(&view->made));
    assert_true(atomic_load(&view->made) <= 2 * threads + 2 + 2 * view->reach);
    return outcome;
}

static struct view view_make(int reach, int steps)
{
    return (struct view){.reach = reach, .steps = steps, .fail_frame = NEVER};
}

static struct bytes make_segments(const int *frames, int segments)
{
    struct sink sink;
    sink_open(&sink, 3);
    for (int i = 0; i < segments; i++)
        write_segment(sink.writer, "bear", frames[i], SIDE);
    return sink_close(&sink, NULL);
}

/* What the marks of a segment of make_segments must be, record by record. */
static void expect_marks(struct mark *mark, int frames, int reach, int steps)
{
    uint8_t picture[SIDE * SIDE];
    for (int t = 0; t < frames; t++) {
        const struct ws2_tensor fg = {.bytes = sizeof picture, .data = picture};
        fill(picture, sizeof picture, (uint64_t)t);
        mark[t] = (struct mark){.frame = 10 + t, .part = {first_part(&fg, 10 + t)}};
    }
    for (int step = 1; step < steps; step++) {
        for (int t = 0; t < frames; t++) {
            const struct mark *before[REACH_MOST];
            for (int k = 0; k < reach; k++)
                before[k] = t - 1 - k >= 0 ? &mark[t - 1 - k] : NULL;
            mark[t].part[step] = later_part(step, &mark[t], before, reach);
        }
    }
}

static void check_seen(struct ws2_record *record, const struct mark *mark, int frames, int reach, int steps)
{
    struct ws2_error error = {0};
    struct ws2_tensor seen;
    const int t = (int)ws2_record_frame(record) - 10;
    assert_int_equal(ws2_record_get(record, "seen", &seen, &error), 1);
    const int64_t *value = seen.data;
    for (int k = -reach; k <= reach; k++, value += 2) {
        const bool there = t + k >= 0 && t + k < frames;
        assert_true(value[0] == (there ? mark[t + k].frame : -1));
        assert_true(value[1] == (there ? (int64_t)mark[t + k].part[steps - 1] : -1));
    }
}

/* Reads a whole output and holds every record against what its window holds. */
static void check_views(const struct bytes *out, const int *frames, int segments, const struct view *view)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    struct mark mark[64];
    char path[64];
    const int fd = memory_file(out, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    for (int i = 0; i < segments; i++) {
        expect_marks(mark, frames[i], view->reach, view->steps);
        for (int t = 0; t < frames[i]; t++) {
            if (view->drop != 0 && (10 + t) % view->drop == 0)
                continue;
            assert_int_equal(ws2_reader_next(reader, record), 1);
            assert_int_equal(ws2_record_frame(record), 10 + t);
            check_seen(record, mark, frames[i], view->reach, view->steps);
        }
        assert_int_equal(ws2_reader_next(reader, record), 0);
        assert_int_equal(ws2_reader_next_segment(reader), i + 1 < segments);
    }
    ws2_reader_close(reader);
    ws2_record_free(record);
    close(fd);
}

static const int lengths[] = {1, 2, 3, 0, 4, 30, 1, 7};
enum { SEGMENTS = sizeof lengths / sizeof *lengths };

/* Short and long segments, windows at the ends, any number of threads. */
static void windows_hold_the_neighbours(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 5};
    struct bytes in = make_segments(lengths, SEGMENTS);
    for (int reach = 1; reach <= REACH_MOST; reach++) {
        for (int steps = 1; steps <= 3; steps++) {
            struct bytes first = {0};
            for (int i = 0; i < 6; i++) {
                struct view view = view_make(reach, steps);
                view.delays = i >= 3 && reach < 3;
                struct run_outcome outcome = run_view(&view, &in, threads[i % 3]);
                assert_int_equal(outcome.status, 0);
                assert_int_equal(view.done, 48);
                if (i == 0)
                    check_views(&outcome.out, lengths, SEGMENTS, &view);
                keep_or_compare(&first, &outcome.out);
            }
            bytes_free(&first);
        }
    }
    bytes_free(&in);
}

/* A dropped record is still its neighbours' neighbour. */
static void dropped_records_are_still_seen(void **state)
{
    (void)state;
    struct bytes in = make_segments(lengths, SEGMENTS);
    for (int drop = 1; drop <= 3; drop++) {
        struct view view = view_make(2, 2);
        view.drop = drop;
        struct run_outcome outcome = run_view(&view, &in, 3);
        assert_int_equal(outcome.status, 0);
        check_views(&outcome.out, lengths, SEGMENTS, &view);
        bytes_free(&outcome.out);
    }
    bytes_free(&in);
}

/* Records whose windows were prepared are written, nothing else, and one error is told, always the same. */
static void an_error_near_by_stops_in_order(void **state)
{
    (void)state;
    static const int frames[] = {5, 30}, threads[] = {1, 2, 5, 8};
    struct bytes in = make_segments(frames, 2);
    for (int step = 0; step <= 2; step++) {
        for (int64_t frame = 15; frame < 40; frame += 3) {
            struct bytes first = {0};
            char text[80];
            snprintf(text, sizeof text, "bear: frame %lld: step %d dislikes it", (long long)frame, step);
            for (int i = 0; i < 4; i++) {
                struct view view = view_make(2, 2);
                view.fail_frame = frame;
                view.fail_step = step;
                view.delays = frame == 24;
                struct run_outcome outcome = run_view(&view, &in, threads[i]);
                const int64_t before = frame - 10 - (step < 2 ? view.reach : 0);
                assert_int_equal(outcome.status, WS2_ERR_INPUT);
                assert_string_equal(outcome.error.text, text);
                assert_int_equal(view.done, 5 + before);
                assert_int_equal(read_bytes(&outcome.out).status, WS2_ERR_TRUNCATED);
                keep_or_compare(&first, &outcome.out);
            }
            bytes_free(&first);
        }
    }
    bytes_free(&in);
}

/* A cut input: windows that the cut takes from are not written. */
static void a_cut_takes_the_windows_it_reaches(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 12, SIDE);
    struct bytes head = make_stream(1, 0, SIDE);
    const size_t whole = in.size, head_size = head.size - WS2_BODY_AT - WS2_TAIL_BODY_MIN;
    for (in.size = head_size; in.size < whole; in.size += 97) {
        const int64_t read = read_bytes(&in).records;
        for (int threads = 1; threads <= 4; threads += 3) {
            struct view view = view_make(2, 2);
            struct run_outcome outcome = run_view(&view, &in, threads);
            assert_int_equal(outcome.status, WS2_ERR_TRUNCATED);
            assert_int_equal(view.done, read > 2 ? read - 2 : 0);
            assert_int_equal(read_bytes(&outcome.out).status, WS2_ERR_TRUNCATED);
            bytes_free(&outcome.out);
        }
    }
    bytes_free(&head);
    bytes_free(&in);
}

static void a_full_disk_stops_near_filters(void **state)
{
    (void)state;
    struct bytes in = make_stream(1, 200, SIDE);
    for (int threads = 1; threads <= 3; threads++) {
        struct view view = view_make(3, 2);
        const struct ws2_filter filter = view_filter(&view);
        atomic_store(&marks_freed, 0);
        run_to_full_disk(&filter, &in, threads);
        assert_int_equal(view.done, 0);
        assert_int_equal(atomic_load(&marks_freed), atomic_load(&view.made));
    }
    bytes_free(&in);
}

/* The end of the n-th record of a stream: where the next RECORD or the TAIL begins. */
static size_t end_of_record(const struct bytes *in, int n)
{
    const unsigned char *at = in->data, *end = in->data + in->size;
    for (int i = 0; i <= n && at != NULL; i++)
        at = memmem(at + 1, (size_t)(end - at - 1), WS2_TAG_RECORD, 4);
    if (at == NULL)
        at = memmem(in->data, in->size, WS2_TAG_TAIL, 4);
    return (size_t)(at - 8 - in->data);
}

/* Record t leaves when record t + reach has come, though the producer has not gone on. */
static void a_record_leaves_with_its_window(void **state)
{
    (void)state;
    enum { FRAMES = 8, REACH = 2 };
    struct bytes in = make_stream(1, FRAMES, SIDE);
    struct view view = view_make(REACH, 2);
    struct run_outcome whole = run_view(&view, &in, 1);
    int from[2], to[2], status;
    assert_int_equal(pipe(from), 0);
    assert_int_equal(pipe(to), 0);
    view = view_make(REACH, 2);
    const struct ws2_filter filter = view_filter(&view);
    const pid_t child = start_filter(&filter, from, to);
    close(from[0]);
    close(to[1]);
    unsigned char *back = malloc(whole.out.size);
    size_t given = 0, have = 0;
    for (int t = 0; t < FRAMES; t++) {
        const size_t upto = end_of_record(&in, t + 1);
        assert_int_equal(write(from[1], in.data + given, upto - given), (ssize_t)(upto - given));
        given = upto;
        const size_t want = t < REACH ? 0 : end_of_record(&whole.out, t - REACH + 1);
        while (have < want) {
            const ssize_t got = read(to[0], back + have, want - have);
            assert_true(got > 0);
            have += (size_t)got;
        }
    }
    assert_int_equal(write(from[1], in.data + given, in.size - given), (ssize_t)(in.size - given));
    close(from[1]);
    for (ssize_t got; (got = read(to[0], back + have, whole.out.size - have)) > 0;)
        have += (size_t)got;
    assert_int_equal(have, whole.out.size);
    assert_memory_equal(back, whole.out.data, have);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(to[0]);
    free(back);
    bytes_free(&whole.out);
    bytes_free(&in);
}

static void reach_and_steps_go_together(void **state)
{
    (void)state;
    static const int wrong[][2] = {
        {1, 0}, {0, 1}, {-1, 1}, {1, -1}, {WS2_REACH_MAX + 1, 1}, {1, WS2_STEPS_MAX + 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct view view = view_make(wrong[i][0], wrong[i][1]);
        struct ws2_filter filter = view_filter(&view);
        struct ws2_error error = {0};
        filter.work = idle_work;
        assert_int_equal(ws2_filter_run(&filter, NULL, NULL, 1, &error), WS2_ERR_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_hold_the_neighbours),
        cmocka_unit_test(dropped_records_are_still_seen),
        cmocka_unit_test(an_error_near_by_stops_in_order),
        cmocka_unit_test(a_cut_takes_the_windows_it_reaches),
        cmocka_unit_test(a_full_disk_stops_near_filters),
        cmocka_unit_test(a_record_leaves_with_its_window),
        cmocka_unit_test(reach_and_steps_go_together),
    };
    return cmocka_run_group_tests(tests, ignore_pipe, NULL);
}
