/* ws2-read: videos, folders and pictures -> a stream of frames, with truth masks where there are some. */
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "image/image.h"
#include "pool/pool.h"

static struct {
    const char *seq, *crop, *size, *frames, *rate, *truth;
    int role, resize, missing;
    int64_t first;
} want = {.resize = 2};

static const enum ws2_kernel kernels[] = {WS2_AREA,        WS2_BILINEAR, WS2_PIL_BILINEAR,
                                          WS2_PIL_BICUBIC, WS2_BICUBIC,  WS2_NEAREST};

static const struct ws2_option options[] = {
    {"seq", 0, WS2_OPT_TEXT, &want.seq, "NAME", "sequence name, else that of the folder or file", false, 0,
     0},
    {"role", 0, WS2_OPT_CHOICE, &want.role, "none|before|after", "camera before or after the sorter", false,
     0, 0},
    {"crop", 0, WS2_OPT_TEXT, &want.crop, "X,Y,W,H", "use this rectangle of each frame", true, 0, 0},
    {"size", 0, WS2_OPT_TEXT, &want.size, "SIZE", "resize to N by N, or to WIDTHxHEIGHT", true, 0, 0},
    {"resize", 0, WS2_OPT_CHOICE, &want.resize, "area|bilinear|pil-bilinear|pil-bicubic|bicubic|nearest",
     "how to resize", true, 0, 0},
    {"frames", 0, WS2_OPT_TEXT, &want.frames, "A:B[:STEP]", "only these frames, counted from 0", true, 0, 0},
    {"rate", 0, WS2_OPT_TEXT, &want.rate, "R", "resample video to R frames a second; rate of pictures", true,
     0, 0},
    {"first", 0, WS2_OPT_INT, &want.first, "N", "number of the first frame, where names give none", true, 0,
     1e15},
    {"truth", 0, WS2_OPT_TEXT, &want.truth, "PATH", "folder of masks of the same names, or a video of masks",
     false, 0, 0},
    {"truth-missing", 0, WS2_OPT_CHOICE, &want.missing, "error|empty", "what a frame without a mask is", true,
     0, 0},
    {0}};

static const struct ws2_program program = {
    "ws2-read",
    "PATH...",
    "read videos, folders of pictures and pictures into a stream",
    "-",
    "rgb:u8[h,w,3],truth:u8[h,w]",
    "  ws2-read --role before --size 512 before/video_001.mp4 | ws2-ls\n"
    "  ws2-read --truth masks/v1 -o v1.ws2 images/v1",
    WS2_TAKES_OPERANDS | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
    options};

/* A frame on its way through a worker. */
struct job {
    struct ws2_frame frame;
    struct ws2_record *record;
    int width, height; /* of the result */
    struct ws2_error error;
};

/* What a worker keeps between frames. */
struct bench {
    struct ws2_resizer *frame, *mask;
};

struct run {
    const struct ws2_common *common;
    struct ws2_fit fit;
    struct ws2_sequence_options options;
    struct ws2_sequence *sequence; /* being read */
    const char *seq;               /* its name */
    struct ws2_head *head;         /* NULL before its first frame */
    struct ws2_writer *writer;
    struct ws2_pool *pool;
    struct bench *bench; /* one for each worker */
    struct job *jobs;    /* a ring: they come back in the order in which they went */
    int depth;
    int64_t given, taken;
};

static _Noreturn void die_at(const struct run *run, int64_t number, struct ws2_error *error)
{
    ws2_error_prefix(error, "%s: frame %lld", run->seq, (long long)number);
    ws2_die(error);
}

/* ---- one frame, on a worker --------------------------------------------------------------------------- */

static int add_rgb(const struct run *run, struct job *job, struct bench *bench)
{
    const struct ws2_shape shape = ws2_shape_3(job->height, job->width, 3);
    uint8_t *rgb = ws2_record_add(job->record, "rgb", WS2_U8, &shape, &job->error);
    return rgb ? ws2_fit_apply(&run->fit, &job->frame.image, rgb, &bench->frame, &job->error)
               : job->error.status;
}

