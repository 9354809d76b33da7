/* ws2-seeds: what class maps are sure of, as labels to learn affinities from. */
#include <math.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "mask/mask.h"

/* One thread's memory: all maps of the stream, f32[all,h,w], and behind them those that count, f32[classes,h,w]. */
struct scratch {
    struct ws2_seeder seeder;
    float *map;
    size_t capacity;
};

struct job {
    const char *in, *out;
    struct ws2_text_list class;
    int preset;
    double low, high;
    int64_t grid;
    struct ws2_seed_options options;
    int all, classes, use[WS2_CRF_LABELS_MAX]; /* of the segment being read: maps, and which of them count */
    struct scratch *scratch;                   /* one for each worker */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

/* As published: AffinityNet; IRN; PuzzleCAM, which labels as IRN does; smoke (arXiv 2507.21959), whose features are coarser. */
static const struct ws2_seed_options presets[] = {
    {WS2_SEEDS_PSA, 4, 32, {3, 3, 80, 13, 10, 10, false}, 8},
    {WS2_SEEDS_IRN, 0.05, 0.3, {3, 3, 50, 5, 10, 10, false}, 4},
    {WS2_SEEDS_IRN, 0.1, 0.4, {3, 3, 50, 5, 10, 10, false}, 4},
    {WS2_SEEDS_SMOKE, 1e-4, 0.3, {.space = 0}, 16},
};

/* ---- the head -------------------------------------------------------------------------------------------------- */

/* The classes asked for, or all but the belt; after the sorter nothing of `before` is left. */
static int find_classes(struct job *job, const struct ws2_head *in, struct ws2_error *error)
{
    const int belt = ws2_head_class_find(in, "bg");
    const int gone = ws2_head_role(in) == WS2_ROLE_AFTER ? ws2_head_class_find(in, "before") : -1;
    job->all = ws2_head_classes(in);
    job->classes = 0;
    if (job->all < 1 || job->all >= WS2_CRF_LABELS_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream names %d classes, 1 to %d are possible", job->all,
                        WS2_CRF_LABELS_MAX - 1);
    for (int i = 0; i < job->class.count; i++)
        if (ws2_head_class_find(in, job->class.item[i]) < 0)
            return ws2_fail(error, WS2_ERR_INPUT, "the stream has no class '%s'", job->class.item[i]);
    for (int c = 0; c < job->all; c++) {
        bool asked = job->class.count == 0 && c != belt;
        for (int i = 0; i < job->class.count; i++)
            asked |= ws2_head_class_find(in, job->class.item[i]) == c;
        if (asked && c != gone)
            job->use[job->classes++] = c;
    }
    if (job->classes == 0)
        return ws2_fail(error, WS2_ERR_INPUT, "no class that counts can be seen by this camera");
    return 0;
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    if (ws2_head_want(in, job->in, WS2_F16, error) == NULL ||
        (job->options.rule != WS2_SEEDS_SMOKE && ws2_head_want(in, "rgb", WS2_U8, error) == NULL) ||
        find_classes(job, in, error) < 0 ||
        ws2_head_add_tensor(out, job->out, WS2_U8, "h,w", "label", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

static int wrong_shape(const struct ws2_tensor *tensor, const struct ws2_shape *wanted,
                       struct ws2_error *error)
{
    char a[96], b[96];
    return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, wanted %s", tensor->name,
                    ws2_shape_text(&tensor->shape, a, sizeof a), ws2_shape_text(wanted, b, sizeof b));
}

/* The maps that count; those of classes that this camera cannot show are left out. */
static float *load_maps(const struct job *job, const struct ws2_tensor *cam, struct scratch *scratch,
                        struct ws2_error *error)
{
    const size_t pixels = (size_t)(cam->shape.dim[1] * cam->shape.dim[2]), all = (size_t)job->all * pixels;
    if (ws2_reserve((void **)&scratch->map, &scratch->capacity, 2 * all * sizeof *scratch->map) < 0) {
        ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
        return NULL;
    }
    if (ws2_walk_maps(cam->data, all, scratch->map, error) < 0) {
        ws2_error_prefix(error, "tensor '%s'", job->in);
        return NULL;
    }
    for (int i = 0; i < job->classes; i++)
        for (size_t k = 0; k < pixels; k++)
            scratch->map[all + (size_t)i * pixels + k] = scratch->map[(size_t)job->use[i] * pixels + k];
    return scratch->map + all;
}

/* Labels count the classes of the stream, so that both cameras agree. */
static void name_labels(const struct job *job, uint8_t *seed, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (seed[i] != 0 && seed[i] != WS2_SEED_UNKNOWN)
            seed[i] = (uint8_t)(job->use[seed[i] - 1] + 1);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    struct ws2_tensor cam, rgb = {0};
    int status = ws2_record_want(record, job->in, WS2_F16, 3, &cam, error);
    if (status >= 0 && job->options.rule != WS2_SEEDS_SMOKE)
        status = ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error);
    if (status < 0)
        return status;
    const int64_t h = cam.shape.dim[1], w = cam.shape.dim[2], grid = job->options.grid;
    const struct ws2_shape maps = ws2_shape_3(job->all, h, w), picture = ws2_shape_3(h, w, 3),
                           cells = ws2_shape_2((h + grid - 1) / grid, (w + grid - 1) / grid);
    if (!ws2_shape_equal(&cam.shape, &maps))
        return wrong_shape(&cam, &maps, error);
    if (rgb.data && !ws2_shape_equal(&rgb.shape, &picture))
        return wrong_shape(&rgb, &picture, error);
    const float *map = load_maps(job, &cam, scratch, error);
    uint8_t *seed = map ? ws2_record_add(record, job->out, WS2_U8, &cells, error) : NULL;
    if (seed == NULL)
        return error->status;
    status = ws2_seeds_make(&scratch->seeder, &job->options, rgb.data, map, job->classes, h, w, seed, error);
    if (status < 0)
        ws2_error_prefix(error, "tensor '%s'", job->in);
    else
        name_labels(job, seed, (size_t)(cells.dim[0] * cells.dim[1]));
    return status;
}

/* ---- options --------------------------------------------------------------------------------------------------- */

static void settle(struct job *job)
{
    job->options = presets[job->preset];
    job->low = isnan(job->low) ? job->options.low : job->low;
    job->high = isnan(job->high) ? job->options.high : job->high;
    job->grid = job->grid < 0 ? job->options.grid : job->grid;
    job->options.low = job->low;
    job->options.high = job->high;
    job->options.grid = (int)job->grid;
    if (job->high < job->low)
        ws2_die_text(WS2_ERR_USAGE, "--high %g is below --low %g", job->high, job->low);
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "cam", .out = "seeds", .low = NAN, .high = NAN, .grid = -1};
    static const struct ws2_option options[] = {
        {"preset", 0, WS2_OPT_CHOICE, &job.preset, "psa|irn|puzzle|smoke",
         "rule and numbers of a publication", true, 0, 0},
        {"low", 0, WS2_OPT_REAL, &job.low, "X", "psa: exponent of a sure belt's rival; others: level", true,
         0, 1e3},
        {"high", 0, WS2_OPT_REAL, &job.high, "X", "psa: exponent of a sure belt; others: level", true, 0,
         1e3},
        {"grid", 0, WS2_OPT_INT, &job.grid, "N", "a label for N x N pixels", true, 1, 256},
        {"class", 0, WS2_OPT_LIST, &job.class, "NAME", "class that counts [all but bg], repeatable", true, 0,
         0},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "maps", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "name of the labels", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-seeds",
        .operands = "[FILE...]",
        .summary = "mark what class maps are sure of: labels to learn affinities from",
        .reads = "rgb:u8[h,w,3] cam:f16[c,h,w]",
        .adds = "seeds:u8[h,w]",
        .examples =
            "  ws2-seeds --preset irn -z 3 -o b1.seeds.ws2 b1.cam.ws2\n"
            "  ws2-train --method affinity --init puzzle.safetensors -o edges.safetensors *.seeds.ws2",
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
        ws2_seeder_free(&job.scratch[i].seeder);
        free(job.scratch[i].map);
    }
    free(job.scratch);
    return code;
}
