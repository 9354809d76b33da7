#include "pool/pool.h"

#include <pthread.h>
#include <stdlib.h>

/* A ring of slots numbered by arrival: [taken, given) are inside, and within it all of [taken, first) are running
 * or finished, later ones are when a job before them was not ready. A slot is handed out when it is the oldest
 * and finished. */
struct slot {
    void *job;
    bool begun, finished;
};

struct worker {
    struct ws2_pool *pool;
    pthread_t thread;
    int number;
};

struct ws2_pool {
    pthread_mutex_t lock;
    pthread_cond_t room; /* a slot became free */
    pthread_cond_t work; /* a job came in or became ready, or none will come */
    pthread_cond_t done; /* a job finished, or none will come */
    ws2_pool_work *body;
    ws2_pool_ready *ready; /* NULL: always */
    void *context;
    struct slot *slot;
    int depth;
    uint64_t given, first, taken;
    bool ended, closing;
    struct worker *worker;
    int threads;
};

/* The oldest job that can begin; NULL when there is none now. */
static struct slot *pick(struct ws2_pool *pool)
{
    const uint64_t depth = (uint64_t)pool->depth;
    if (pool->first < pool->taken)
        pool->first = pool->taken;
    while (pool->first < pool->given && pool->slot[pool->first % depth].begun)
        pool->first++;
    for (uint64_t i = pool->first; i < pool->given; i++) {
        struct slot *slot = &pool->slot[i % depth];
        if (!slot->begun && (pool->ready == NULL || pool->ready(pool->context, slot->job)))
            return slot;
    }
    return NULL;
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct ws2_pool *pool = self->pool;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct slot *slot = NULL;
        while (!pool->closing && (slot = pick(pool)) == NULL && !(pool->ended && pool->first == pool->given))
            pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->closing || slot == NULL)
            break;
        slot->begun = true;
        pthread_mutex_unlock(&pool->lock);
        pool->body(pool->context, slot->job, self->number);
        pthread_mutex_lock(&pool->lock);
        slot->finished = true;
        pthread_cond_signal(&pool->done);
        if (pool->ready != NULL)
            pthread_cond_broadcast(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct ws2_pool *ws2_pool_open(int threads, int depth, ws2_pool_work *work, void *context)
{
    if (threads < 1 || depth < threads)
        return NULL;
    struct ws2_pool *pool = ws2_calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->slot = ws2_calloc((size_t)depth, sizeof *pool->slot);
    pool->worker = ws2_calloc((size_t)threads, sizeof *pool->worker);
    pool->depth = depth;
    pool->body = work;
    pool->context = context;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->room, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    bool good = pool->slot != NULL && pool->worker != NULL;
    while (good && pool->threads < threads) {
        struct worker *worker = &pool->worker[pool->threads];
        *worker = (struct worker){.pool = pool, .number = pool->threads};
        good = pthread_create(&worker->thread, NULL, worker_main, worker) == 0;
        if (good)
            pool->threads++;
    }
    if (good)
        return pool;
    ws2_pool_close(pool);
    return NULL;
}

void ws2_pool_when(struct ws2_pool *pool, ws2_pool_ready *ready)
{
    pthread_mutex_lock(&pool->lock);
    pool->ready = ready;
    pthread_mutex_unlock(&pool->lock);
}

void ws2_pool_give(struct ws2_pool *pool, void *job)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->given - pool->taken == (uint64_t)pool->depth)
        pthread_cond_wait(&pool->room, &pool->lock);
    pool->slot[pool->given++ % (uint64_t)pool->depth] = (struct slot){.job = job};
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

void ws2_pool_finish(struct ws2_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->ended = true;
    pthread_cond_broadcast(&pool->work);
    pthread_cond_broadcast(&pool->done);
    pthread_mutex_unlock(&pool->lock);
}

void *ws2_pool_take(struct ws2_pool *pool)
{
    void *job = NULL;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        const struct slot *oldest = &pool->slot[pool->taken % (uint64_t)pool->depth];
        if (pool->taken < pool->given && oldest->finished) {
            job = oldest->job;
            pool->taken++;
            pthread_cond_signal(&pool->room);
            break;
        }
        if (pool->taken == pool->given && pool->ended)
            break;
        pthread_cond_wait(&pool->done, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

int ws2_pool_inside(struct ws2_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    const int inside = (int)(pool->given - pool->taken);
    pthread_mutex_unlock(&pool->lock);
    return inside;
}

void ws2_pool_close(struct ws2_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->threads; i++)
        pthread_join(pool->worker[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->room);
    pthread_mutex_destroy(&pool->lock);
    free(pool->worker);
    free(pool->slot);
    free(pool);
}

/* ---- parallel loop --------------------------------------------------------------------------------------
 */

struct band {
    void (*body)(void *context, int64_t begin, int64_t end);
    void *context;
    int64_t begin, end;
    pthread_t thread;
    bool started;
};

static void *band_main(void *argument)
{
    const struct band *band = argument;
    band->body(band->context, band->begin, band->end);
    return NULL;
}

#define BANDS_MAX 64

void ws2_parallel_for(int threads, int64_t count, void (*body)(void *context, int64_t begin, int64_t end),
                      void *context)
{
    if (threads > BANDS_MAX)
        threads = BANDS_MAX;
    if (threads > count)
        threads = (int)count;
    if (threads <= 1) {
        if (count > 0)
            body(context, 0, count);
        return;
    }
    struct band band[BANDS_MAX];
    for (int i = 0; i < threads; i++)
        band[i] = (struct band){body, context, count * i / threads, count * (i + 1) / threads, 0, false};
    /* A band whose thread cannot be made is done by the caller: slower, never wrong. */
    for (int i = 1; i < threads; i++)
        band[i].started = pthread_create(&band[i].thread, NULL, band_main, &band[i]) == 0;
    for (int i = 0; i < threads; i++) {
        if (!band[i].started)
            band_main(&band[i]);
    }
    for (int i = 1; i < threads; i++) {
        if (band[i].started)
            pthread_join(band[i].thread, NULL);
    }
}
