/*
 * The filter loop. A reader thread fills jobs, an ordered pool works on them and packs what was added, and the
 * calling thread writes. HEAD, TAIL and errors travel through the same queue as the records, so everything
 * happens in the order of the stream: what stands before an error is written, nothing after it, and which
 * error is reported does not depend on the number of threads.
 *
 * What the pool gets are tasks: the steps of a job and, last, its work. When record t has come they are, in this
 * order, the steps of t and the work of t - reach. A task begins when the results that it needs are there; they
 * belong to tasks before it in the queue, so the oldest task can always begin. A task that needs the result of
 * a failed one does nothing: the error stands before it in the queue, so nobody will see.
 *
 * A job is on the free list, in the pool, held because the windows of later records contain it, or with the
 * reader or the writer. The number of jobs bounds memory. To stop, the writer raises `stop`, wakes a reader that
 * waits for a job or for input, and empties the pool.
 */
#include "stream/internal.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "pool/pool.h"

enum job_kind { JOB_HEAD, JOB_RECORD, JOB_TAIL, JOB_ERROR };

struct task {
    struct job *job;
    int step;               /* the filter's `steps` for the work */
    struct ws2_error error; /* of this step, or of the reader */
};

struct job {
    enum job_kind kind;
    struct ws2_record *record;
    bool drop; /* the filter does not want this record written */
    void *note;
    struct job *before, *after; /* neighbours in the segment; followed only as far as windows go */
    atomic_int ready;           /* steps that are done */
    atomic_bool failed;         /* in one of them */
    struct task *task;          /* [steps + 1] */
    struct job *next;           /* on the free list */
};

