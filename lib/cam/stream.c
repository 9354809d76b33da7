#include "cam/internal.h"

#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "pool/pool.h"

/*
 * A reader takes records from the stream; workers decode frames; the caller's thread puts them into batches; each worker
 * of the next pool has a network of its own, computes whole batches, and turns maps into compressed tensors; the
 * caller's thread writes them in order. So a batch is computed alike whatever the number of workers.
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
    int status;
    struct ws2_error error;
};

struct scratch {
    struct ws2_resizer *rgb, *mask;
    uint8_t *fg;
    size_t capacity;
};

struct buffer {
    void *data;
    size_t capacity;
};

/* Frames of equal size, or one job of another kind. */
struct batch {
    struct job **job;
    int count;
    struct buffer input;    /* u8 [count,side_h,side_w,3] */
    struct buffer maps;     /* f32 [count,C,height,width] */
    struct buffer prob;     /* f32 [count,C] */
    struct ws2_error error; /* of the network; those of a frame are with its job */
};

struct run {
    struct ws2_cam *const *cam; /* one for each worker */
    int cams;
    const struct ws2_cam_stream_options *options;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    struct job *ring;
    int jobs;
    sem_t room; /* free jobs */
    atomic_bool stop;
    struct ws2_pool *decode, *compute;
    struct scratch *scratch;
    struct batch *batch; /* a ring: the one being filled, those under way behind it */
    int batches;
    int64_t given, written; /* batches */
    char *seq;              /* name of the segment being written */
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
            memcpy(job->rgb + 3 * i, ws2_fill_colour[run->options->fill_mean], 3);
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

/* ---- the network ------------------------------------------------------------------------------------------ */

static int reserve(struct buffer *buffer, size_t count, size_t each)
{
    size_t bytes;
    return ws2_mul_size(count, each, &bytes) ? ws2_reserve(&buffer->data, &buffer->capacity, bytes)
                                             : WS2_ERR_SYSTEM;
}

/* The batch's pictures to its maps and probabilities. */
static int run_network(struct ws2_cam *cam, struct batch *batch)
{
    const struct job *first = batch->job[0];
    const size_t count = (size_t)batch->count, classes = (size_t)cam->net.classes;
    const size_t picture = (size_t)first->side_h * (size_t)first->side_w * 3;
    const size_t map = classes * (size_t)first->height * (size_t)first->width * sizeof(float);
    if (reserve(&batch->input, count, picture) < 0 || reserve(&batch->maps, count, map) < 0 ||
        reserve(&batch->prob, count, classes * sizeof(float)) < 0)
        return ws2_fail(&batch->error, WS2_ERR_SYSTEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        memcpy((uint8_t *)batch->input.data + i * picture, batch->job[i]->rgb, picture);
    nn_enter(cam->nn);
    return ws2_cam_pictures(cam, batch->count, first->side_h, first->side_w, batch->input.data,
                            (int)first->height, (int)first->width, batch->maps.data, batch->prob.data,
                            &batch->error);
}

#define HALF_MAX 65504.0f

/* A value that would become infinite, and NaN, stops here: nobody could divide by its maximum later on. */
static int check_range(struct job *job, int64_t classes, const float *maps)
{
    const int64_t pixels = job->height * job->width;
    bool good = true;
    for (int64_t i = 0; i < classes * pixels; i++)
        good &= fabsf(maps[i]) <= HALF_MAX;
    for (int64_t i = 0; !good && i < classes * pixels; i++)
        if (!(fabsf(maps[i]) <= HALF_MAX))
            return ws2_fail(&job->error, WS2_ERR_MODEL,
                            "the map of class %lld holds %g; half floats end at 65504",
                            (long long)(i / pixels), (double)maps[i]);
    return 0;
}

/* Adds maps [C,height,width] and probabilities [C] to the job's record, compressed. */
static void pack(const struct run *run, struct job *job, int64_t classes, const float *maps,
                 const float *prob)
{
    const struct ws2_shape map = ws2_shape_3(classes, job->height, job->width), one = ws2_shape_1(classes);
    uint16_t *half = check_range(job, classes, maps) < 0
                         ? NULL
                         : ws2_record_add(job->record, "cam", WS2_F16, &map, &job->error);
    if (half)
        ws2_half_from_floats(half, maps, (size_t)(classes * job->height * job->width));
    if (half == NULL || ws2_record_put(job->record, "prob", WS2_F32, &one, prob, &job->error) < 0 ||
        ws2_record_pack(job->record, ws2_writer_level(run->writer), &job->error) < 0)
        job->status = job->error.status;
}

static void compute(void *context, void *item, int worker)
{
    const struct run *run = context;
    struct ws2_cam *cam = run->cam[worker];
    struct batch *batch = item;
    const int64_t classes = cam->net.classes;
    if (batch->job[0]->kind != JOB_FRAME || run_network(cam, batch) < 0)
        return;
    const int64_t map = classes * batch->job[0]->height * batch->job[0]->width;
    for (int i = 0; i < batch->count; i++)
        pack(run, batch->job[i], classes, (const float *)batch->maps.data + i * map,
             (const float *)batch->prob.data + i * classes);
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static int fail_job(struct run *run, const struct job *job)
{
    ws2_fail(run->error, job->status, "%s", job->error.text);
    if (job->kind == JOB_FRAME)
        ws2_error_prefix(run->error, "%s: frame %lld", run->seq, (long long)ws2_record_frame(job->record));
    return job->status;
}

static int write_head(struct run *run, struct job *job)
{
    const int status = ws2_writer_begin(run->writer, job->head);
    free(run->seq);
    run->seq = strdup(ws2_head_seq(job->head));
    ws2_head_free(job->head);
    job->head = NULL;
    return run->seq ? status : ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
}

static int write_job(struct run *run, struct job *job)
{
    int status;
    if (job->status < 0)
        return fail_job(run, job);
    if (job->kind == JOB_HEAD)
        status = write_head(run, job);
    else
        status =
            job->kind == JOB_END ? ws2_writer_end(run->writer) : ws2_writer_put(run->writer, job->record);
    const struct ws2_error *why = ws2_writer_error(run->writer);
    if (status < 0)
        return run->error->status < 0 ? status : ws2_fail(run->error, why->status, "%s", why->text);
    if (job->kind == JOB_FRAME && run->options->done)
        run->options->done(run->options->context);
    return status;
}

/* Waits for the oldest batch and writes it. */
static int write_batch(struct run *run)
{
    struct batch *batch = ws2_pool_take(run->compute);
    int status = batch->error.status;
    run->written++;
    if (status < 0)
        return ws2_fail(run->error, status, "%s", batch->error.text);
    for (int i = 0; status >= 0 && i < batch->count; i++) {
        status = write_job(run, batch->job[i]);
        sem_post(&run->room);
    }
    batch->count = 0;
    return status;
}

static int drain(struct run *run)
{
    int status = WS2_OK;
    while (status >= 0 && run->written < run->given)
        status = write_batch(run);
    return status;
}

/* ---- batches ---------------------------------------------------------------------------------------------- */

static struct batch *filling(const struct run *run)
{
    return &run->batch[run->given % run->batches];
}

static bool fits(const struct batch *batch, const struct job *job)
{
    const struct job *first = batch->job[0];
    return batch->count == 0 ||
           (job->kind == JOB_FRAME && first->height == job->height && first->width == job->width &&
            first->side_h == job->side_h && first->side_w == job->side_w);
}

/* Hands the batch to the workers and makes sure that there is another one to fill. */
static int give(struct run *run)
{
    if (filling(run)->count == 0)
        return WS2_OK;
    ws2_pool_give(run->compute, filling(run));
    run->given++;
    return run->given - run->written < run->batches ? WS2_OK : write_batch(run);
}

static int add(struct run *run, struct job *job)
{
    const int status = fits(filling(run), job) ? WS2_OK : give(run);
    struct batch *batch = filling(run);
    if (status < 0)
        return status;
    batch->job[batch->count++] = job;
    return job->kind != JOB_FRAME || batch->count == run->options->batch ? give(run) : WS2_OK;
}

static int consume(struct run *run)
{
    int status = WS2_OK;
    struct job *job;
    while (status >= 0 && (job = ws2_pool_take(run->decode)) != NULL) {
        if (job->status >= 0) {
            status = add(run, job);
            continue;
        }
        /* Frames before the bad one are good: they are written, so that it shows where the damage begins. */
        status = give(run);
        status = status < 0 ? status : drain(run);
        return status < 0 ? status : fail_job(run, job);
    }
    return status < 0 ? status : drain(run);
}

/* ---- the run ---------------------------------------------------------------------------------------------- */

static int allocate_batches(struct run *run)
{
    /* One for each worker, and one that is being filled. */
    run->batches = run->cams + 1;
    run->batch = ws2_calloc((size_t)run->batches, sizeof *run->batch);
    for (int i = 0; run->batch && i < run->batches; i++) {
        run->batch[i].job = ws2_calloc((size_t)run->options->batch, sizeof(struct job *));
        if (run->batch[i].job == NULL)
            return WS2_ERR_SYSTEM;
    }
    return run->batch ? WS2_OK : WS2_ERR_SYSTEM;
}

static int allocate(struct run *run)
{
    const struct ws2_cam_stream_options *o = run->options;
    if (allocate_batches(run) < 0)
        return WS2_ERR_SYSTEM;
    run->jobs = (run->batches + 1) * o->batch + 2; /* those of all batches, and one batch decoded ahead */
    run->ring = ws2_calloc((size_t)run->jobs, sizeof *run->ring);
    run->scratch = ws2_calloc((size_t)o->threads, sizeof *run->scratch);
    if (!run->ring || !run->scratch)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i < run->jobs; i++) {
        run->ring[i].record = ws2_record_new();
        if (run->ring[i].record == NULL)
            return WS2_ERR_SYSTEM;
    }
    run->decode = ws2_pool_open(o->threads, run->jobs > o->threads ? run->jobs : o->threads, decode, run);
    run->compute = ws2_pool_open(run->cams, run->batches, compute, run);
    return run->decode && run->compute ? WS2_OK : WS2_ERR_SYSTEM;
}

static void release(struct run *run)
{
    ws2_pool_close(run->decode);
    ws2_pool_close(run->compute);
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
    for (int i = 0; run->batch && i < run->batches; i++) {
        free(run->batch[i].job);
        free(run->batch[i].input.data);
        free(run->batch[i].maps.data);
        free(run->batch[i].prob.data);
    }
    free(run->batch);
    free(run->seq);
    free(run->scratch);
    free(run->ring);
    sem_destroy(&run->room);
}

int ws2_cam_stream(struct ws2_cam *const *cam, int cams, const struct ws2_cam_stream_options *options,
                   struct ws2_reader *reader, struct ws2_writer *writer, struct ws2_error *error)
{
    struct ws2_error own = {0};
    struct run run = {.cam = cam, .cams = cams, .options = options, .reader = reader, .writer = writer};
    pthread_t thread;
    run.error = error ? error : &own;
    if (cams < 1 || options->batch < 1 || options->threads < 1 || options->size < 0)
        return ws2_fail(error, WS2_ERR_USAGE, "networks, batch and threads must be positive");
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
