#include "cam/internal.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "pool/pool.h"

/*
 * Three threads of control around the network: a reader that takes records from the stream, workers that decode
 * frames ahead of it, and workers that turn maps into compressed tensors behind it. Jobs live in a ring and go
 * round in order: read, decoded, computed in batches, packed, written, free again.
 */

enum job_kind { JOB_FRAME, JOB_HEAD, JOB_END };

struct job {
    enum job_kind kind;
    struct ws2_record *record;
    struct ws2_head *head; /* JOB_HEAD: of the output */
    int64_t height, width; /* of the frame */
    int side_h, side_w;    /* of the network's input */
    uint8_t *rgb;          /* [side_h,side_w,3] */
    size_t capacity;       /* bytes of rgb */
    const float *maps;     /* [C,height,width] */
    const float *prob;     /* [C] */
    int status;
    struct ws2_error error;
};

struct scratch {
    struct ws2_resizer *rgb, *mask;
    uint8_t *fg;
    size_t capacity;
};

/* Results of one batch; two take turns, since one is packed while the other is computed. */
struct results {
    float *maps, *prob;
    size_t maps_capacity, prob_capacity;
};

struct run {
    struct ws2_cam *cam;
    const struct ws2_cam_stream_options *options;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    struct job *ring;
    int jobs;
    sem_t room; /* free jobs */
    atomic_bool stop;
    struct ws2_pool *decode, *pack;
    struct scratch *scratch;
    struct results results[2];
    int turn;
    uint8_t *input; /* pictures of a batch, side by side */
    size_t input_capacity;
    struct job **batch;
    int count;       /* frames in batch */
    int packing;     /* jobs given to pack and not yet written */
    char *seq;       /* name of the segment being written */
    bool in_segment; /* its HEAD was written, its TAIL not yet */
    struct ws2_error *error;
};

/* ---- reading ---------------------------------------------------------------------------------------------- */

/* The next job of the ring, or NULL when the run is being given up. */
static struct job *next_job(struct run *run, int64_t *number)
{
    while (sem_wait(&run->room) != 0)
        ;
    if (atomic_load(&run->stop))
        return NULL;
    struct job *job = &run->ring[(*number)++ % run->jobs];
    job->status = WS2_OK;
    job->error = (struct ws2_error){0};
    return job;
}

static int make_head(struct run *run, struct job *job)
{
    const struct ws2_head *in = ws2_reader_head(run->reader);
    job->kind = JOB_HEAD;
    job->head = ws2_head_copy(in);
    if (job->head == NULL)
        return ws2_fail(&job->error, WS2_ERR_SYSTEM, "out of memory");
    const int status = run->options->begin(run->options->context, in, job->head, &job->error);
    if (status < 0)
        ws2_error_prefix(&job->error, "%s", ws2_head_seq(in));
    return status;
}

/* Reads one segment; false when the run is over or given up. */
static bool read_segment(struct run *run, int64_t *number)
{
    int got = 1;
    struct job *job = next_job(run, number);
    if (job == NULL)
        return false;
    job->status = make_head(run, job);
    bool good = job->status >= 0;
    ws2_pool_give(run->decode, job);
    while (good && got == 1) {
        job = next_job(run, number);
        if (job == NULL)
            return false;
        got = ws2_reader_next(run->reader, job->record);
        job->kind = got == 1 ? JOB_FRAME : JOB_END;
        job->status = got < 0 ? got : WS2_OK;
        if (got < 0)
            ws2_fail(&job->error, got, "%s", ws2_reader_error(run->reader)->text);
        good = got >= 0;
        ws2_pool_give(run->decode, job);
    }
    return good;
}

static void *reader_main(void *context)
{
    struct run *run = context;
    int64_t number = 0;
    int more = 1;
    while (more == 1 && read_segment(run, &number))
        more = ws2_reader_next_segment(run->reader);
    struct job *job = more < 0 ? next_job(run, &number) : NULL;
    if (job) {
        job->kind = JOB_END;
        job->status = more;
        ws2_fail(&job->error, more, "%s", ws2_reader_error(run->reader)->text);
        ws2_pool_give(run->decode, job);
    }
    ws2_pool_finish(run->decode);
    return NULL;
}

