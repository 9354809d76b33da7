/* pool: results in order for any number of threads, bounded depth, closing early, bands that cover all. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_leave_in_order),
        cmocka_unit_test(one_thread_may_give_and_take),
        cmocka_unit_test(closing_early_does_not_hang),
        cmocka_unit_test(bands_cover_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
