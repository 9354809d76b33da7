/* ws2-coarse: class maps -> mask of one class. */
#include <math.h>
#include <string.h>
#include "cli/cli.h"
#include "mask/mask.h"

struct job {
    const char *in, *out, *class, *within, *oracle;
    struct ws2_coarse coarse;
    double threshold, min_prob;
    int rule;
    bool otsu;
    int classes; /* of the segment being read */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    job->classes = ws2_head_classes(in);
    job->coarse.target = ws2_head_class_find(in, job->class);
    if (ws2_head_want(in, job->in, WS2_F16, error) == NULL)
        return error->status;
    if (job->classes == 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream does not name its classes");
    if (job->coarse.target < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream has no class '%s'", job->class);
    if ((job->within && ws2_head_want(in, job->within, WS2_U8, error) == NULL) ||
        (job->oracle && ws2_head_want(in, job->oracle, WS2_U8, error) == NULL))
        return error->status;
    if (job->min_prob > 0 && ws2_head_want(in, "prob", WS2_F32, error) == NULL)
        return error->status;
    if (ws2_head_add_tensor(out, job->out, WS2_U8, "h,w", "0/1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* 1: the frame probably holds the class; 0: it does not; or a status. */
static int present(const struct job *job, struct ws2_record *record, struct ws2_error *error)
{
    struct ws2_tensor prob;
    if (job->min_prob <= 0)
        return 1;
    int status = ws2_record_want(record, "prob", WS2_F32, 1, &prob, error);
    if (status < 0)
        return status;
    if (prob.shape.dim[0] != job->classes)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'prob' has %lld values for %d classes",
                        (long long)prob.shape.dim[0], job->classes);
    float p = ((const float *)prob.data)[job->coarse.target];
    if (isnan(p))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'prob' holds a value that is not a number");
    return p >= (float)job->min_prob;
}

/* A mask of the record that has the size of the maps. */
static int get_mask(struct ws2_record *record, const char *name, const struct ws2_shape *shape,
                    struct ws2_tensor *mask, struct ws2_error *error)
{
    char found[96], wanted[96];
    const int status = ws2_record_want(record, name, WS2_U8, 2, mask, error);
    if (status >= 0 && !ws2_shape_equal(&mask->shape, shape))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, the maps are %s", name,
                        ws2_shape_text(&mask->shape, found, sizeof found),
                        ws2_shape_text(shape, wanted, sizeof wanted));
    return status;
}

/* The mask by the rule, at a level of the frame's own where that is asked for. */
static int decide(const struct job *job, struct ws2_record *record, const struct ws2_tensor *cam,
                  const struct ws2_shape *shape, uint8_t *mask, struct ws2_error *error)
{
    struct ws2_coarse coarse = job->coarse;
    struct ws2_tensor truth = {0};
    const size_t pixels = (size_t)(shape->dim[0] * shape->dim[1]);
    int status = job->oracle ? get_mask(record, job->oracle, shape, &truth, error) : 0;
    if (status < 0)
        return status;
    if (job->otsu || job->oracle)
        status =
            ws2_coarse_level(&coarse, cam->data, job->classes, pixels, truth.data, &coarse.threshold, error);
    if (status >= 0)
        status = ws2_coarse_mask(&coarse, cam->data, job->classes, pixels, mask, error);
    if (status < 0)
        ws2_error_prefix(error, "tensor '%s'", job->in);
    return status;
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct ws2_tensor cam;
    (void)worker;
    int status = ws2_record_want(record, job->in, WS2_F16, 3, &cam, error);
    if (status < 0)
        return status;
    if (cam.shape.dim[0] != job->classes)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' has %lld maps for %d classes", job->in,
                        (long long)cam.shape.dim[0], job->classes);
    struct ws2_shape shape = ws2_shape_2(cam.shape.dim[1], cam.shape.dim[2]);
    uint8_t *mask = ws2_record_add(record, job->out, WS2_U8, &shape, error);
    if (mask == NULL)
        return error->status;
    size_t pixels = (size_t)(shape.dim[0] * shape.dim[1]);
    int shown = present(job, record, error);
    if (shown < 0)
        return shown;
    status = decide(job, record, &cam, &shape, mask, error);
    if (status >= 0 && !shown)
        memset(mask, 0, pixels);
    if (status < 0 || job->within == NULL)
        return status;
    struct ws2_tensor within;
    status = get_mask(record, job->within, &shape, &within, error);
    if (status >= 0)
        ws2_coarse_cut(mask, within.data, within.bytes);
    return status < 0 ? status : 0;
}

/* ---- options ------------------------------------------------------------------------------------------------ */

static void settle(struct job *job)
{
    if (!isnan(job->threshold) + job->otsu + (job->oracle != NULL) > 1)
        ws2_die_text(WS2_ERR_USAGE, "--threshold, --otsu and --oracle exclude each other");
    if (!isnan(job->threshold) || job->otsu || job->oracle)
        job->rule = WS2_COARSE_THRESHOLD;
    else if (job->rule == WS2_COARSE_THRESHOLD)
        job->threshold = WS2_COARSE_LEVEL;
    if (job->out == NULL) /* no later stage takes what was made with the truth for what it was not */
        job->out = job->oracle ? "oracle" : "coarse";
    job->coarse.rule = (enum ws2_coarse_rule)job->rule;
    job->coarse.threshold = (float)job->threshold;
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "cam", .class = "before", .threshold = NAN};
    static const struct ws2_option options[] = {
        {"rule", 0, WS2_OPT_CHOICE, &job.rule, "argmax|threshold", "how the maps decide", true, 0, 0},
        {"threshold", 't', WS2_OPT_REAL, &job.threshold, "T",
         "mask where the class's own map is above T; implies --rule threshold [0.3]", true, 0, 1},
        {"otsu", 0, WS2_OPT_FLAG, &job.otsu, NULL, "the same at a level for each frame, by its histogram",
         true, 0, 0},
        {"oracle", 0, WS2_OPT_TEXT, &job.oracle, "TRUTH",
         "the same at the best level for each frame, by its truth", true, 0, 0},
        {"class", 0, WS2_OPT_TEXT, &job.class, "NAME", "class wanted", true, 0, 0},
        {"min-prob", 0, WS2_OPT_REAL, &job.min_prob, "P",
         "empty mask where the frame's probability of the class is below P", true, 0, 1},
        {"within", 0, WS2_OPT_TEXT, &job.within, "NAME", "cut to this mask, such as fg", true, 0, 0},
        {"absolute", 0, WS2_OPT_FLAG, &job.coarse.absolute, NULL, "do not divide each map by its maximum",
         true, 0, 0},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "maps", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "mask to add [coarse; oracle]", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-coarse",
        .operands = "[FILE...]",
        .summary = "make the mask of one class from class maps",
        .reads = "cam:f16[c,h,w] prob:f32[c] fg:u8[h,w] truth:u8[h,w]",
        .adds = "coarse:u8[h,w] oracle:u8[h,w]",
        .examples = "  ws2-coarse b1.cam.ws2 | ws2-iou\n"
                    "  ws2-coarse -t 0.4 --within fg -o b1.mask.ws2 b1.cam.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    job.program = &program;
    job.common = &common;
    settle(&job);
    return ws2_cli_filter(&program, &common, &filter);
}