static int add_truth(const struct run *run, struct job *job, struct bench *bench, int frame_width,
                     int frame_height)
{
    const struct ws2_shape shape = ws2_shape_2(job->height, job->width);
    uint8_t *truth = ws2_record_add(job->record, "truth", WS2_U8, &shape, &job->error);
    if (truth && job->frame.has_mask)
        return ws2_fit_truth(&run->fit, &job->frame.mask, frame_width, frame_height, truth, &bench->mask,
                             &job->error);
    if (truth)
        memset(truth, 0, (size_t)job->width * (size_t)job->height);
    return job->error.status;
}

static void work(void *context, void *argument, int worker)
{
    const struct run *run = context;
    struct job *job = argument;
    struct bench *bench = &run->bench[worker];
    int status = ws2_sequence_load(run->sequence, &job->frame, &job->error);
    const int w = job->frame.image.width, h = job->frame.image.height;
    if (status == 0)
        status = ws2_fit_size(&run->fit, w, h, &job->width, &job->height, &job->error);
    ws2_record_set_frame(job->record, job->frame.number, job->frame.pts);
    /* The mask first: cropping changes what the frame's size is. */
    if (status == 0 && run->options.truth)
        status = add_truth(run, job, bench, w, h);
    if (status == 0)
        status = add_rgb(run, job, bench);
    if (status == 0)
        ws2_record_pack(job->record, ws2_writer_level(run->writer), &job->error);
}

/* ---- the segment, on the main thread -------------------------------------------------------------------- */

static void write_head(struct run *run, const struct job *job)
{
    struct ws2_error error = {0};
    int64_t num, den;
    struct ws2_head *head = run->head = ws2_must(ws2_head_new());
    ws2_sequence_rate(run->sequence, &num, &den);
    if (ws2_head_set_seq(head, run->seq) < 0 || ws2_head_set_role(head, (enum ws2_role)want.role) < 0 ||
        ws2_head_set_size(head, job->width, job->height) < 0 || ws2_head_set_rate(head, num, den) < 0)
        ws2_die_text(WS2_ERR_USAGE, "'%s' cannot be the name of a sequence", run->seq);
    if (ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error) < 0 ||
        (run->options.truth && ws2_head_add_tensor(head, "truth", WS2_U8, "h,w", "", &error) < 0))
        ws2_die(&error);
    if (ws2_cli_history(&program, run->common, head, NULL) < 0)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (ws2_writer_begin(run->writer, head) < 0)
        ws2_die(ws2_writer_error(run->writer));
}

/* Writes the frame that is next in order. */
static void take(struct run *run)
{
    struct job *job = ws2_pool_take(run->pool);
    int64_t width, height;
    if (job->error.status < 0)
        die_at(run, job->frame.number, &job->error);
    if (!run->head)
        write_head(run, job);
    ws2_head_size(run->head, &width, &height);
    if (width != job->width || height != job->height) {
        ws2_fail(&job->error, WS2_ERR_INPUT,
                 "%d x %d pixels after frames of %lld x %lld; --size makes them equal", job->width,
                 job->height, (long long)width, (long long)height);
        die_at(run, job->frame.number, &job->error);
    }
    if (ws2_writer_put(run->writer, job->record) < 0)
        ws2_die(ws2_writer_error(run->writer));
    ws2_record_clear(job->record);
    ws2_cli_progress_set(++run->taken, NULL);
}