/* ---- decoding --------------------------------------------------------------------------------------------- */

static int take_rgb(const struct run *run, struct scratch *scratch, struct job *job, struct ws2_tensor *rgb)
{
    int status = ws2_record_want(job->record, "rgb", WS2_U8, 3, rgb, &job->error);
    if (status < 0)
        return status;
    job->height = rgb->shape.dim[0];
    job->width = rgb->shape.dim[1];
    if (rgb->shape.dim[2] != 3 || job->height < 1 || job->width < 1 || job->height > WS2_IMAGE_SIDE_MAX ||
        job->width > WS2_IMAGE_SIDE_MAX) {
        char text[64];
        return ws2_fail(&job->error, WS2_ERR_INPUT, "rgb has shape %s, not [h,w,3]",
                        ws2_shape_text(&rgb->shape, text, sizeof text));
    }
    job->side_h = run->options->size ? run->options->size : (int)job->height;
    job->side_w = run->options->size ? run->options->size : (int)job->width;
    void *grown = job->rgb;
    if (ws2_reserve(&grown, &job->capacity, (size_t)job->side_h * (size_t)job->side_w * 3) < 0)
        return ws2_fail(&job->error, WS2_ERR_SYSTEM, "out of memory");
    job->rgb = grown;
    if (job->side_h == job->height && job->side_w == job->width) {
        memcpy(job->rgb, rgb->data, rgb->bytes);
        return WS2_OK;
    }
    status = ws2_resizer_fit(&scratch->rgb, (int)job->width, (int)job->height, job->side_w, job->side_h,
                             WS2_PIL_BILINEAR, &job->error);
    return status < 0 ? status : ws2_resizer_u8(scratch->rgb, job->rgb, rgb->data, 3, &job->error);
}

static int apply_mask(const struct run *run, struct scratch *scratch, struct job *job)
{
    static const uint8_t colour[2][3] = {{0, 0, 0}, {124, 116, 104}}; /* black; 255 * the ImageNet mean */
    struct ws2_tensor fg;
    const size_t pixels = (size_t)job->side_h * (size_t)job->side_w;
    int status = ws2_record_want(job->record, "fg", WS2_U8, 2, &fg, &job->error);
    if (status < 0)
        return status;
    if (fg.shape.dim[0] != job->height || fg.shape.dim[1] != job->width) {
        char text[64];
        return ws2_fail(&job->error, WS2_ERR_INPUT, "fg has shape %s, but rgb [%lld,%lld,3]",
                        ws2_shape_text(&fg.shape, text, sizeof text), (long long)job->height,
                        (long long)job->width);
    }
    const uint8_t *mask = fg.data;
    if (fg.bytes != pixels || job->side_w != job->width) {
        void *grown = scratch->fg;
        if (ws2_reserve(&grown, &scratch->capacity, pixels) < 0)
            return ws2_fail(&job->error, WS2_ERR_SYSTEM, "out of memory");
        mask = scratch->fg = grown;
        status = ws2_resizer_fit(&scratch->mask, (int)job->width, (int)job->height, job->side_w, job->side_h,
                                 WS2_NEAREST, &job->error);
        if (status >= 0)
            status = ws2_resizer_u8(scratch->mask, scratch->fg, fg.data, 1, &job->error);
    }
    for (size_t i = 0; status >= 0 && i < pixels; i++) {
        if (mask[i] == 0)
            memcpy(job->rgb + 3 * i, colour[run->options->fill_mean], 3);
    }
    return status;
}

static void decode(void *context, void *item, int worker)
{
    const struct run *run = context;
    struct scratch *scratch = &run->scratch[worker];
    struct job *job = item;
    struct ws2_tensor rgb;
    if (job->kind != JOB_FRAME)
        return;
    job->status = take_rgb(run, scratch, job, &rgb);
    if (job->status >= 0 && run->options->masked)
        job->status = apply_mask(run, scratch, job);
}

/* ---- packing and writing ---------------------------------------------------------------------------------- */

