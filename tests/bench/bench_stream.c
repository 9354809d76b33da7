/*
 * stream: transport. Prints "what TAB value TAB unit". The frames are 512 x 512 RGB noise, which does not
 * compress, so that tensor bytes and stream bytes are the same and nothing is won by cheating.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stream/stream.h"

enum { SIDE = 512, FRAME_BYTES = SIDE * SIDE * 3, FILTERS = 5 };

static double wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* User and system seconds of this process, or of the children it has waited for. */
static double cpu(int who)
{
    struct rusage use;
    getrusage(who, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void check(int status, const struct ws2_error *error)
{
    if (status >= 0)
        return;
    fprintf(stderr, "bench_stream: %s\n", error->text);
    exit(1);
}

static void print(const char *what, double value, const char *unit)
{
    printf("stream: %s\t%.4g\t%s\n", what, value, unit);
}

/* ---- making and passing on ---------------------------------------------------------------------------- */

static void make_record(struct ws2_record *record, int64_t frame)
{
    struct ws2_error error = {0};
    const struct ws2_shape shape = ws2_shape_3(SIDE, SIDE, 3);
    struct ws2_random random = ws2_random_make(0, (uint64_t)frame);
    ws2_record_clear(record);
    ws2_record_set_frame(record, frame, frame * 40000);
    uint64_t *data = ws2_record_add(record, "rgb", WS2_U8, &shape, &error);
    check(error.status, &error);
    for (int i = 0; i < FRAME_BYTES / 8; i++)
        data[i] = ws2_random_u64(&random);
}

static struct ws2_head *make_head(void)
{
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    check(ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error), &error);
    return head;
}

/* Writes `frames` records; only 8 different ones, packed once, so that the source costs little. */
static void produce(const char *path, int frames)
{
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    struct ws2_record *record[8];
    struct ws2_head *head = make_head();
    check(ws2_writer_open(&writer, path, WS2_LEVEL_PIPE, &error), &error);
    for (int i = 0; i < 8; i++) {
        record[i] = ws2_record_new();
        make_record(record[i], i);
        check(ws2_record_pack(record[i], WS2_LEVEL_PIPE, &error), &error);
    }
    check(ws2_writer_begin(writer, head), ws2_writer_error(writer));
    for (int i = 0; i < frames; i++) {
        ws2_record_set_frame(record[i % 8], i, i * 40000);
        check(ws2_writer_put(writer, record[i % 8]), ws2_writer_error(writer));
    }
    check(ws2_writer_end(writer), ws2_writer_error(writer));
    check(ws2_writer_close(writer, &error), &error);
    for (int i = 0; i < 8; i++)
        ws2_record_free(record[i]);
    ws2_head_free(head);
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    (void)context, (void)in, (void)out, (void)error;
    return 0;
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    (void)context, (void)record, (void)worker, (void)error;
    return 0;
}

static void pass(const char *from, const char *to)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    const struct ws2_filter filter = {.begin = begin, .work = work};
    check(ws2_reader_open(&reader, from, &error), &error);
    check(ws2_writer_open(&writer, to, WS2_LEVEL_PIPE, &error), &error);
    check(ws2_filter_run(&filter, reader, writer, 1, &error), &error);
    check(ws2_writer_close(writer, &error), &error);
    ws2_reader_close(reader);
}

static void consume(const char *path)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    check(ws2_reader_open(&reader, path, &error), &error);
    int status;
    while ((status = ws2_reader_next(reader, record)) == 1) {
    }
    check(status, ws2_reader_error(reader));
    ws2_record_free(record);
    ws2_reader_close(reader);
}

/* ---- files -------------------------------------------------------------------------------------------- */

/* The output's pages exist before the clock starts: making them is the kernel's cost, the same for dd. */
static void bench_files(const char *from, const char *to)
{
    const int frames = 256;
    char descriptor[64];
    produce(from, frames);
    const int fd = open(to, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        exit(1);
    snprintf(descriptor, sizeof descriptor, "/dev/fd/%d", fd);
    pass(from, descriptor);
    const double start = wall(), used = cpu(RUSAGE_SELF);
    for (int i = 0; i < 4; i++) {
        if (lseek(fd, 0, SEEK_SET) != 0)
            exit(1);
        pass(from, descriptor);
    }
    const double bytes = 4e-9 * frames * FRAME_BYTES;
    print("pass-through, file to file in memory, per core", bytes / (cpu(RUSAGE_SELF) - used), "GB/s");
    print("pass-through, file to file in memory, elapsed", bytes / (wall() - start), "GB/s");
    const double read_start = wall();
    for (int i = 0; i < 4; i++)
        consume(from);
    print("reading without unpacking, file in memory", bytes / (wall() - read_start), "GB/s");
    close(fd);
}

static void bench_access(const char *from)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    struct ws2_tensor tensor;
    int64_t segments, records;
    check(ws2_reader_open(&reader, from, &error), &error);
    check(ws2_reader_index(reader, &segments, &records), ws2_reader_error(reader));
    struct ws2_random random = ws2_random_make(1, 0);
    double start = wall();
    for (int i = 0; i < 500; i++)
        check(ws2_reader_at(reader, ws2_random_below(&random, records), record), ws2_reader_error(reader));
    print("random access to one frame", 1e6 * (wall() - start) / 500, "us");
    start = wall();
    for (int i = 0; i < 300; i++) {
        check(ws2_reader_at(reader, i % records, record), ws2_reader_error(reader));
        check(ws2_record_get(record, "rgb", &tensor, &error), &error);
    }
    print("reading and unpacking", 300e-9 * FRAME_BYTES / (wall() - start), "GB/s");
    ws2_record_free(record);
    ws2_reader_close(reader);
}