struct run {
    const struct ws2_filter *filter;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    struct ws2_pool *pool;
    struct ws2_codec *codec; /* one for each worker */
    int threads, level, jobs;
    struct job *job;
    struct task *task;
    void **window;        /* [threads][2 * reach + 1] notes, scratch */
    struct job *last;     /* the reader's: the record that came last, */
    struct job *due;      /* the oldest whose work is not in the pool yet, */
    int waiting;          /* and how many wait like it */
    struct job *held;     /* the writer's: the oldest job that it keeps for windows, */
    int holding;          /* and how many */
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
        for (int i = 0; i <= run->filter->steps; i++)
            job->task[i].error = (struct ws2_error){0};
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

/* Whether `step` steps of the job, and of `reach` more on one side of it, are done. */
static bool steps_done(const struct job *job, int step, int reach, bool after)
{
    for (; job != NULL; job = reach-- == 0 ? NULL : after ? job->after : job->before) {
        if (atomic_load(&job->ready) < step)
            return false;
    }
    return true;
}

/* Asked by the pool. */
static bool task_ready(void *context, const void *argument)
{
    const struct run *run = context;
    const struct task *task = argument;
    const int reach = run->filter->reach;
    return task->job->kind != JOB_RECORD ||
           (steps_done(task->job, task->step, reach, false) &&
            (task->step < run->filter->steps || steps_done(task->job, task->step, reach, true)));
}

/* Fills the window of notes that a task sees, its record's own in the middle: a first step sees no other, a
 * later one those before, the work all. False when a step of one of them has failed. */
static bool window_fill(const struct run *run, const struct task *task, void **middle)
{
    const int reach = run->filter->reach;
    const int before = task->step > 0 ? reach : 0, after = task->step == run->filter->steps ? reach : 0;
    bool good = true;
    memset(middle - reach, 0, (size_t)(2 * reach + 1) * sizeof *middle);
    const struct job *job = task->job;
    for (int i = 0; job != NULL; job = i++ < before ? job->before : NULL) {
        middle[-i] = job->note;
        good = good && !atomic_load(&job->failed);
    }
    job = task->job;
    for (int i = 0; job != NULL; job = i++ < after ? job->after : NULL) {
        middle[i] = job->note;
        good = good && !atomic_load(&job->failed);
    }
    return good;
}

static int step_do(struct run *run, struct task *task, int worker)
{
    const struct ws2_filter *filter = run->filter;
    struct job *job = task->job;
    void **note = run->window + worker * (2 * filter->reach + 1) + filter->reach;
    if (!window_fill(run, task, note))
        return 1;
    int status;
    if (task->step < filter->steps) {
        status = filter->prepare(filter->context, task->step, job->record, note, worker, &task->error);
        if (task->step == 0)
            job->note = *note;
        return status < 0 ? status : 0;
    }
    if (filter->reach > 0)
        status = filter->work_near(filter->context, job->record, note, worker, &task->error);
    else
        status = filter->work(filter->context, job->record, worker, &task->error);
    job->drop = status == 1;
    return status == 0 ? ws2_record_pack(job->record, run->level, &task->error) : status;
}

static void work(void *context, void *argument, int worker)
{
    struct run *run = context;
    struct task *task = argument;
    struct job *job = task->job;
    if (job->kind != JOB_RECORD)
        return;
    int status = 1;
    if (!stopped(run)) {
        ws2_record_lend(job->record, &run->codec[worker]);
        status = step_do(run, task, worker);
        ws2_record_lend(job->record, NULL);
    }
    if (status < 0) {
        ws2_fail(&task->error, status, "the filter failed");
        ws2_error_prefix(&task->error, "%s: frame %lld", run->seq, (long long)ws2_record_frame(job->record));
    }
    if (task->step < run->filter->steps) {
        if (status != 0)
            atomic_store(&job->failed, true);
        atomic_store(&job->ready, task->step + 1);
    }
}

/* ---- reader thread ------------------------------------------------------------------------------------ */

/* The last task of a job: its work, or all that a HEAD, a TAIL or an error is. */
static void give_last(struct run *run, struct job *job, enum job_kind kind)
{
    job->kind = kind;
    ws2_pool_give(run->pool, &job->task[run->filter->steps]);
}

static bool give(struct run *run, enum job_kind kind)
{
    struct job *job = job_get(run);
    if (job == NULL)
        return false;
    give_last(run, job, kind);
    return true;
}

static void give_error(struct run *run, const struct ws2_error *error)
{
    struct job *job = job_get(run);
    if (job == NULL)
        return;
    job->task[run->filter->steps].error = *error;
    give_last(run, job, JOB_ERROR);
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

/* Work for the record that has waited longest. */
static void give_due(struct run *run)
{
    struct job *job = run->due;
    run->due = job->after;
    run->waiting--;
    ws2_pool_give(run->pool, &job->task[run->filter->steps]);
}

/* A record has come: its steps, and the work of the record whose window it completes. */
static void give_record(struct run *run, struct job *job)
{
    const struct ws2_filter *filter = run->filter;
    job->kind = JOB_RECORD;
    job->before = filter->reach > 0 ? run->last : NULL;
    job->after = NULL;
    if (job->before != NULL)
        job->before->after = job;
    run->last = job;
    if (run->waiting++ == 0)
        run->due = job;
    atomic_store(&job->ready, 0);
    atomic_store(&job->failed, false);
    for (int i = 0; i < filter->steps; i++)
        ws2_pool_give(run->pool, &job->task[i]);
    if (run->waiting > filter->reach)
        give_due(run);
}

/* All records of a segment and its TAIL; false when the run is over. */
static bool read_segment(struct run *run)
{
    run->last = NULL;
    for (;;) {
        struct job *job = job_get(run);
        if (job == NULL)
            return false;
        const int status = ws2_reader_next(run->reader, job->record);
        if (status == 1) {
            give_record(run, job);
            continue;
        }
        while (status == 0 && run->waiting > 0)
            give_due(run);
        if (status < 0)
            job->task[run->filter->steps].error = *ws2_reader_error(run->reader);
        give_last(run, job, status == 0 ? JOB_TAIL : JOB_ERROR);
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

static int write_task(struct run *run, struct task *task, struct ws2_error *error)
{
    struct job *job = task->job;
    if (task->error.status != 0)
        return ws2_fail(error, task->error.status, "%s", task->error.text);
    if (task->step < run->filter->steps)
        return WS2_OK;
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

/* Back on the free list with all but the `keep` records that were written last. */
static void release(struct run *run, int keep)
{
    while (run->holding > keep) {
        struct job *job = run->held;
        run->held = job->after;
        run->holding--;
        job_recycle(run, job);
    }
}

/* The task is written: frees the jobs that nobody will look at any more. */
static void settle(struct run *run, struct task *task)
{
    struct job *job = task->job;
    if (task->step < run->filter->steps)
        return;
    if (job->kind != JOB_RECORD) {
        release(run, 0);
        job_recycle(run, job);
        return;
    }
    if (run->holding++ == 0)
        run->held = job;
    release(run, run->filter->reach);
}

static int write_all(struct run *run, struct ws2_error *error)
{
    int status = WS2_OK;
    for (struct task *task; (task = ws2_pool_take(run->pool)) != NULL;) {
        if (status != WS2_OK)
            continue;
        status = write_task(run, task, error);
        if (status == WS2_OK)
            settle(run, task);
        else
            run_stop(run);
    }
    return status;
}

/* ---- the run ------------------------------------------------------------------------------------------ */

static int job_open(struct run *run, struct job *job, struct task *task)
{
    job->record = ws2_record_new();
    job->task = task;
    for (int i = 0; i <= run->filter->steps; i++)
        task[i] = (struct task){.job = job, .step = i};
    job->next = run->free;
    run->free = job;
    run->free_jobs++;
    return job->record != NULL ? WS2_OK : WS2_ERR_SYSTEM;
}

static int run_open(struct run *run)
{
    const int tasks = run->filter->steps + 1;
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->changed, NULL);
    run->wake = eventfd(0, EFD_CLOEXEC);
    run->codec = ws2_calloc((size_t)run->threads, sizeof *run->codec);
    run->job = ws2_calloc((size_t)run->jobs, sizeof *run->job);
    run->task = ws2_calloc((size_t)run->jobs * (size_t)tasks, sizeof *run->task);
    run->window =
        ws2_calloc((size_t)run->threads * (size_t)(2 * run->filter->reach + 1), sizeof *run->window);
    if (run->wake < 0 || run->codec == NULL || run->job == NULL || run->task == NULL || run->window == NULL)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i < run->jobs; i++) {
        if (job_open(run, &run->job[i], &run->task[i * tasks]) != WS2_OK)
            return WS2_ERR_SYSTEM;
    }
    run->pool = ws2_pool_open(run->threads, run->jobs * tasks, work, run);
    if (run->pool == NULL)
        return WS2_ERR_SYSTEM;
    if (run->filter->reach > 0)
        ws2_pool_when(run->pool, task_ready);
    return WS2_OK;
}

static void run_close(struct run *run)
{
    ws2_pool_close(run->pool);
    for (int i = 0; run->job != NULL && i < run->jobs; i++) {
        ws2_record_free(run->job[i].record);
        if (run->job[i].note != NULL && run->filter->forget != NULL)
            run->filter->forget(run->job[i].note);
    }
    for (int i = 0; run->codec != NULL && i < run->threads; i++)
        ws2_codec_free(&run->codec[i]);
    free(run->window);
    free(run->task);
    free(run->job);
    free(run->codec);
    ws2_head_free(run->out);
    if (run->wake >= 0)
        close(run->wake);
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
}

/* NULL, or what is wrong. */
static const char *filter_check(const struct ws2_filter *filter, int threads)
{
    if (threads < 1)
        return "threads must be 1 or more";
    if (filter->reach < 0 || filter->reach > WS2_REACH_MAX || filter->steps < 0 ||
        filter->steps > WS2_STEPS_MAX)
        return "a filter's reach or number of steps is out of range";
    if (filter->reach == 0)
        return filter->steps == 0 && filter->work != NULL ? NULL : "a filter without reach has work alone";
    return filter->steps > 0 && filter->prepare != NULL && filter->work_near != NULL
               ? NULL
               : "a filter with reach must prepare its records";
}

int ws2_filter_run(const struct ws2_filter *filter, struct ws2_reader *reader, struct ws2_writer *writer,
                   int threads, struct ws2_error *error)
{
    const char *wrong = filter_check(filter, threads);
    if (wrong != NULL)
        return ws2_fail(error, WS2_ERR_USAGE, "%s", wrong);
    /* Each worker has one job in hand and one waiting, the reader and the writer have one each. */
    struct run run = {.filter = filter,
                      .reader = reader,
                      .writer = writer,
                      .threads = threads,
                      .jobs = 2 * threads + 2 + 2 * filter->reach,
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
