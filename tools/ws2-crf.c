/* ws2-crf: class maps, or a mask, that follow the edges of the picture: a dense conditional random field. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "mask/mask.h"

/* One thread's memory. */
struct scratch {
    struct ws2_crf *crf;
    float *unary;
    size_t capacity;
};

struct job {
    const char *in, *mask, *class, *out;
    const char *result; /* the name of what comes out */
    double gamma, sure, reference;
    int preset;
    struct ws2_crf_params params, asked; /* asked: NAN and negative where the preset decides */
    int64_t iterations;
    int classes, target;     /* of the segment being read; target -1: all classes */
    struct scratch *scratch; /* one for each worker */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

/* As published: PSA and SEAM; IRN; PuzzleCAM's last step; WeakTr on VOC and on COCO; smoke (arXiv 2507.21959). */
static const struct ws2_crf_params presets[] = {
    {3, 3, 80, 13, 10, 10, false}, {3, 3, 50, 5, 10, 10, false}, {3, 3, 50, 5, 10, 1, false},
    {4, 3, 83, 5, 3, 10, false},   {3, 3, 50, 5, 10, 10, false}, {3, 5, 60, 5, 15, 5, false},
};

/* ---- the head -------------------------------------------------------------------------------------------------- */

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    job->classes = ws2_head_classes(in);
    job->target = job->class ? ws2_head_class_find(in, job->class) : -1;
    if (ws2_head_want(in, "rgb", WS2_U8, error) == NULL ||
        ws2_head_want(in, job->mask ? job->mask : job->in, job->mask ? WS2_U8 : WS2_F16, error) == NULL)
        return error->status;
    if (job->class && job->target < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream has no class '%s'", job->class);
    if (!job->mask && (job->classes < 1 || job->classes > WS2_CRF_LABELS_MAX))
        return ws2_fail(error, WS2_ERR_INPUT, "the stream names %d classes, 1 to %d are possible",
                        job->classes, WS2_CRF_LABELS_MAX);
    if (!job->mask && job->out == NULL)
        ws2_head_drop_tensor(out, job->in);
    if (ws2_head_add_tensor(out, job->result, job->mask ? WS2_U8 : WS2_F16, job->mask ? "h,w" : "c,h,w",
                            job->mask ? "0/1" : "0..1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* ---- frames ------------------------------------------------------------------------------------------------- */

/* Q [labels,h,w] in place of the unaries. */
static int run(const struct job *job, struct ws2_record *record, struct scratch *scratch, int labels,
               const struct ws2_shape *plane, struct ws2_error *error)
{
    struct ws2_tensor rgb;
    char a[96], b[96];
    const int status = ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error);
    if (status < 0)
        return status;
    const struct ws2_shape wanted = ws2_shape_3(plane->dim[0], plane->dim[1], 3);
    if (!ws2_shape_equal(&rgb.shape, &wanted))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'rgb' is %s, wanted %s",
                        ws2_shape_text(&rgb.shape, a, sizeof a), ws2_shape_text(&wanted, b, sizeof b));
    struct ws2_crf_params params = job->params;
    if (job->reference > 0) {
        const double scale = sqrt((double)plane->dim[0] * (double)plane->dim[1]) / job->reference;
        params.space *= scale;
        params.bilateral *= scale;
    }
    return ws2_crf_run(&scratch->crf, &params, rgb.data, plane->dim[0], plane->dim[1], scratch->unary, labels,
                       scratch->unary, error);
}

static int reserve(struct scratch *scratch, int labels, size_t pixels, struct ws2_error *error)
{
    return ws2_reserve((void **)&scratch->unary, &scratch->capacity,
                       (size_t)labels * pixels * sizeof *scratch->unary) == 0
               ? 0
               : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

/* The mask's pixels are sure of their label; what wins in the end is the new mask. */
static int refine_mask(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                       struct ws2_error *error)
{
    struct ws2_tensor mask;
    int status = ws2_record_want(record, job->mask, WS2_U8, 2, &mask, error);
    if (status >= 0)
        status = reserve(scratch, 2, mask.bytes, error);
    if (status >= 0)
        status = ws2_crf_unary_label(mask.data, mask.bytes, 2, job->sure, scratch->unary, error);
    if (status < 0)
        return status;
    status = run(job, record, scratch, 2, &mask.shape, error);
    uint8_t *out = status < 0 ? NULL : ws2_record_add(record, job->result, WS2_U8, &mask.shape, error);
    for (size_t i = 0; out != NULL && i < mask.bytes; i++)
        out[i] = scratch->unary[mask.bytes + i] > scratch->unary[i];
    return out ? 0 : error->status;
}

static int refine_maps(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                       struct ws2_error *error)
{
    struct ws2_tensor cam;
    const int labels = job->target < 0 ? job->classes : 2;
    int status = ws2_record_want(record, job->in, WS2_F16, 3, &cam, error);
    if (status < 0)
        return status;
    if (cam.shape.dim[0] != job->classes)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' has %lld maps for %d classes", job->in,
                        (long long)cam.shape.dim[0], job->classes);
    const struct ws2_shape shape = cam.shape, plane = ws2_shape_2(shape.dim[1], shape.dim[2]);
    const size_t pixels = (size_t)(plane.dim[0] * plane.dim[1]);
    status = reserve(scratch, labels, pixels, error);
    if (status >= 0)
        status = ws2_crf_probability(cam.data, job->classes, pixels, job->target,
                                     isnan(job->gamma) ? 1 : job->gamma, scratch->unary, error);
    if (status < 0) {
        ws2_error_prefix(error, "tensor '%s'", job->in);
        return status;
    }
    ws2_crf_unary_probability(scratch->unary, (size_t)labels * pixels, scratch->unary);
    status = run(job, record, scratch, labels, &plane, error);
    if (status < 0)
        return status;
    if (job->out == NULL)
        ws2_record_drop(record, job->in);
    uint16_t *out = ws2_record_add(record, job->result, WS2_F16, &shape, error);
    if (out == NULL)
        return error->status;
    if (job->target < 0) {
        ws2_half_from_floats(out, scratch->unary, (size_t)labels * pixels);
        return 0;
    }
    memset(out, 0, (size_t)job->classes * pixels * sizeof *out); /* nothing is known of the other classes */
    ws2_half_from_floats(out + (size_t)job->target * pixels, scratch->unary + pixels, pixels);
    return 0;
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    return job->mask ? refine_mask(job, record, scratch, error) : refine_maps(job, record, scratch, error);
}

/* ---- options ------------------------------------------------------------------------------------------------ */

static double either(double asked, double preset)
{
    return isnan(asked) ? preset : asked;
}

static void settle(struct job *job)
{
    const struct ws2_crf_params *preset = &presets[job->preset], *asked = &job->asked;
    job->params =
        (struct ws2_crf_params){.space = either(asked->space, preset->space),
                                .space_weight = either(asked->space_weight, preset->space_weight),
                                .bilateral = either(asked->bilateral, preset->bilateral),
                                .colour = either(asked->colour, preset->colour),
                                .bilateral_weight = either(asked->bilateral_weight, preset->bilateral_weight),
                                .iterations = job->iterations < 0 ? preset->iterations : (int)job->iterations,
                                .exact = asked->exact};
    job->result = job->out ? job->out : job->mask ? "refined" : job->in;
    if (job->mask && (job->class || !isnan(job->gamma)))
        ws2_die_text(WS2_ERR_USAGE, "--class and --gamma are for maps, not for --mask");
    if (!job->class && !isnan(job->gamma))
        ws2_die_text(WS2_ERR_USAGE, "--gamma needs --class");
    if (!job->mask && !isnan(job->sure))
        ws2_die_text(WS2_ERR_USAGE, "--sure needs --mask");
    if (job->class)
        job->gamma = either(job->gamma, 1);
    if (job->mask)
        job->sure = either(job->sure, 0.7);
}

int main(int argc, char **argv)
{
    static struct job job = {
        .in = "cam",
        .gamma = NAN,
        .sure = NAN,
        .iterations = -1,
        .asked = {
            .space = NAN, .space_weight = NAN, .bilateral = NAN, .colour = NAN, .bilateral_weight = NAN}};
    static const struct ws2_option options[] = {
        {"preset", 0, WS2_OPT_CHOICE, &job.preset, "psa|irn|puzzle|weaktr|weaktr-coco|smoke",
         "kernels and iterations of a publication", true, 0, 0},
        {"class", 0, WS2_OPT_TEXT, &job.class, "NAME", "two labels: this class, and anything else", true, 0,
         0},
        {"gamma", 0, WS2_OPT_REAL, &job.gamma, "X", "with --class: anything else is (1 - map)^X [1]", true,
         1e-3, 1e3},
        {"mask", 0, WS2_OPT_TEXT, &job.mask, "NAME", "refine this mask instead of maps", true, 0, 0},
        {"sure", 0, WS2_OPT_REAL, &job.sure, "P", "with --mask: probability that it is right [0.7]", true,
         0.01, 0.99},
        {"space", 0, WS2_OPT_REAL, &job.asked.space, "PX", "deviation of the first kernel", true, 0.1, 1e4},
        {"space-weight", 0, WS2_OPT_REAL, &job.asked.space_weight, "W", "its weight, 0 leaves it out", true,
         0, 1e4},
        {"bilateral", 0, WS2_OPT_REAL, &job.asked.bilateral, "PX", "deviation of the second kernel in space",
         true, 0.1, 1e4},
        {"colour", 0, WS2_OPT_REAL, &job.asked.colour, "LEVELS", "and in colour, 0..255", true, 0.1, 1e4},
        {"weight", 0, WS2_OPT_REAL, &job.asked.bilateral_weight, "W", "its weight, 0 leaves it out", true, 0,
         1e4},
        {"iterations", 0, WS2_OPT_INT, &job.iterations, "N", "steps of the mean field", true, 0, 1000},
        {"reference", 0, WS2_OPT_REAL, &job.reference, "N",
         "deviations in space are for N x N pixels; 0: for any size", true, 0, 1e5},
        {"exact", 0, WS2_OPT_FLAG, &job.asked.exact, NULL, "sum over all pairs of pixels (small frames)",
         true, 0, 0},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "maps", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "add the result under this name", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-crf",
        .operands = "[FILE...]",
        .summary = "let class maps or a mask follow the edges of the picture",
        .reads = "rgb:u8[h,w,3] cam:f16[c,h,w]",
        .adds = "cam:f16[c,h,w] refined:u8[h,w]",
        .examples =
            "  ws2-crf b1.cam.ws2 | ws2-coarse --absolute | ws2-iou\n"
            "  ws2-crf --preset smoke --class before --gamma 16 b1.cam.ws2 | ws2-coarse --absolute -t 0.3\n"
            "  ws2-crf --preset irn --mask coarse -z 3 -o b1.crf.ws2 b1.mask.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    settle(&job);
    job.program = &program;
    job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++) {
        ws2_crf_free(job.scratch[i].crf);
        free(job.scratch[i].unary);
    }
    free(job.scratch);
    return code;
}
