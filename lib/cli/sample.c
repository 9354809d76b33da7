#include "cli/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "pool/pool.h"

/* ---- an even sample of the frames of all inputs --------------------------------------------------------------- */

struct run {
    const struct ws2_common *common;
    const struct ws2_sampling *sampling;
    struct ws2_pool *pool;
    int count; /* samples handed to the pool */
};

/* A frame on its way. */
struct sample {
    struct ws2_record *record;
    const struct ws2_sampling *sampling;
    int index;
    char seq[300];
    struct ws2_error error;
};

static const char *name_of(const struct ws2_head *head, const char *path)
{
    return ws2_head_seq(head)[0] != '\0' ? ws2_head_seq(head) : path;
}

static struct sample *sample_new(const struct run *run)
{
    struct sample *sample = ws2_calloc(1, sizeof *sample);
    if (sample != NULL)
        sample->record = ws2_record_new();
    if (sample == NULL || sample->record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    sample->sampling = run->sampling;
    return sample;
}

static void sample_free(struct sample *sample)
{
    if (sample == NULL)
        return;
    ws2_record_free(sample->record);
    free(sample);
}

static _Noreturn void fail_at(struct sample *sample)
{
    ws2_error_prefix(&sample->error, "%s: frame %lld", sample->seq,
                     (long long)ws2_record_frame(sample->record));
    ws2_die(&sample->error);
}

static void begin_segment(const struct run *run, const struct ws2_head *head, const char *path)
{
    struct ws2_error error = {0};
    if (run->sampling->begin(run->sampling->context, name_of(head, path), head, &error) < 0)
        ws2_die(&error);
}

static void work(void *context, void *argument, int worker)
{
    struct sample *sample = argument;
    const struct ws2_sampling *sampling = sample->sampling;
    (void)context;
    (void)worker;
    sampling->work(sampling->context, sample->record, sample->index, &sample->error);
}

/* Waits for the oldest sample under way. NULL when there is none. */
static struct sample *take(struct run *run)
{
    struct sample *sample = ws2_pool_take(run->pool);
    if (sample != NULL && sample->error.status != 0)
        fail_at(sample);
    return sample;
}

/* Hands a sample over to the workers; returns one that they are done with, or NULL. */
static struct sample *give(struct run *run, struct sample *sample, int64_t total)
{
    const struct ws2_sampling *sampling = run->sampling;
    sample->index = run->count++;
    if (sampling->take(sampling->context, sample->record, sample->index, (int)total, &sample->error) < 0)
        fail_at(sample);
    struct sample *done = ws2_pool_inside(run->pool) == 2 * run->common->threads ? take(run) : NULL;
    ws2_pool_give(run->pool, sample);
    return done;
}

/* ---- files: only the samples are read -------------------------------------------------------------------- */

static int64_t count_records(struct run *run, const char *path)
{
    struct ws2_reader *reader = ws2_cli_reader(run->common, path);
    int64_t segments, records, first, count;
    if (ws2_reader_index(reader, &segments, &records) < 0)
        ws2_die(ws2_reader_error(reader));
    for (int64_t i = 0; i < segments; i++) {
        if (ws2_reader_segment(reader, i, &first, &count) < 0)
            ws2_die(ws2_reader_error(reader));
        begin_segment(run, ws2_reader_head(reader), path);
    }
    ws2_reader_close(reader);
    return records;
}

/* The number of the i-th of `count` samples among `total` frames: the middle of the i-th of equal parts. */
static int64_t sample_at(int64_t i, int64_t count, int64_t total)
{
    return (int64_t)((2 * (__int128)i + 1) * total / (2 * count));
}

/* Reads the samples that lie in one file, whose first frame is number `base` of all. */
static struct sample *read_file(struct run *run, const char *path, int64_t base, int64_t end, int64_t wanted,
                                int64_t total, struct sample *spare)
{
    if (run->count == wanted || sample_at(run->count, wanted, total) >= end)
        return spare;
    int64_t segments, records;
    struct ws2_reader *reader = ws2_cli_reader(run->common, path);
    if (ws2_reader_index(reader, &segments, &records) < 0)
        ws2_die(ws2_reader_error(reader));
    while (run->count < wanted && sample_at(run->count, wanted, total) < end) {
        struct sample *sample = spare != NULL ? spare : sample_new(run);
        if (ws2_reader_at(reader, sample_at(run->count, wanted, total) - base, sample->record) < 0)
            ws2_die(ws2_reader_error(reader));
        snprintf(sample->seq, sizeof sample->seq, "%s", name_of(ws2_reader_head(reader), path));
        spare = give(run, sample, wanted);
        ws2_cli_progress_set(run->count, NULL);
    }
    ws2_reader_close(reader);
    return spare;
}

static void from_files(struct run *run)
{
    const struct ws2_common *common = run->common;
    int64_t total = 0, base = 0, *records = ws2_calloc((size_t)common->operands, sizeof *records);
    struct sample *spare = NULL;
    if (records == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    for (int i = 0; i < common->operands; i++) {
        records[i] = count_records(run, common->operand[i]);
        total += records[i];
    }
    const int64_t wanted = total < run->sampling->wanted ? total : run->sampling->wanted;
    ws2_cli_progress_begin(common, "frames", wanted);
    for (int i = 0; i < common->operands; base += records[i++])
        spare = read_file(run, common->operand[i], base, base + records[i], wanted, total, spare);
    sample_free(spare);
    free(records);
}

/* ---- pipes: everything is read, and every stride-th frame is kept as it came, compressed ---------------------- */

struct thinned {
    struct sample **kept;
    int64_t count, room, stride, seen;
};

/* When there are more than wanted, every second one goes and the stride doubles. */
static void thin(struct thinned *list)
{
    for (int64_t i = 0; i < list->count; i++) {
        if (i % 2 == 0)
            list->kept[i / 2] = list->kept[i];
        else
            sample_free(list->kept[i]);
    }
    list->count = (list->count + 1) / 2;
    list->stride *= 2;
}

static void keep(const struct run *run, struct thinned *list, struct ws2_record *record, const char *name)
{
    const char *tensor = run->sampling->tensor;
    if (list->seen % list->stride == 0 && list->count == list->room)
        thin(list);
    if (list->seen++ % list->stride != 0)
        return;
    struct sample *sample = sample_new(run);
    snprintf(sample->seq, sizeof sample->seq, "%s", name);
    ws2_record_set_frame(sample->record, ws2_record_frame(record), ws2_record_pts(record));
    if (ws2_record_has(record, tensor) && ws2_record_move(sample->record, record, tensor, &sample->error) < 0)
        fail_at(sample);
    list->kept[list->count++] = sample;
}

static void read_pipe(struct run *run, const char *path, struct thinned *list)
{
    struct ws2_reader *reader = ws2_cli_reader(run->common, path);
    struct ws2_record *record = ws2_record_new();
    int got;
    if (record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    do {
        begin_segment(run, ws2_reader_head(reader), path);
        while ((got = ws2_reader_next(reader, record)) > 0) {
            keep(run, list, record, name_of(ws2_reader_head(reader), path));
            ws2_cli_progress_set(list->seen, NULL);
        }
        if (got == 0)
            got = ws2_reader_next_segment(reader);
    } while (got > 0);
    if (got < 0)
        ws2_die(ws2_reader_error(reader));
    ws2_record_free(record);
    ws2_reader_close(reader);
}

static void from_pipes(struct run *run)
{
    const struct ws2_common *common = run->common;
    struct thinned list = {.room = run->sampling->wanted, .stride = 1};
    list.kept = ws2_calloc((size_t)list.room, sizeof *list.kept);
    if (list.kept == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    ws2_cli_progress_begin(common, "frames", 0);
    for (int i = 0; i < (common->operands ? common->operands : 1); i++)
        read_pipe(run, common->operands ? common->operand[i] : "-", &list);
    for (int64_t i = 0; i < list.count; i++)
        sample_free(give(run, list.kept[i], list.count));
    free(list.kept);
}

/* Files that can be opened twice and read at any place. What cannot be looked at is left to the reader's error. */
static bool all_files(const struct ws2_common *common)
{
    struct stat info;
    for (int i = 0; i < common->operands; i++) {
        const char *path = common->operand[i];
        if (strcmp(path, "-") == 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode)))
            return false;
    }
    return common->operands > 0;
}

static void heads_only(struct run *run)
{
    const struct ws2_common *common = run->common;
    for (int i = 0; i < (common->operands ? common->operands : 1); i++) {
        const char *path = common->operands ? common->operand[i] : "-";
        struct ws2_reader *reader = ws2_cli_reader(common, path);
        begin_segment(run, ws2_reader_head(reader), path);
        ws2_reader_close(reader);
    }
}

int ws2_cli_sample(const struct ws2_common *common, const struct ws2_sampling *sampling)
{
    struct run run = {.common = common, .sampling = sampling};
    if (common->check) {
        heads_only(&run);
        return 0;
    }
    run.pool = ws2_pool_open(common->threads, 2 * common->threads, work, &run);
    if (run.pool == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "no memory or threads for the workers");
    if (all_files(common))
        from_files(&run);
    else
        from_pipes(&run);
    ws2_pool_finish(run.pool);
    struct sample *sample;
    while ((sample = take(&run)) != NULL)
        sample_free(sample);
    ws2_pool_close(run.pool);
    ws2_cli_progress_end();
    return run.count;
}