static void pack(void *context, void *item, int worker)
{
    const struct run *run = context;
    struct job *job = item;
    (void)worker;
    const int64_t classes = run->cam->net.classes;
    const struct ws2_shape map = ws2_shape_3(classes, job->height, job->width), one = ws2_shape_1(classes);
    uint16_t *half = ws2_record_add(job->record, "cam", WS2_F16, &map, &job->error);
    if (half)
        ws2_half_from_floats(half, job->maps, (size_t)(classes * job->height * job->width));
    if (half == NULL || ws2_record_put(job->record, "prob", WS2_F32, &one, job->prob, &job->error) < 0 ||
        ws2_record_pack(job->record, ws2_writer_level(run->writer), &job->error) < 0)
        job->status = job->error.status;
}

static int fail_frame(struct run *run, const struct job *job)
{
    ws2_fail(run->error, job->status, "%s", job->error.text);
    if (job->kind == JOB_FRAME)
        ws2_error_prefix(run->error, "%s: frame %lld", run->seq, (long long)ws2_record_frame(job->record));
    return job->status;
}

static int fail_writer(struct run *run)
{
    const struct ws2_error *why = ws2_writer_error(run->writer);
    return ws2_fail(run->error, why->status, "%s", why->text);
}

/* Writes what is packed until at most `left` jobs are under way. */
static int drain(struct run *run, int left)
{
    while (run->packing > left) {
        struct job *job = ws2_pool_take(run->pack);
        run->packing--;
        if (job->status < 0)
            return fail_frame(run, job);
        if (ws2_writer_put(run->writer, job->record) < 0)
            return fail_writer(run);
        if (run->options->done)
            run->options->done(run->options->context);
        sem_post(&run->room);
    }
    return WS2_OK;
}

/* ---- the network ------------------------------------------------------------------------------------------ */

static bool alike(const struct job *a, const struct job *b)
{
    return a->height == b->height && a->width == b->width && a->side_h == b->side_h && a->side_w == b->side_w;
}

static int reserve(struct run *run, struct results *results, const struct job *first, size_t count)
{
    const size_t classes = (size_t)run->cam->net.classes;
    const size_t map = classes * (size_t)first->height * (size_t)first->width;
    size_t bytes;
    void *maps = results->maps, *prob = results->prob, *input = run->input;
    if (!ws2_mul_size(count * sizeof(float), map, &bytes) ||
        ws2_reserve(&maps, &results->maps_capacity, bytes) < 0)
        return WS2_ERR_SYSTEM;
    results->maps = maps;
    if (ws2_reserve(&prob, &results->prob_capacity, count * classes * sizeof(float)) < 0)
        return WS2_ERR_SYSTEM;
    results->prob = prob;
    if (!ws2_mul_size(count * 3, (size_t)first->side_h * (size_t)first->side_w, &bytes) ||
        ws2_reserve(&input, &run->input_capacity, bytes) < 0)
        return WS2_ERR_SYSTEM;
    run->input = input;
    return WS2_OK;
}

/* Computes the batch, hands it to the packers, and writes the batch before it. */
static int compute(struct run *run)
{
    struct results *results = &run->results[run->turn];
    const struct job *first = run->batch[0];
    const size_t classes = (size_t)run->cam->net.classes, count = (size_t)run->count;
    if (count == 0)
        return WS2_OK;
    const size_t input = (size_t)first->side_h * (size_t)first->side_w * 3;
    const size_t map = classes * (size_t)first->height * (size_t)first->width;
    if (reserve(run, results, first, count) < 0)
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        memcpy(run->input + i * input, run->batch[i]->rgb, input);
    const int status =
        ws2_cam_pictures(run->cam, run->count, first->side_h, first->side_w, run->input, (int)first->height,
                         (int)first->width, results->maps, results->prob, run->error);
    if (status < 0)
        return status;
    for (size_t i = 0; i < count; i++) {
        run->batch[i]->maps = results->maps + i * map;
        run->batch[i]->prob = results->prob + i * classes;
        ws2_pool_give(run->pack, run->batch[i]);
    }
    run->packing += run->count;
    run->turn = !run->turn;
    run->count = 0;
    return drain(run, (int)count);
}

static int take_head(struct run *run, struct job *job)
{
    const int status = ws2_writer_begin(run->writer, job->head);
    free(run->seq);
    run->seq = strdup(ws2_head_seq(job->head));
    ws2_head_free(job->head);
    job->head = NULL;
    run->in_segment = true;
    sem_post(&run->room);
    if (run->seq == NULL)
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    return status < 0 ? fail_writer(run) : WS2_OK;
}

