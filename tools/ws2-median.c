/* ws2-median: frames of one camera -> what its belt looks like where nothing lies on it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "foreground.h"

struct job {
    int64_t samples, passes, least, window;
    int statistic;
    struct ws2_belt_params params;
    struct foreground_values values;
    const char *in;
    const struct ws2_program *program;
    const struct ws2_common *common;
    struct ws2_head *head; /* of the first segment: the others must be of its camera */
    char first[300];       /* its name, for messages */
    int64_t height, width; /* of the first sample */
    struct ws2_samples *kept;
};

/* ---- taking samples ----------------------------------------------------------------------------------------- */

static int begin(void *context, const char *name, const struct ws2_head *head, struct ws2_error *error)
{
    struct job *job = context;
    const struct ws2_tensor_info *info = ws2_head_find(head, job->in);
    if (info == NULL)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: no tensor '%s'", name, job->in);
    if (info->dtype != WS2_U8)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: tensor '%s' is %s, not u8", name, job->in,
                        ws2_dtype_name(info->dtype));
    if (job->head == NULL) {
        snprintf(job->first, sizeof job->first, "%s", name);
        job->head = ws2_head_copy(head);
        return job->head != NULL ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    const enum ws2_role role = ws2_head_role(head), first = ws2_head_role(job->head);
    if (role != first)
        return ws2_fail(error, WS2_ERR_INPUT, "%s is of the camera '%s', %s of '%s': a belt is of one camera",
                        name, ws2_role_name(role), job->first, ws2_role_name(first));
    int64_t w, h, width, height;
    ws2_head_size(head, &w, &h);
    ws2_head_size(job->head, &width, &height);
    if (w != 0 && h != 0 && width != 0 && height != 0 && (w != width || h != height))
        return ws2_fail(error, WS2_ERR_INPUT, "%s has frames of %lld x %lld pixels, %s of %lld x %lld", name,
                        (long long)w, (long long)h, job->first, (long long)width, (long long)height);
    return 0;
}

/* The frames' size must be that of the first, which tells how much room is needed. */
static int take(void *context, struct ws2_record *record, int index, int total, struct ws2_error *error)
{
    struct job *job = context;
    struct ws2_tensor rgb;
    char text[96];
    if (ws2_record_peek(record, job->in, &rgb) != 1)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", job->in);
    const int64_t *dim = rgb.shape.dim;
    if (rgb.dtype != WS2_U8 || rgb.shape.rank != 3 || dim[2] != 3 || dim[0] < 1 || dim[1] < 1)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s%s, not a picture u8[h,w,3]", job->in,
                        ws2_dtype_name(rgb.dtype), ws2_shape_text(&rgb.shape, text, sizeof text));
    if (index == 0) {
        job->height = dim[0];
        job->width = dim[1];
        return ws2_samples_new(&job->kept, dim[0], dim[1], total, job->params.foreground.dark, error);
    }
    if (dim[0] != job->height || dim[1] != job->width)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "tensor '%s' has %lld x %lld pixels, the first frame %lld x %lld", job->in,
                        (long long)dim[1], (long long)dim[0], (long long)job->width, (long long)job->height);
    return 0;
}

static int work(void *context, struct ws2_record *record, int index, struct ws2_error *error)
{
    struct job *job = context;
    struct ws2_tensor rgb;
    const int status = ws2_record_want(record, job->in, WS2_U8, 3, &rgb, error);
    if (status < 0)
        return status;
    ws2_samples_set(job->kept, index, rgb.data);
    return 0;
}

/* ---- the result ----------------------------------------------------------------------------------------------- */

/* Adds a tensor and its row in the head. */
static void put(struct ws2_head *head, struct ws2_record *record, const char *name, const char *axes,
                const char *unit, const struct ws2_shape *shape, const float *data)
{
    struct ws2_error error = {0};
    if (ws2_head_add_tensor(head, name, WS2_F32, axes, unit, &error) < 0 ||
        ws2_record_put(record, name, WS2_F32, shape, data, &error) < 0)
        ws2_die(&error);
}

