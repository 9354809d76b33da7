/*
 * The filter loop. A reader thread fills jobs, an ordered pool works on them and packs what was added, and the
 * calling thread writes. HEAD, TAIL and errors travel through the same queue as the records, so everything
 * happens in the order of the stream: what stands before an error is written, nothing after it, and which
 * error is reported does not depend on the number of threads.
 *
 * A job is on the free list, in the pool, or with the reader or the writer. The number of jobs bounds memory.
 * To stop, the writer raises `stop`, wakes a reader that waits for a job or for input, and empties the pool.
 */
#include "stream/internal.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "pool/pool.h"

enum job_kind { JOB_HEAD, JOB_RECORD, JOB_TAIL, JOB_ERROR };

struct job {
    enum job_kind kind;
    struct ws2_record *record;
    bool drop;              /* the filter does not want this record written */
    struct ws2_error error; /* of the work, or of the reader */
    struct job *next;       /* on the free list */
};

struct run {
    const struct ws2_filter *filter;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    struct ws2_pool *pool;
    struct ws2_codec *codec; /* one for each worker */
    int threads, level, jobs;
    struct job *job;
    struct ws2_head *out; /* of the segment under way; the filter may keep a pointer to it until the next */
    char seq[300];        /* for messages about records of this segment */
    int wake;             /* eventfd: readable when the reader shall stop */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the free list grew, or stop was raised */
    struct job *free;
    int free_jobs;
    bool stop;
};

/* ---- jobs --------------------------------------------------------------------------------------------- */

/* A job from the free list; NULL when the run stops. */
static struct job *job_get(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    while (run->free == NULL && !run->stop)
        pthread_cond_wait(&run->changed, &run->lock);
    struct job *job = run->stop ? NULL : run->free;
    if (job != NULL) {
        run->free = job->next;
        run->free_jobs--;
    }
    pthread_mutex_unlock(&run->lock);
    if (job != NULL) {
        job->drop = false;
        job->error = (struct ws2_error){0};
    }
    return job;
}

