/* ws2-walk: class maps that spread over pixels which are alike: random walks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "image/image.h"
#include "mask/mask.h"

enum { MAPS, SMALL_MAPS, GUIDE, SMALL_GUIDE, BUFFERS };
struct floats { /* a buffer that grows */
    float *value;
    size_t capacity;
};

/* One thread's memory. */
struct scratch {
    struct ws2_shape size, grid; /* [h,w] of the maps and of the walk */
    struct ws2_walker *walk;
    struct ws2_resizer *down, *up;
    struct floats buffer[BUFFERS];
    uint8_t *rgb; /* [h,w,3] on the grid */
    size_t rgb_capacity;
};

enum affinity { RGB, EDGE, FEATURE };

/* Before settle: NAN and negative where the preset decides. */
struct numbers {
    double beta;
    int64_t radius, steps, grid;
};

struct job {
    const char *in, *out, *edges, *features;
    const char *result; /* the name of what comes out */
    int affinity, preset;
    struct numbers use;
    double colour, space;
    bool raw;
    enum ws2_dtype guide_dtype; /* of the segment being read */
    int classes;
    struct scratch *scratch; /* one for each worker */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

/* Ours; AffinityNet (PSA); IRN and PuzzleCAM; smoke (arXiv 2507.21959). Ours takes IRN's exponent for edges. */
static const struct numbers presets[] = {{8, 5, 256, 4}, {8, 5, 256, 8}, {10, 5, 256, 4}, {16, 5, 2, 16}};

static const char *guide_name(const struct job *job)
{
    return job->affinity == RGB ? "rgb" : job->affinity == EDGE ? job->edges : job->features;
}

/* ---- the head -------------------------------------------------------------------------------------------------- */

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    const struct ws2_tensor_info *maps = ws2_head_want(in, job->in, WS2_F16, error);
    const struct ws2_tensor_info *guide = ws2_head_find(in, guide_name(job));
    const bool single = job->affinity != RGB && guide && guide->dtype == WS2_F32;
    job->guide_dtype = job->affinity == RGB ? WS2_U8 : single ? WS2_F32 : WS2_F16;
    job->classes = ws2_head_classes(in);
    if (maps == NULL || ws2_head_want(in, guide_name(job), job->guide_dtype, error) == NULL)
        return error->status;
    if (job->classes < 1)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream does not name its classes");
    if (job->out == NULL)
        ws2_head_drop_tensor(out, job->in);
    if (ws2_head_add_tensor(out, job->result, WS2_F16, maps->axes, job->raw ? maps->unit : "0..1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* ---- frames ------------------------------------------------------------------------------------------------- */

static int reserve(struct floats *floats, size_t count, struct ws2_error *error)
{
    return ws2_reserve((void **)&floats->value, &floats->capacity, count * sizeof *floats->value) == 0
               ? 0
               : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

/* The means of buffer `full` f32[planes,h,w] on the grid, in the buffer after it, or as they are when on the grid already. */
static float *shrink(struct scratch *scratch, int full, int64_t planes, const struct ws2_shape *size,
                     struct ws2_error *error)
{
    struct floats *from = &scratch->buffer[full], *to = from + 1;
    const size_t count = (size_t)(planes * scratch->grid.dim[0] * scratch->grid.dim[1]);
    if (ws2_shape_equal(size, &scratch->grid))
        return from->value;
    return reserve(to, count, error) < 0 ||
                   ws2_resizer_f32(scratch->down, to->value, from->value, planes, error) < 0
               ? NULL
               : to->value;
}

static int wrong_shape(const struct ws2_tensor *tensor, const struct ws2_shape *wanted,
                       struct ws2_error *error)
{
    char a[96], b[96];
    return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, wanted %s", tensor->name,
                    ws2_shape_text(&tensor->shape, a, sizeof a), ws2_shape_text(wanted, b, sizeof b));
}

static int prepare_colours(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                           struct ws2_error *error)
{
    struct ws2_tensor rgb;
    const int64_t *size = scratch->size.dim, *grid = scratch->grid.dim;
    const struct ws2_shape wanted = ws2_shape_3(size[0], size[1], 3);
    if (ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error) < 0 ||
        (!ws2_shape_equal(&rgb.shape, &wanted) && wrong_shape(&rgb, &wanted, error) < 0))
        return error->status;
    if (ws2_reserve((void **)&scratch->rgb, &scratch->rgb_capacity, 3 * (size_t)(grid[0] * grid[1])) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    const int status = ws2_resizer_u8(scratch->down, scratch->rgb, rgb.data, 3, error);
    return status < 0 ? status
                      : ws2_walk_colours(&scratch->walk, scratch->rgb, grid[0], grid[1], (int)job->use.radius,
                                         job->use.beta, job->colour, job->space, error);
}

/* Edges [h,w] or features [n,h,w], of the size of the maps or of the grid, to f32 on the grid. */
static float *load_guide(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                         int64_t *planes, struct ws2_error *error)
{
    struct ws2_tensor guide;
    const int rank = job->affinity == EDGE ? 2 : 3;
    if (ws2_record_want(record, guide_name(job), job->guide_dtype, rank, &guide, error) < 0)
        return NULL;
    const int64_t *grid = scratch->grid.dim, *dim = guide.shape.dim;
    const struct ws2_shape size = ws2_shape_2(dim[rank - 2], dim[rank - 1]);
    *planes = rank == 2 ? 1 : dim[0];
    const int64_t least = *planes > 0 ? *planes : 1;
    const struct ws2_shape wanted = rank == 2 ? scratch->grid : ws2_shape_3(least, grid[0], grid[1]);
    const size_t count = (size_t)(*planes * size.dim[0] * size.dim[1]);
    const bool fits = ws2_shape_equal(&size, &scratch->size) || ws2_shape_equal(&size, &scratch->grid);
    if ((!fits || *planes == 0 ? wrong_shape(&guide, &wanted, error)
                               : reserve(&scratch->buffer[GUIDE], count, error)) < 0)
        return NULL;
    float *value = scratch->buffer[GUIDE].value;
    bool sound = true; /* on the grid a mean would hide it */
    if (guide.dtype == WS2_F16)
        ws2_half_to_floats(value, guide.data, count);
    else
        memcpy(value, guide.data, guide.bytes);
    for (size_t i = 0; rank == 2 && i < count; i++)
        sound &= value[i] >= 0 && value[i] <= 1;
    if (!sound)
        ws2_fail(error, WS2_ERR_INPUT, "tensor '%s': an edge that is not within 0..1", guide.name);
    return sound ? shrink(scratch, GUIDE, *planes, &size, error) : NULL;
}

/* As published, maps keep nothing of what lies on an edge. */
static int prepare_learned(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                           float *maps, struct ws2_error *error)
{
    const int64_t h = scratch->grid.dim[0], w = scratch->grid.dim[1];
    const int radius = (int)job->use.radius;
    int64_t planes;
    const float *guide = load_guide(job, record, scratch, &planes, error);
    if (guide == NULL)
        return error->status;
    int status = job->affinity == EDGE
                     ? ws2_walk_edges(&scratch->walk, guide, h, w, radius, job->use.beta, error)
                     : ws2_walk_features(&scratch->walk, guide, planes, h, w, radius, job->use.beta, error);
    if (status < 0)
        ws2_error_prefix(error, "tensor '%s'", guide_name(job));
    for (int64_t i = 0; job->affinity == EDGE && status >= 0 && i < job->classes * h * w; i++)
        maps[i] *= fmaxf(1 - guide[i % (h * w)], 0);
    return status;
}

/* scratch->buffer[MAPS] walk, on the grid. */
static int walk(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                struct ws2_error *error)
{
    const int h = (int)scratch->size.dim[0], w = (int)scratch->size.dim[1], step = (int)job->use.grid;
    const int rows = (h + step - 1) / step, columns = (w + step - 1) / step;
    scratch->grid = ws2_shape_2(rows, columns);
    if (ws2_resizer_fit(&scratch->down, w, h, columns, rows, WS2_AREA, error) < 0 ||
        ws2_resizer_fit(&scratch->up, columns, rows, w, h, WS2_BILINEAR, error) < 0)
        return error->status;
    float *maps = shrink(scratch, MAPS, job->classes, &scratch->size, error);
    if (maps == NULL)
        return error->status;
    const int status = job->affinity == RGB ? prepare_colours(job, record, scratch, error)
                                            : prepare_learned(job, record, scratch, maps, error);
    if (status < 0)
        return status;
    ws2_walk_run(scratch->walk, job->use.steps, job->classes, maps);
    float *out = scratch->buffer[MAPS].value;
    return maps == out ? 0 : ws2_resizer_f32(scratch->up, out, maps, job->classes, error);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    struct ws2_tensor cam;
    int status = ws2_record_want(record, job->in, WS2_F16, 3, &cam, error);
    if (status < 0)
        return status;
    const struct ws2_shape shape = cam.shape;
    const size_t pixels = (size_t)(shape.dim[1] * shape.dim[2]), count = (size_t)job->classes * pixels;
    scratch->size = ws2_shape_2(shape.dim[1], shape.dim[2]);
    if (shape.dim[0] != job->classes)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' has %lld maps for %d classes", job->in,
                        (long long)shape.dim[0], job->classes);
    if (reserve(&scratch->buffer[MAPS], count, error) < 0)
        return error->status;
    status = ws2_walk_maps(cam.data, count, scratch->buffer[MAPS].value, error);
    if (status < 0)
        ws2_error_prefix(error, "tensor '%s'", job->in);
    else if (pixels > 0)
        status = walk(job, record, scratch, error);
    if (status < 0)
        return status;
    if (!job->raw)
        ws2_walk_scale(scratch->buffer[MAPS].value, job->classes, pixels);
    if (job->out == NULL)
        ws2_record_drop(record, job->in);
    uint16_t *out = ws2_record_add(record, job->result, WS2_F16, &shape, error);
    if (out == NULL)
        return error->status;
    ws2_half_from_floats(out, scratch->buffer[MAPS].value, count);
    return 0;
}

/* ---- options ------------------------------------------------------------------------------------------------ */

static void settle(struct job *job)
{
    const struct numbers *preset = &presets[job->preset];
    const double beta = job->preset == 0 && job->affinity == EDGE ? 10 : preset->beta;
    job->use.beta = isnan(job->use.beta) ? beta : job->use.beta;
    job->use.radius = job->use.radius < 0 ? preset->radius : job->use.radius;
    job->use.steps = job->use.steps < 0 ? preset->steps : job->use.steps;
    job->use.grid = job->use.grid < 0 ? preset->grid : job->use.grid;
    job->result = job->out ? job->out : job->in;
    if (job->affinity != RGB && (!isnan(job->colour) || !isnan(job->space)))
        ws2_die_text(WS2_ERR_USAGE, "--colour and --space are for --affinity rgb");
    if ((job->affinity != EDGE && job->edges) || (job->affinity != FEATURE && job->features))
        ws2_die_text(WS2_ERR_USAGE, "--edges is for --affinity edge, --features for --affinity feature");
    job->colour = isnan(job->colour) && job->affinity == RGB ? 13 : job->colour;
    job->space = isnan(job->space) && job->affinity == RGB ? 3 : job->space;
    job->edges = !job->edges && job->affinity == EDGE ? "edges" : job->edges;
    job->features = !job->features && job->affinity == FEATURE ? "features" : job->features;
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "cam", .colour = NAN, .space = NAN, .use = {NAN, -1, -1, -1}};
    static const struct ws2_option options[] = {
        {"affinity", 0, WS2_OPT_CHOICE, &job.affinity, "rgb|edge|feature", "what is alike", true, 0, 0},
        {"preset", 0, WS2_OPT_CHOICE, &job.preset, "ws2|psa|irn|smoke", "numbers of a publication", true, 0,
         0},
        {"colour", 0, WS2_OPT_REAL, &job.colour, "LEVELS", "rgb: deviation of colours [13]", true, 0.1, 1e4},
        {"space", 0, WS2_OPT_REAL, &job.space, "PX", "rgb: and on the grid, or 0 [3]", true, 0, 1e4},
        {"edges", 0, WS2_OPT_TEXT, &job.edges, "NAME", "edge: edges of 0..1 [edges]", true, 0, 0},
        {"features", 0, WS2_OPT_TEXT, &job.features, "NAME", "feature: their planes [features]", true, 0, 0},
        {"grid", 0, WS2_OPT_INT, &job.use.grid, "N", "walk over means of N x N pixels", true, 1, 256},
        {"radius", 0, WS2_OPT_INT, &job.use.radius, "PX", "neighbours are nearer on the grid", true, 1,
         WS2_WALK_RADIUS_MAX},
        {"beta", 0, WS2_OPT_REAL, &job.use.beta, "X", "exponent of affinities", true, 0.01, 1e3},
        {"steps", 0, WS2_OPT_INT, &job.use.steps, "N", "steps of the walk", true, 0, 65536},
        {"raw", 0, WS2_OPT_FLAG, &job.raw, NULL, "do not divide each map by its maximum", true, 0, 0},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "maps", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "add the result under this name", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-walk",
        .operands = "[FILE...]",
        .summary = "spread class maps over pixels that are alike",
        .reads = "rgb:u8[h,w,3] cam:f16[c,h,w] edges:f16[h,w] features:f16[n,h,w]",
        .adds = "cam:f16[c,h,w]",
        .examples = "  ws2-walk b1.cam.ws2 | ws2-coarse -t 0.3 | ws2-iou\n"
                    "  ws2-affinity -w w.safetensors b1.cam.ws2 | ws2-walk --affinity edge -o b1.walk.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    settle(&job);
    job.program = &program, job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++) {
        ws2_walk_free(job.scratch[i].walk);
        ws2_resizer_free(job.scratch[i].down);
        ws2_resizer_free(job.scratch[i].up);
        for (int k = 0; k < BUFFERS; k++)
            free(job.scratch[i].buffer[k].value);
        free(job.scratch[i].rgb);
    }
    free(job.scratch);
    return code;
}