/* The head is that of the first segment, whose history is that of the frames, with the belt's own tensors. */
static void write_belt(struct job *job, const struct ws2_belt *belt, struct ws2_writer *writer)
{
    const struct ws2_shape one = ws2_shape_1(2), two = ws2_shape_2(belt->height, belt->width);
    const struct ws2_shape three = ws2_shape_3(belt->height, belt->width, 3);
    struct ws2_record *record = ws2_record_new();
    struct ws2_head *head = job->head;
    if (record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    while (ws2_head_tensors(head) > 0)
        ws2_head_drop_tensor(head, ws2_head_tensor(head, 0)->name);
    int status = ws2_head_set_seq(head, "belt");
    if (status == 0)
        status = ws2_head_set_size(head, belt->width, belt->height);
    if (status == 0)
        status = ws2_head_set_rate(head, 0, 1);
    if (status == 0)
        status = ws2_cli_history(job->program, job->common, head, NULL);
    if (status < 0)
        ws2_die_text(status, "the head of the belt cannot be made");
    put(head, record, "belt.luma", "h,w", "0..255", &two, belt->luma);
    put(head, record, "belt.scale", "h,w", "0..255", &two, belt->scale);
    put(head, record, "belt.rgb", "h,w,3", "0..255", &three, belt->rgb);
    if (belt->rgb_scale != NULL)
        put(head, record, "belt.scale.rgb", "h,w,3", "0..255", &three, belt->rgb_scale);
    put(head, record, "belt.share", "h,w", "0..1", &two, belt->share);
    put(head, record, "belt.saturation", "2", "0..255", &one, belt->saturation);
    if (ws2_writer_begin(writer, head) < 0 || ws2_writer_put(writer, record) < 0 ||
        ws2_writer_end(writer) < 0)
        ws2_die(ws2_writer_error(writer));
    ws2_record_free(record);
}

static void report(const struct job *job, const struct ws2_belt_report *r)
{
    ws2_note(
        "%d samples; %.2f %% of the pixels hidden in more than half of them, %lld with fewer than %lld left",
        r->samples, 100.0 * r->covered, (long long)r->scarce, (long long)job->least);
    if (r->covered > 0.05)
        ws2_warn("items hide %.1f %% of the belt in more than half of the samples; its picture may be theirs "
                 "there (try --statistic mode)",
                 100.0 * r->covered);
}

static int run(struct job *job)
{
    struct ws2_error error = {0};
    struct ws2_belt_report result;
    struct ws2_belt belt;
    const struct ws2_sampling sampling = {job->samples, job->in, begin, take, work, job};
    struct ws2_writer *writer = job->common->check ? NULL : ws2_cli_writer(job->common);
    const int count = ws2_cli_sample(job->common, &sampling);
    if (!job->common->check) {
        if (count == 0)
            ws2_die_text(WS2_ERR_INPUT, "the input has no frames");
        if (ws2_belt_estimate(&belt, job->kept, count, &job->params, job->common->threads, &result, &error) <
            0)
            ws2_die(&error);
        ws2_samples_free(job->kept);
        write_belt(job, &belt, writer);
        ws2_belt_free(&belt);
        report(job, &result);
    }
    ws2_head_free(job->head);
    return ws2_cli_end(writer, 0);
}

int main(int argc, char **argv)
{
    static struct job job = {.samples = 301, .in = "rgb"};
    static struct ws2_option options[7 + FOREGROUND_OPTIONS + 1] = {
        {"samples", 0, WS2_OPT_INT, &job.samples, "N", "frames to take, evenly from all", true, 1, 65535},
        {"statistic", 0, WS2_OPT_CHOICE, &job.statistic, "median|mode",
         "what the first pass takes for the belt", true, 0, 0},
        {"passes", 0, WS2_OPT_INT, &job.passes, "N", "2: again without what the first pass calls foreground",
         true, 1, 9},
        {"least", 0, WS2_OPT_INT, &job.least, "N", "pixels with fewer samples left keep what they have", true,
         1, 65535},
        {"floor", 0, WS2_OPT_REAL, &job.params.floor, "S", "least spread, grey levels", true, 0.01, 255},
        {"window", 0, WS2_OPT_INT, &job.window, "N",
         "side of the square over which spreads are averaged, odd", true, 1, 999},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "frames", true, 0, 0},
    };
    static const struct ws2_program program = {
        .name = "ws2-median",
        .operands = "[FILE...]",
        .summary = "find what the belt of one camera looks like without items",
        .reads = "rgb:u8[h,w,3]",
        .adds = "belt.luma:f32[h,w] belt.scale:f32[h,w] belt.rgb:f32[h,w,3] belt.scale.rgb:f32[h,w,3] "
                "belt.share:f32[h,w] belt.saturation:f32[2]",
        .examples = "  ws2-median -j 4 -z 3 -o before.belt.ws2 before/*.ws2\n"
                    "  ws2-read clip.mp4 | ws2-median --samples 101 -o clip.belt.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    job.params = ws2_belt_defaults();
    job.passes = job.params.passes;
    job.least = job.params.least;
    job.window = job.params.window;
    foreground_options(options + 7, &job.values);
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    job.program = &program;
    job.common = &common;
    foreground_finish(&job.values);
    if (job.window % 2 == 0)
        ws2_die_text(WS2_ERR_USAGE, "--window: %lld is not odd", (long long)job.window);
    job.params.statistic = (enum ws2_statistic)job.statistic;
    job.params.passes = (int)job.passes;
    job.params.least = (int)job.least;
    job.params.window = (int)job.window;
    job.params.foreground = job.values.params;
    return run(&job);
}