static void bench_index(const char *path)
{
    struct ws2_error error = {0};
    struct ws2_writer *writer;
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    struct ws2_head *head = make_head();
    int64_t segments, records;
    const int count = 200000;
    check(ws2_writer_open(&writer, path, WS2_LEVEL_PIPE, &error), &error);
    check(ws2_writer_begin(writer, head), ws2_writer_error(writer));
    const double start = wall();
    for (int i = 0; i < count; i++) {
        ws2_record_set_frame(record, i, -1);
        check(ws2_writer_put(writer, record), ws2_writer_error(writer));
    }
    print("writing a record without tensors", 1e6 * (wall() - start) / count, "us");
    check(ws2_writer_end(writer), ws2_writer_error(writer));
    check(ws2_writer_close(writer, &error), &error);
    const double opened = wall();
    check(ws2_reader_open(&reader, path, &error), &error);
    check(ws2_reader_index(reader, &segments, &records), ws2_reader_error(reader));
    print("opening and indexing 200000 records", 1e3 * (wall() - opened), "ms");
    const double read = wall();
    int status;
    while ((status = ws2_reader_next(reader, record)) == 1) {
    }
    check(status, ws2_reader_error(reader));
    print("reading a record without tensors", 1e6 * (wall() - read) / count, "us");
    ws2_reader_close(reader);
    ws2_record_free(record);
    ws2_head_free(head);
}

static void bench_pack(int level, const char *what)
{
    struct ws2_error error = {0};
    struct ws2_record *record = ws2_record_new();
    double seconds = 0;
    for (int i = 0; i < 60; i++) {
        make_record(record, i);
        const double start = wall();
        check(ws2_record_pack(record, level, &error), &error);
        seconds += wall() - start;
    }
    print(what, 60e-9 * FRAME_BYTES / seconds, "GB/s");
    ws2_record_free(record);
}

/* ---- pipes -------------------------------------------------------------------------------------------- */

/* source | filter ... | sink, each a process of its own as in a shell. Seconds per frame. */
static void run_pipe(int filters, double *elapsed, double *busy)
{
    const int frames = 600;
    int from = -1;
    const double start = wall(), used = cpu(RUSAGE_CHILDREN);
    for (int i = 0; i <= filters + 1; i++) {
        int ends[2] = {-1, -1};
        if (i <= filters && pipe(ends) != 0)
            exit(1);
        if (fork() == 0) {
            if (from >= 0)
                dup2(from, STDIN_FILENO);
            if (ends[1] >= 0) {
                dup2(ends[1], STDOUT_FILENO);
                close(ends[0]);
                close(ends[1]);
            }
            if (i == 0)
                produce("-", frames);
            else if (i <= filters)
                pass("-", "-");
            else
                consume("-");
            _exit(0);
        }
        if (from >= 0)
            close(from);
        if (ends[1] >= 0)
            close(ends[1]);
        from = ends[0];
    }
    int status, worst = 0;
    while (wait(&status) > 0)
        worst |= status;
    if (worst != 0)
        exit(1);
    *elapsed = (wall() - start) / frames;
    *busy = (cpu(RUSAGE_CHILDREN) - used) / frames;
}

static void bench_pipes(void)
{
    double elapsed, busy, ends_elapsed, ends_busy;
    run_pipe(FILTERS, &elapsed, &busy);
    run_pipe(0, &ends_elapsed, &ends_busy);
    print("source, 5 filters and sink, elapsed for a 512x512 frame", 1e3 * elapsed, "ms");
    print("source, 5 filters and sink, CPU for a 512x512 frame", 1e3 * busy, "ms");
    print("pass-through, pipe to pipe, per core", 1e-9 * FRAME_BYTES * FILTERS / (busy - ends_busy), "GB/s");
}

int main(void)
{
    char folder[] = "/dev/shm/ws2-bench-XXXXXX", from[64], to[64];
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(from, sizeof from, "%s/from.ws2", folder);
    snprintf(to, sizeof to, "%s/to.ws2", folder);
    bench_pipes();
    bench_files(from, to);
    bench_access(from);
    bench_index(from);
    bench_pack(WS2_LEVEL_PIPE, "packing noise, level -10");
    bench_pack(WS2_LEVEL_REST, "packing noise, level 3");
    unlink(from);
    unlink(to);
    rmdir(folder);
    return 0;
}
