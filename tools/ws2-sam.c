/* ws2-sam: pictures -> instance masks: regions of like colour and pieces of the foreground, from fine to coarse. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "image/image.h"
#include "mask/mask.h"

/* One thread's memory. */
struct scratch {
    struct ws2_proposals *proposals;
    struct ws2_instances_index index;
    float *colour;
    size_t colour_capacity;
};

struct job {
    const char *scales, *fg, *out;
    bool colour_only, stack;
    int64_t least;
    struct ws2_proposals_params params;
    bool has_fg;             /* of the segment being read */
    struct scratch *scratch; /* one for each worker */
    char *box_name, *score_name, *stability_name;
    const struct ws2_program *program;
    const struct ws2_common *common;
};

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    job->has_fg = !job->colour_only && (job->fg != NULL || ws2_head_find(in, "fg") != NULL);
    if (ws2_head_want(in, "rgb", WS2_U8, error) == NULL ||
        (job->has_fg && ws2_head_want(in, job->fg ? job->fg : "fg", WS2_U8, error) == NULL) ||
        ws2_head_add_tensor(out, job->out, job->stack ? WS2_U8 : WS2_U16, job->stack ? "n,h,w" : "l,h,w",
                            job->stack ? "0/1" : "mask", error) < 0 ||
        ws2_head_add_tensor(out, job->box_name, WS2_I32, "n,4", "px", error) < 0 ||
        ws2_head_add_tensor(out, job->score_name, WS2_F32, "n", "0..1", error) < 0 ||
        ws2_head_add_tensor(out, job->stability_name, WS2_F32, "n", "0..1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* Layers, or a stack, and the table of the masks that were found. */
static int write_masks(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                       int64_t count, int64_t height, int64_t width, struct ws2_error *error)
{
    const struct ws2_shape shape = ws2_shape_3(ws2_proposals_layers(scratch->proposals), height, width),
                           each = ws2_shape_1(count), box_shape = ws2_shape_2(count, 4),
                           stack_shape = ws2_shape_3(count, height, width);
    int32_t *box = ws2_record_add(record, job->box_name, WS2_I32, &box_shape, error);
    float *score = box ? ws2_record_add(record, job->score_name, WS2_F32, &each, error) : NULL;
    float *stability = score ? ws2_record_add(record, job->stability_name, WS2_F32, &each, error) : NULL;
    uint16_t *layer = NULL;
    if (stability == NULL)
        return error->status;
    if (!job->stack)
        layer = ws2_record_add(record, job->out, WS2_U16, &shape, error);
    else if ((layer = ws2_calloc((size_t)(shape.dim[0] * height * width), sizeof *layer)) == NULL)
        ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (layer == NULL)
        return error->status;
    ws2_proposals_get(scratch->proposals, layer, box, stability);
    memcpy(score, stability, (size_t)count * sizeof *score);
    if (!job->stack)
        return 0;
    const struct ws2_instances masks = {
        .layers = shape.dim[0], .height = height, .width = width, .layer = layer};
    uint8_t *stack = ws2_record_add(record, job->out, WS2_U8, &stack_shape, error);
    int status = stack ? ws2_instances_find(&scratch->index, &masks, error) : error->status;
    if (status >= 0)
        ws2_instances_unpack(&masks, &scratch->index, stack);
    free(layer);
    return status;
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    struct ws2_tensor rgb, fg = {0};
    char found[96], wanted[96];
    int status = ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error);
    if (status >= 0 && job->has_fg)
        status = ws2_record_want(record, job->fg ? job->fg : "fg", WS2_U8, 2, &fg, error);
    if (status < 0)
        return status;
    const int64_t height = rgb.shape.dim[0], width = rgb.shape.dim[1];
    const struct ws2_shape plane = ws2_shape_2(height, width), three = ws2_shape_3(3, height, width);
    size_t bytes;
    if (rgb.shape.dim[2] != 3 || (job->has_fg && !ws2_shape_equal(&fg.shape, &plane)))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'rgb' is %s, '%s' is %s",
                        ws2_shape_text(&rgb.shape, found, sizeof found), job->fg ? job->fg : "fg",
                        ws2_shape_text(&fg.shape, wanted, sizeof wanted));
    if (!ws2_shape_bytes(&three, WS2_F32, &bytes) ||
        ws2_reserve((void **)&scratch->colour, &scratch->colour_capacity, bytes) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    ws2_lab_f32(scratch->colour, rgb.data, (size_t)(height * width));
    const int64_t count = ws2_proposals_make(&scratch->proposals, &job->params, scratch->colour, 3, fg.data,
                                             height, width, error);
    return count < 0 ? (int)count : write_masks(job, record, scratch, count, height, width, error);
}

/* ---- options ------------------------------------------------------------------------------------------------ */

/* The name of a table that goes with the masks. */
static char *beside(const char *masks, const char *what)
{
    const size_t size = strlen(masks) + strlen(what) + 2;
    char *name = ws2_must(ws2_calloc(size, 1));
    snprintf(name, size, "%s.%s", masks, what);
    return name;
}

static void settle(struct job *job)
{
    static struct ws2_text_list list; /* kept: it owns its texts */
    list = ws2_cli_names("scales", job->scales);
    job->params.levels = 0;
    for (int i = 0; i < list.count; i++) {
        char *end;
        const double k = strtod(list.item[i], &end);
        if (*end != '\0' || !(k > 0 && k <= 1e6))
            ws2_die_text(WS2_ERR_USAGE, "--scales: '%s' is no number above 0", list.item[i]);
        if (i == WS2_PROPOSALS_LEVELS_MAX)
            ws2_die_text(WS2_ERR_USAGE, "--scales: more than %d", WS2_PROPOSALS_LEVELS_MAX);
        job->params.k[job->params.levels++] = k;
    }
    if (job->colour_only && job->fg != NULL)
        ws2_die_text(WS2_ERR_USAGE, "--fg and --colour-only exclude each other");
    job->params.least = job->least;
    job->box_name = beside(job->out, "box");
    job->score_name = beside(job->out, "score");
    job->stability_name = beside(job->out, "stability");
}

int main(int argc, char **argv)
{
    static struct job job = {.scales = "100,300,1000", .out = "instances"};
    static const struct ws2_option options[] = {
        {"scales", 0, WS2_OPT_TEXT, &job.scales, "K,...",
         "regions of like colour: a larger K, larger regions", true, 0, 0},
        {"min", 0, WS2_OPT_INT, &job.least, "PX", "pixels that a mask has at least", true, 1, 1e9},
        {"sigma", 0, WS2_OPT_REAL, &job.params.sigma, "PX",
         "Gaussian that smooths the picture first; 0: none", true, 0, 16},
        {"neck", 0, WS2_OPT_REAL, &job.params.neck, "X",
         "cut the foreground at necks narrower than this share of a piece", true, 0, 1},
        {"fg", 0, WS2_OPT_TEXT, &job.fg, "NAME", "foreground mask [fg, if there is one]", true, 0, 0},
        {"colour-only", 0, WS2_OPT_FLAG, &job.colour_only, NULL, "no masks from the foreground", true, 0, 0},
        {"stack", 0, WS2_OPT_FLAG, &job.stack, NULL, "write u8[n,h,w], a plane for each mask", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "masks to add, with NAME.box, .score, .stability", true, 0,
         0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-sam",
        .operands = "[FILE...]",
        .summary = "find masks of single things in pictures",
        .reads = "rgb:u8[h,w,3] fg:u8[h,w]",
        .adds = "instances:u16[l,h,w]|u8[n,h,w] instances.box:i32[n,4] instances.score:f32[n] "
                "instances.stability:f32[n]",
        .examples = "  ws2-sam -z 3 -o b1.sam.ws2 b1.fg.ws2\n"
                    "  ws2-sam b1.coarse.ws2 | ws2-sam-refine | ws2-iou --mask refined",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    job.params = ws2_proposals_defaults();
    job.least = job.params.least;
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    settle(&job);
    job.program = &program;
    job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++) {
        ws2_proposals_free(job.scratch[i].proposals);
        ws2_instances_index_free(&job.scratch[i].index);
        free(job.scratch[i].colour);
    }
    free(job.scratch);
    free(job.box_name);
    free(job.score_name);
    free(job.stability_name);
    return code;
}