static int take_end(struct run *run)
{
    int status = compute(run);
    if (status >= 0)
        status = drain(run, 0);
    if (status >= 0 && ws2_writer_end(run->writer) < 0)
        status = fail_writer(run);
    run->in_segment = false;
    sem_post(&run->room);
    return status;
}

static int consume(struct run *run)
{
    int status = WS2_OK;
    struct job *job;
    while (status >= 0 && (job = ws2_pool_take(run->decode)) != NULL) {
        if (job->status < 0) {
            /* Frames before the bad one are good: they are written, so that it shows where the damage begins. */
            status = run->in_segment ? compute(run) : WS2_OK;
            status = status < 0 ? status : drain(run, 0);
            return status < 0 ? status : fail_frame(run, job);
        }
        if (job->kind == JOB_HEAD) {
            status = take_head(run, job);
        } else if (job->kind == JOB_END) {
            status = take_end(run);
        } else {
            if (run->count > 0 && !alike(run->batch[0], job))
                status = compute(run);
            run->batch[run->count++] = job;
            if (status >= 0 && run->count == run->options->batch)
                status = compute(run);
        }
    }
    return status;
}

/* ---- the run ---------------------------------------------------------------------------------------------- */

static int allocate(struct run *run)
{
    const struct ws2_cam_stream_options *o = run->options;
    /* Decoded ahead, in the batch, and packing: one batch each, and one that is being read. */
    run->jobs = 4 * o->batch + 2;
    run->ring = ws2_calloc((size_t)run->jobs, sizeof *run->ring);
    run->batch = ws2_calloc((size_t)o->batch, sizeof(struct job *));
    run->scratch = ws2_calloc((size_t)o->threads, sizeof *run->scratch);
    if (!run->ring || !run->batch || !run->scratch)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i < run->jobs; i++) {
        run->ring[i].record = ws2_record_new();
        if (run->ring[i].record == NULL)
            return WS2_ERR_SYSTEM;
    }
    const int depth = run->jobs > o->threads ? run->jobs : o->threads;
    run->decode = ws2_pool_open(o->threads, depth, decode, run);
    run->pack = ws2_pool_open(o->threads, depth, pack, run);
    return run->decode && run->pack ? WS2_OK : WS2_ERR_SYSTEM;
}

static void release(struct run *run)
{
    ws2_pool_close(run->decode);
    ws2_pool_close(run->pack);
    for (int i = 0; run->ring && i < run->jobs; i++) {
        ws2_record_free(run->ring[i].record);
        ws2_head_free(run->ring[i].head);
        free(run->ring[i].rgb);
    }
    for (int i = 0; run->scratch && i < run->options->threads; i++) {
        ws2_resizer_free(run->scratch[i].rgb);
        ws2_resizer_free(run->scratch[i].mask);
        free(run->scratch[i].fg);
    }
    for (int i = 0; i < 2; i++) {
        free(run->results[i].maps);
        free(run->results[i].prob);
    }
    free(run->input);
    free(run->seq);
    free(run->batch);
    free(run->scratch);
    free(run->ring);
    sem_destroy(&run->room);
}

int ws2_cam_stream(struct ws2_cam *cam, const struct ws2_cam_stream_options *options,
                   struct ws2_reader *reader, struct ws2_writer *writer, struct ws2_error *error)
{
    struct ws2_error own = {0};
    struct run run = {.cam = cam, .options = options, .reader = reader, .writer = writer};
    pthread_t thread;
    run.error = error ? error : &own;
    if (options->batch < 1 || options->threads < 1 || options->size < 0)
        return ws2_fail(error, WS2_ERR_USAGE, "batch and threads must be positive");
    int status = allocate(&run);
    sem_init(&run.room, 0, (unsigned)run.jobs);
    if (status < 0 || pthread_create(&thread, NULL, reader_main, &run) != 0) {
        release(&run);
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory or threads");
    }
    status = consume(&run);
    atomic_store(&run.stop, true);
    sem_post(&run.room);
    while (status < 0 && ws2_pool_take(run.decode)) /* so that the reader is never stuck */
        ;
    pthread_join(thread, NULL);
    release(&run);
    return status;
}
