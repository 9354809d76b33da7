/* pool: results in order for any number of threads, bounded depth, closing early, bands that cover all. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool/pool.h"

struct job {
    int number, result;
};

/* Jobs take uneven time, so that they finish out of order. */
static void square(void *context, void *argument, int worker)
{
    struct job *job = argument;
    const int threads = *(const int *)context;
    assert_true(worker >= 0 && worker < threads);
    struct ws2_random random = ws2_random_make(3, (uint64_t)job->number);
    const struct timespec nap = {0, (long)ws2_random_below(&random, 200000)};
    nanosleep(&nap, NULL);
    job->result = job->number * job->number;
}

struct feed {
    struct ws2_pool *pool;
    struct job *job;
    int count;
};

static void *give_all(void *argument)
{
    const struct feed *feed = argument;
    for (int i = 0; i < feed->count; i++)
        ws2_pool_give(feed->pool, &feed->job[i]);
    ws2_pool_finish(feed->pool);
    return NULL;
}

static void results_leave_in_order(void **state)
{
    (void)state;
    const int counts[] = {1, 2, 3, 8};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct job job[300];
        int threads = counts[c];
        for (int i = 0; i < 300; i++)
            job[i] = (struct job){i, -1};
        struct ws2_pool *pool = ws2_pool_open(threads, threads + 3, square, &threads);
        struct feed feed = {pool, job, 300};
        pthread_t producer;
        assert_int_equal(pthread_create(&producer, NULL, give_all, &feed), 0);
        for (int i = 0; i < 300; i++) {
            const struct job *done = ws2_pool_take(pool);
            assert_non_null(done);
            assert_int_equal(done->number, i);
            assert_int_equal(done->result, i * i);
        }
        assert_null(ws2_pool_take(pool));
        pthread_join(producer, NULL);
        ws2_pool_close(pool);
    }
}

static void one_thread_may_give_and_take(void **state)
{
    (void)state;
    int threads = 2;
    struct job job[50];
    struct ws2_pool *pool = ws2_pool_open(threads, 4, square, &threads);
    int taken = 0;
    for (int i = 0; i < 50; i++) {
        job[i] = (struct job){i, -1};
        if (ws2_pool_inside(pool) == 4)
            assert_int_equal(((struct job *)ws2_pool_take(pool))->number, taken++);
        ws2_pool_give(pool, &job[i]);
    }
    ws2_pool_finish(pool);
    for (struct job *done; (done = ws2_pool_take(pool)) != NULL;)
        assert_int_equal(done->number, taken++);
    assert_int_equal(taken, 50);
    ws2_pool_close(pool);
}

static void closing_early_does_not_hang(void **state)
{
    (void)state;
    int threads = 3;
    struct job job[6] = {{0}};
    struct ws2_pool *pool = ws2_pool_open(threads, 6, square, &threads);
    for (int i = 0; i < 6; i++)
        ws2_pool_give(pool, &job[i]);
    ws2_pool_close(pool);
    ws2_pool_close(NULL);
    assert_null(ws2_pool_open(0, 1, square, &threads));
    assert_null(ws2_pool_open(4, 2, square, &threads));
}

/* Jobs that need the job `gap` before them. */
struct chain {
    int gap;
    bool hold; /* job 0 waits for job 2 */
    atomic_int done[200];
};

static bool chain_ready(void *context, const void *argument)
{
    const struct chain *chain = context;
    const struct job *job = argument;
    return job->number < chain->gap || atomic_load(&chain->done[job->number - chain->gap]);
}

static void chain_work(void *context, void *argument, int worker)
{
    struct chain *chain = context;
    struct job *job = argument;
    (void)worker;
    assert_true(chain_ready(chain, job));
    while (chain->hold && job->number == 0 && !atomic_load(&chain->done[2]))
        sched_yield();
    job->result = job->number;
    atomic_store(&chain->done[job->number], 1);
}

/* None begins too early, all leave in order. */
static void jobs_begin_when_they_are_ready(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        for (int gap = 1; gap <= 3; gap++) {
            struct chain chain = {.gap = gap};
            struct job job[200];
            for (int i = 0; i < 200; i++)
                job[i] = (struct job){i, -1};
            struct ws2_pool *pool = ws2_pool_open(threads, threads + 4, chain_work, &chain);
            ws2_pool_when(pool, chain_ready);
            struct feed feed = {pool, job, 200};
            pthread_t producer;
            assert_int_equal(pthread_create(&producer, NULL, give_all, &feed), 0);
            for (int i = 0; i < 200; i++)
                assert_int_equal(((const struct job *)ws2_pool_take(pool))->result, i);
            assert_null(ws2_pool_take(pool));
            pthread_join(producer, NULL);
            ws2_pool_close(pool);
        }
    }
}

static bool all_but_one_ready(void *context, const void *argument)
{
    struct chain *chain = context;
    return ((const struct job *)argument)->number != 1 || atomic_load(&chain->done[0]);
}

/* Job 1 needs job 0, which goes on only when job 2 has run: a thread that waited with job 1 would hang. */
static void a_job_that_must_wait_holds_up_no_thread(void **state)
{
    (void)state;
    struct chain chain = {.gap = 200, .hold = true};
    struct job job[3] = {{0, -1}, {1, -1}, {2, -1}};
    struct ws2_pool *pool = ws2_pool_open(2, 3, chain_work, &chain);
    ws2_pool_when(pool, all_but_one_ready);
    for (int i = 0; i < 3; i++)
        ws2_pool_give(pool, &job[i]);
    ws2_pool_finish(pool);
    for (int i = 0; i < 3; i++)
        assert_int_equal(((const struct job *)ws2_pool_take(pool))->result, i);
    assert_null(ws2_pool_take(pool));
    ws2_pool_close(pool);
}

static void count_up(void *context, int64_t begin, int64_t end)
{
    atomic_int *seen = context;
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&seen[i], 1);
}

static void bands_cover_everything_once(void **state)
{
    (void)state;
    for (int threads = 0; threads <= 9; threads++) {
        for (int count = 0; count < 40; count++) {
            atomic_int seen[40];
            memset(seen, 0, sizeof seen);
            ws2_parallel_for(threads, count, count_up, seen);
            for (int i = 0; i < 40; i++)
                assert_int_equal(atomic_load(&seen[i]), i < count);
        }
    }
}

static int limit_time(void **state)
{
    (void)state;
    alarm(300); /* a deadlock shall not hang the test run */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_leave_in_order),
        cmocka_unit_test(one_thread_may_give_and_take),
        cmocka_unit_test(closing_early_does_not_hang),
        cmocka_unit_test(jobs_begin_when_they_are_ready),
        cmocka_unit_test(a_job_that_must_wait_holds_up_no_thread),
        cmocka_unit_test(bands_cover_everything_once),
    };
    return cmocka_run_group_tests(tests, limit_time, NULL);
}
