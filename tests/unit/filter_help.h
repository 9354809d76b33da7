/* What the tests of filters share: filters run over bytes in memory, towards a full disk and between pipes. */
#ifndef WS2_TEST_FILTER_HELP_H
#define WS2_TEST_FILTER_HELP_H

#include <signal.h>
#include <time.h>

#include "stream_help.h"

enum { SIDE = 24, NEVER = -1 };

/* Up to two milliseconds, so that workers end in any order. */
static inline void pause_randomly(struct ws2_random *random)
{
    const struct timespec time = {0, ws2_random_below(random, 2000000)};
    nanosleep(&time, NULL);
}

/* A filter that touches nothing. */
static inline int idle_begin(void *context, const struct ws2_head *in, struct ws2_head *out,
                             struct ws2_error *error)
{
    (void)context, (void)in, (void)out, (void)error;
    return 0;
}

static inline int idle_work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    (void)context, (void)record, (void)worker, (void)error;
    return 0;
}

struct run_outcome {
    int status;
    struct ws2_error error;
    struct bytes out;
};

/* Runs the filter over the bytes; what was written is returned whether or not it ended well. */
static inline struct run_outcome run_filter(const struct ws2_filter *filter, const struct bytes *bytes,
                                            int threads)
{
    struct run_outcome outcome = {0};
    struct ws2_reader *reader;
    struct sink sink;
    char path[64];
    int closed;
    const int fd = memory_file(bytes, path);
    assert_int_equal(ws2_reader_open(&reader, path, &outcome.error), 0);
    sink_open(&sink, 3);
    outcome.status = ws2_filter_run(filter, reader, sink.writer, threads, &outcome.error);
    assert_int_equal(outcome.status, outcome.error.status);
    outcome.out = sink_close(&sink, &closed);
    /* After a failure a segment is open or nothing is written, and closing says so. */
    assert_true(outcome.status == 0 ? closed == 0 : closed < 0 || outcome.out.size > 0);
    ws2_reader_close(reader);
    close(fd);
    return outcome;
}

/* Keeps the first output and holds every later one against it. */
static inline void keep_or_compare(struct bytes *first, struct bytes *out)
{
    if (first->data == NULL) {
        *first = *out;
        return;
    }
    assert_true(bytes_equal(first, out));
    bytes_free(out);
}

/* Runs the filter towards a full disk and expects to hear of it. */
static inline void run_to_full_disk(const struct ws2_filter *filter, const struct bytes *bytes, int threads)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    char path[64];
    const int fd = memory_file(bytes, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_int_equal(ws2_writer_open(&writer, "/dev/full", 3, &error), 0);
    assert_int_equal(ws2_filter_run(filter, reader, writer, threads, &error), WS2_ERR_SYSTEM);
    assert_non_null(strstr(error.text, "/dev/full: cannot write"));
    ws2_writer_abandon(writer);
    ws2_reader_close(reader);
    close(fd);
}

/* Runs the filter from one pipe to another in a process of its own. */
static inline pid_t start_filter(const struct ws2_filter *filter, const int from[2], const int to[2])
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child != 0)
        return child;
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    dup2(from[0], STDIN_FILENO);
    dup2(to[1], STDOUT_FILENO);
    close(from[1]);
    close(to[0]);
    if (ws2_reader_open(&reader, "-", &error) != 0 || ws2_writer_open(&writer, "-", 3, &error) != 0 ||
        ws2_filter_run(filter, reader, writer, 2, &error) != 0 || ws2_writer_close(writer, &error) != 0)
        _exit(1);
    ws2_reader_close(reader);
    _exit(0);
}

static inline int ignore_pipe(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    alarm(300); /* a deadlock shall not hang the test run */
    return 0;
}

#endif