static void read_frames(struct run *run)
{
    for (;;) {
        struct ws2_error error = {0};
        if (ws2_pool_inside(run->pool) == run->depth)
            take(run);
        struct job *job = &run->jobs[run->given % run->depth];
        const int more = ws2_sequence_next(run->sequence, &job->frame, &error);
        if (more <= 0) {
            /* Frames before the damaged one come first. */
            while (ws2_pool_inside(run->pool) > 0)
                take(run);
            if (more < 0)
                die_at(run, job->frame.number, &error);
            return;
        }
        run->given++;
        ws2_pool_give(run->pool, job);
    }
}

static void read_sequence(struct run *run, struct ws2_source *source)
{
    struct ws2_error error = {0};
    run->seq = want.seq ? want.seq : source->name;
    char *truth = want.truth ? ws2_must(ws2_truth_path(want.truth, run->seq)) : NULL;
    run->options.truth = truth;
    const int status = source->video
                           ? ws2_sequence_of_video(&run->sequence, source->video, &run->options, &error)
                           : ws2_sequence_of_files(&run->sequence, &source->files, &run->options, &error);
    if (status < 0)
        ws2_die(&error);
    ws2_cli_progress_begin(run->common, "frames", ws2_sequence_frames(run->sequence));
    run->taken = 0;
    read_frames(run);
    if (!run->head)
        ws2_die_text(WS2_ERR_INPUT, "%s: --frames %s leaves no frame", run->seq, want.frames);
    if (ws2_writer_end(run->writer) < 0)
        ws2_die(ws2_writer_error(run->writer));
    ws2_cli_progress_end();
    ws2_head_free(run->head);
    run->head = NULL;
    ws2_sequence_close(run->sequence);
    free(truth);
}

static void read_operands(struct run *run)
{
    struct ws2_sources sources = {.path = run->common->operand, .count = run->common->operands};
    struct ws2_source source;
    struct ws2_error error = {0};
    int more;
    while ((more = ws2_sources_next(&sources, &source, &error)) > 0) {
        read_sequence(run, &source);
        ws2_source_free(&source);
    }
    if (more < 0)
        ws2_die(&error);
}

static void parse(struct run *run)
{
    struct ws2_error error = {0};
    const struct ws2_range range = ws2_cli_range("frames", want.frames);
    run->fit.kernel = kernels[want.resize];
    run->options = (struct ws2_sequence_options){.begin = range.begin,
                                                 .end = range.end,
                                                 .step = range.step,
                                                 .first = want.first,
                                                 .rate_den = 1,
                                                 .threads = run->common->threads,
                                                 .truth_optional = want.missing == 1};
    if (ws2_fit_parse(&run->fit, want.crop, want.size, &error) < 0 ||
        (want.rate && ws2_rate_parse(want.rate, &run->options.rate_num, &run->options.rate_den, &error) < 0))
        ws2_die(&error);
}

int main(int argc, char **argv)
{
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    struct run run = {.common = &common, .depth = 2 * common.threads + 1};
    if (common.operands == 0)
        ws2_die_text(WS2_ERR_USAGE, "no video, folder or picture named; see --help");
    parse(&run);
    run.writer = ws2_cli_writer(&common);
    run.bench = ws2_must(ws2_calloc((size_t)common.threads, sizeof *run.bench));
    run.jobs = ws2_must(ws2_calloc((size_t)run.depth, sizeof *run.jobs));
    for (int i = 0; i < run.depth; i++)
        run.jobs[i].record = ws2_must(ws2_record_new());
    run.pool = ws2_must(ws2_pool_open(common.threads, run.depth, work, &run));
    read_operands(&run);
    ws2_pool_finish(run.pool);
    ws2_pool_close(run.pool);
    for (int i = 0; i < run.depth; i++) {
        ws2_record_free(run.jobs[i].record);
        ws2_frame_free(&run.jobs[i].frame);
    }
    for (int i = 0; i < common.threads; i++) {
        ws2_resizer_free(run.bench[i].frame);
        ws2_resizer_free(run.bench[i].mask);
    }
    free(run.jobs);
    free(run.bench);
    return ws2_cli_end(run.writer, 0);
}