static void job_recycle(struct run *run, struct job *job)
{
    pthread_mutex_lock(&run->lock);
    job->next = run->free;
    run->free = job;
    run->free_jobs++;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* Waits until the writer is done with every job; false when the run stops. */
static bool jobs_drained(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    while (run->free_jobs < run->jobs && !run->stop)
        pthread_cond_wait(&run->changed, &run->lock);
    const bool going = !run->stop;
    pthread_mutex_unlock(&run->lock);
    return going;
}

static void run_stop(struct run *run)
{
    const uint64_t one = 1;
    pthread_mutex_lock(&run->lock);
    run->stop = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    ssize_t written = write(run->wake, &one, sizeof one);
    (void)written; /* an eventfd at 0 takes it always */
}

static bool stopped(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    const bool stop = run->stop;
    pthread_mutex_unlock(&run->lock);
    return stop;
}

/* ---- worker threads ----------------------------------------------------------------------------------- */

static void work(void *context, void *argument, int worker)
{
    struct run *run = context;
    struct job *job = argument;
    if (job->kind != JOB_RECORD || stopped(run))
        return;
    ws2_record_lend(job->record, &run->codec[worker]);
    int status = run->filter->work(run->filter->context, job->record, worker, &job->error);
    job->drop = status == 1;
    if (status == 0)
        status = ws2_record_pack(job->record, run->level, &job->error);
    if (status < 0) {
        ws2_fail(&job->error, status, "the filter failed");
        ws2_error_prefix(&job->error, "%s: frame %lld", run->seq, (long long)ws2_record_frame(job->record));
    }
    ws2_record_lend(job->record, NULL);
}

/* ---- reader thread ------------------------------------------------------------------------------------ */

static bool give(struct run *run, enum job_kind kind)
{
    struct job *job = job_get(run);
    if (job == NULL)
        return false;
    job->kind = kind;
    ws2_pool_give(run->pool, job);
    return true;
}

static void give_error(struct run *run, const struct ws2_error *error)
{
    struct job *job = job_get(run);
    if (job == NULL)
        return;
    job->kind = JOB_ERROR;
    job->error = *error;
    ws2_pool_give(run->pool, job);
}

/* Asks the filter for the output's head. No job is under way, so nobody looks at the old one. */
static bool read_head(struct run *run)
{
    struct ws2_error error = {0};
    const struct ws2_head *in = ws2_reader_head(run->reader);
    const char *seq = ws2_head_seq(in);
    snprintf(run->seq, sizeof run->seq, "%s", seq[0] != '\0' ? seq : ws2_reader_label(run->reader));
    ws2_head_free(run->out);
    run->out = ws2_head_copy(in);
    int status = run->out != NULL ? WS2_OK : ws2_fail(&error, WS2_ERR_SYSTEM, "out of memory");
    if (status == WS2_OK)
        status = run->filter->begin(run->filter->context, in, run->out, &error);
    if (status >= 0)
        return give(run, JOB_HEAD);
    ws2_fail(&error, status, "the filter cannot begin");
    ws2_error_prefix(&error, "%s", run->seq);
    give_error(run, &error);
    return false;
}

/* All records of a segment and its TAIL; false when the run is over. */
static bool read_segment(struct run *run)
{
    for (;;) {
        struct job *job = job_get(run);
        if (job == NULL)
            return false;
        const int status = ws2_reader_next(run->reader, job->record);
        job->kind = status == 1 ? JOB_RECORD : status == 0 ? JOB_TAIL : JOB_ERROR;
        if (status < 0)
            job->error = *ws2_reader_error(run->reader);
        ws2_pool_give(run->pool, job);
        if (status != 1)
            return status == 0;
    }
}

static void *read_all(void *argument)
{
    struct run *run = argument;
    int more = 1;
    while (more == 1 && read_head(run) && read_segment(run) && jobs_drained(run)) {
        more = ws2_reader_next_segment(run->reader);
        if (more < 0)
            give_error(run, ws2_reader_error(run->reader));
    }
    ws2_pool_finish(run->pool);
    return NULL;
}

/* ---- the calling thread writes ------------------------------------------------------------------------ */

static int writer_failed(struct run *run, int status, struct ws2_error *error)
{
    return status < 0 ? ws2_fail(error, status, "%s", ws2_writer_error(run->writer)->text) : status;
}

static int write_job(struct run *run, struct job *job, struct ws2_error *error)
{
    if (job->error.status != 0)
        return ws2_fail(error, job->error.status, "%s", job->error.text);
    if (job->kind == JOB_HEAD)
        return writer_failed(run, ws2_writer_begin(run->writer, run->out), error);
    if (job->kind == JOB_TAIL)
        return writer_failed(run, ws2_writer_end(run->writer), error);
    if (job->drop)
        return WS2_OK;
    const int status = writer_failed(run, ws2_writer_put(run->writer, job->record), error);
    if (status == WS2_OK && run->filter->done != NULL)
        run->filter->done(run->filter->context, run->reader, job->record);
    return status;
}

static int write_all(struct run *run, struct ws2_error *error)
{
    int status = WS2_OK;
    for (struct job *job; (job = ws2_pool_take(run->pool)) != NULL; job_recycle(run, job)) {
        if (status != WS2_OK)
            continue;
        status = write_job(run, job, error);
        if (status != WS2_OK)
            run_stop(run);
    }
    return status;
}

/* ---- the run ------------------------------------------------------------------------------------------ */

static int run_open(struct run *run)
{
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->changed, NULL);
    run->wake = eventfd(0, EFD_CLOEXEC);
    run->codec = ws2_calloc((size_t)run->threads, sizeof *run->codec);
    run->job = ws2_calloc((size_t)run->jobs, sizeof *run->job);
    if (run->wake < 0 || run->codec == NULL || run->job == NULL)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i < run->jobs; i++) {
        struct job *job = &run->job[i];
        job->record = ws2_record_new();
        if (job->record == NULL)
            return WS2_ERR_SYSTEM;
        job->next = run->free;
        run->free = job;
        run->free_jobs++;
    }
    run->pool = ws2_pool_open(run->threads, run->jobs, work, run);
    return run->pool != NULL ? WS2_OK : WS2_ERR_SYSTEM;
}

static void run_close(struct run *run)
{
    ws2_pool_close(run->pool);
    for (int i = 0; run->job != NULL && i < run->jobs; i++)
        ws2_record_free(run->job[i].record);
    for (int i = 0; run->codec != NULL && i < run->threads; i++)
        ws2_codec_free(&run->codec[i]);
    free(run->job);
    free(run->codec);
    ws2_head_free(run->out);
    if (run->wake >= 0)
        close(run->wake);
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
}

int ws2_filter_run(const struct ws2_filter *filter, struct ws2_reader *reader, struct ws2_writer *writer,
                   int threads, struct ws2_error *error)
{
    if (threads < 1)
        return ws2_fail(error, WS2_ERR_USAGE, "threads must be 1 or more");
    /* Each worker has one job in hand and one waiting, the reader and the writer have one each. */
    struct run run = {.filter = filter,
                      .reader = reader,
                      .writer = writer,
                      .threads = threads,
                      .jobs = 2 * threads + 2,
                      .level = ws2_writer_level(writer)};
    struct ws2_error local = {0};
    pthread_t thread;
    int status = run_open(&run);
    if (status == WS2_OK) {
        ws2_reader_wake(reader, run.wake);
        status = pthread_create(&thread, NULL, read_all, &run) == 0 ? WS2_OK : WS2_ERR_SYSTEM;
    }
    if (status == WS2_OK) {
        status = write_all(&run, &local);
        pthread_join(thread, NULL);
    } else {
        ws2_fail(&local, status, "cannot start %d threads", threads);
    }
    ws2_reader_wake(reader, -1);
    run_close(&run);
    return status == WS2_OK ? WS2_OK : ws2_fail(error, status, "%s", local.text);
}
