/*
 * pool: worker threads. An ordered pool (results leave in the order in which jobs came in) and a parallel
 * loop over bands of work. Results never depend on the number of threads.
 *
 * Knows base only.
 */
#ifndef WS2_POOL_H
#define WS2_POOL_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ws2_pool;

/* Does one job in place. `worker` (0 .. threads-1) selects per-thread scratch memory. The function keeps any
 * error inside the job: the pool itself carries no status. */
typedef void ws2_pool_work(void *context, void *job, int worker);

/* threads >= 1; at most `depth` >= threads jobs are inside (waiting, running or finished but not taken).
 * Returns NULL when memory or threads are lacking. */
struct ws2_pool *ws2_pool_open(int threads, int depth, ws2_pool_work *work, void *context);

/* For jobs that need each other's results: a job begins only once ready(context, job) is true, and of those that
 * are ready the oldest begins first, so no thread waits while there is work. It is asked with the pool locked,
 * and again when a job has finished: it must be quick and look at nothing but what finished jobs have left. The
 * oldest job that has not finished must always be ready. Call it before the first job comes in. */
typedef bool ws2_pool_ready(void *context, const void *job);
void ws2_pool_when(struct ws2_pool *pool, ws2_pool_ready *ready);

/* Hands in a job (borrowed until ws2_pool_take returns it). Blocks while the pool is full. One producer. */
void ws2_pool_give(struct ws2_pool *pool, void *job);

/* Tells that no job will follow. */
void ws2_pool_finish(struct ws2_pool *pool);

/* The next finished job in input order; blocks; NULL after ws2_pool_finish when all have been taken.
 * One consumer, which may be another thread than the producer. */
void *ws2_pool_take(struct ws2_pool *pool);

/* Jobs given but not yet taken. Producer thread only. */
int ws2_pool_inside(struct ws2_pool *pool);

/* Joins the threads; jobs not taken are dropped without being freed. */
void ws2_pool_close(struct ws2_pool *pool);

/* Calls body(context, begin, end) for a partition of 0 .. count-1 into contiguous bands, on up to `threads`
 * threads (the caller is one of them); returns when all are done. body must not depend on the partition. */
void ws2_parallel_for(int threads, int64_t count, void (*body)(void *context, int64_t begin, int64_t end),
                      void *context);

#ifdef __cplusplus
}
#endif

#endif
