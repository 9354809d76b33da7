/* ws2-sam: pictures -> instance masks, by SAM 2, or without weights: regions of like colour and pieces of the foreground. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "image/image.h"
#include "mask/mask.h"
#include "models/sam2_stream.h"
#include "network.h"

enum method { AUTO, GRAPH, SAM2 };
enum { INIT_FILE, INIT_NONE };

/* One thread's memory. A GPU has one network, the CPU one for each thread. */
struct scratch {
    struct ws2_proposals *proposals;
    struct ws2_instances_index index;
    float *colour;
    size_t colour_capacity;
    struct nn *nn;
    struct sam2 *sam2;
    struct sam2_frame frame;
};

struct job {
    int method, init, size, preset;
    const char *weights, *scales, *fg, *out;
    bool colour_only, stack;
    int64_t grid, batch, crops, region_area, side;
    double iou, stability, nms; /* NAN: the preset's */
    struct ws2_text_list points, boxes;
    struct ws2_proposals_params params;
    struct sam2_frame_options sam2;
    bool has_fg;                                              /* of the segment being read */
    struct scratch *scratch;                                  /* one for each worker */
    char box_name[128], score_name[128], stability_name[128]; /* too long a name is refused by the head */
    const struct ws2_program *program;
    struct ws2_common *common;
};

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    job->has_fg =
        job->method == GRAPH && !job->colour_only && (job->fg != NULL || ws2_head_find(in, "fg") != NULL);
    if (ws2_head_want(in, "rgb", WS2_U8, error) == NULL ||
        (job->has_fg && ws2_head_want(in, job->fg ? job->fg : "fg", WS2_U8, error) == NULL) ||
        ws2_head_add_tensor(out, job->out, job->stack ? WS2_U8 : WS2_U16, job->stack ? "n,h,w" : "l,h,w",
                            job->stack ? "0/1" : "mask", error) < 0 ||
        ws2_head_add_tensor(out, job->box_name, WS2_I32, "n,4", "px", error) < 0 ||
        ws2_head_add_tensor(out, job->score_name, WS2_F32, "n", "0..1", error) < 0 ||
        ws2_head_add_tensor(out, job->stability_name, WS2_F32, "n", "0..1", error) < 0 ||
        (job->method == SAM2 && sam2_stream_begin(job->scratch[0].sam2, &job->sam2, in, out, error) < 0))
        return error->status;
    return ws2_cli_history(job->program, job->common, out,
                           job->method == SAM2 ? sam2_digest(job->scratch[0].sam2) : NULL);
}

/* ---- frames ------------------------------------------------------------------------------------------------- */

static int find_proposals(const struct job *job, const struct ws2_tensor *rgb, const uint8_t *fg,
                          struct scratch *scratch, struct ws2_masks *masks, struct ws2_error *error)
{
    const int64_t height = rgb->shape.dim[0], width = rgb->shape.dim[1];
    const struct ws2_shape three = ws2_shape_3(3, height, width);
    size_t bytes;
    if (!ws2_shape_bytes(&three, WS2_F32, &bytes) ||
        ws2_reserve((void **)&scratch->colour, &scratch->colour_capacity, bytes) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    ws2_lab_f32(scratch->colour, rgb->data, (size_t)(height * width));
    const int64_t count =
        ws2_proposals_make(&scratch->proposals, &job->params, scratch->colour, 3, fg, height, width, error);
    if (count < 0)
        return (int)count;
    *masks = ws2_proposals_masks(scratch->proposals);
    return 0;
}

/* Layers, or a stack, and the table. */
static int write_masks(const struct job *job, struct ws2_record *record, struct scratch *scratch,
                       const struct ws2_masks *masks, struct ws2_error *error)
{
    const int64_t height = masks->height, width = masks->width;
    const struct ws2_shape layers = ws2_shape_3(masks->layers, height, width),
                           stack = ws2_shape_3(masks->count, height, width), each = ws2_shape_1(masks->count),
                           box = ws2_shape_2(masks->count, 4);
    if (ws2_record_put(record, job->box_name, WS2_I32, &box, masks->box, error) < 0 ||
        ws2_record_put(record, job->score_name, WS2_F32, &each, masks->score, error) < 0 ||
        ws2_record_put(record, job->stability_name, WS2_F32, &each, masks->stability, error) < 0)
        return error->status;
    if (!job->stack)
        return ws2_record_put(record, job->out, WS2_U16, &layers, masks->layer, error);
    const struct ws2_instances instances = {
        .layers = masks->layers, .height = height, .width = width, .layer = masks->layer};
    uint8_t *plane = ws2_record_add(record, job->out, WS2_U8, &stack, error);
    if (plane == NULL || ws2_instances_find(&scratch->index, &instances, error) < 0)
        return error->status;
    memset(plane, 0, (size_t)(masks->count * height * width)); /* the last masks may be empty */
    ws2_instances_unpack(&instances, &scratch->index, plane);
    return 0;
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    struct ws2_tensor rgb, fg = {0};
    struct ws2_masks masks;
    char picture[96];
    int status = ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error);
    if (status >= 0 && job->has_fg)
        status = ws2_record_want(record, job->fg ? job->fg : "fg", WS2_U8, 2, &fg, error);
    if (status < 0)
        return status;
    const int64_t height = rgb.shape.dim[0], width = rgb.shape.dim[1];
    const struct ws2_shape plane = ws2_shape_2(height, width);
    if (rgb.shape.dim[2] != 3)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'rgb' is %s",
                        ws2_shape_text(&rgb.shape, picture, sizeof picture));
    if (job->has_fg && !ws2_shape_equal(&fg.shape, &plane))
        return ws2_record_misfit(record, "rgb", job->fg ? job->fg : "fg", error);
    status = job->method == GRAPH
                 ? find_proposals(job, &rgb, fg.data, scratch, &masks, error)
                 : sam2_stream_masks(scratch->sam2, &job->sam2, record, &rgb, &scratch->frame, &masks, error);
    return status < 0 ? status : write_masks(job, record, scratch, &masks, error);
}

/* ---- options ------------------------------------------------------------------------------------------------ */

/* `each` numbers of every option in the list. */
static const float *read_prompts(const char *option, const struct ws2_text_list *list, int each)
{
    float *number = ws2_must(ws2_calloc((size_t)(list->count * each), sizeof *number));
    double value[4];
    for (int i = 0; i < list->count; i++) {
        ws2_cli_numbers(option, list->item[i], each, each, -1e6, 1e6, value);
        for (int k = 0; k < each; k++)
            number[i * each + k] = (float)value[k];
    }
    return number;
}

static void settle_sam2(struct job *job)
{
    struct sam2_generate_options *g = &job->sam2.generate;
    struct ws2_error error = {0};
    *g = job->preset ? sam2_generate_ws2() : sam2_generate_defaults();
    g->iou = isnan(job->iou) ? g->iou : job->iou;
    g->stability = isnan(job->stability) ? g->stability : job->stability;
    g->box_nms = g->crop_nms = isnan(job->nms) ? g->box_nms : job->nms;
    g->points_per_side = (int)job->grid;
    g->points_per_batch = (int)job->batch;
    g->crop_layers = (int)job->crops;
    g->region_area = job->region_area;
    g->side = job->side;
    must(sam2_generate_check(g, &error), &error);
    job->sam2.points = job->points.count;
    job->sam2.point = read_prompts("point", &job->points, 2);
    job->sam2.boxes = job->boxes.count;
    job->sam2.box = read_prompts("box", &job->boxes, 4);
}

static void settle(struct job *job)
{
    const bool network = job->weights != NULL || job->init == INIT_NONE;
    if (job->method == AUTO)
        job->method = network ? SAM2 : GRAPH;
    if (job->method == GRAPH && (network || job->sam2.keep || job->points.count + job->boxes.count > 0))
        ws2_die_text(WS2_ERR_USAGE, "weights, points, boxes and --keep-embedding are for --method sam2");
    if (job->method == SAM2 && !network)
        ws2_die_text(WS2_ERR_USAGE, "-w FILE is needed: the weights of SAM 2 (make weights lists some); or "
                                    "--init none with --size");
    if (job->weights && job->init == INIT_NONE)
        ws2_die_text(WS2_ERR_USAGE, "-w FILE and --init none exclude each other");
    if (job->init == INIT_NONE && job->size == SAM2_ANY)
        ws2_die_text(WS2_ERR_USAGE, "--init none needs --size");
    if (job->colour_only && job->fg != NULL)
        ws2_die_text(WS2_ERR_USAGE, "--fg and --colour-only exclude each other");
    job->params.levels =
        ws2_cli_numbers("scales", job->scales, 1, WS2_PROPOSALS_LEVELS_MAX, 0, 1e6, job->params.k);
    settle_sam2(job);
    snprintf(job->box_name, sizeof job->box_name, "%s.box", job->out);
    snprintf(job->score_name, sizeof job->score_name, "%s.score", job->out);
    snprintf(job->stability_name, sizeof job->stability_name, "%s.stability", job->out);
}

/* ---- the network -------------------------------------------------------------------------------------------- */

static void open_networks(struct job *job)
{
    struct ws2_common *common = job->common;
    struct scratch *first = &job->scratch[0];
    struct ws2_error error = {0};
    first->nn = network_context(common, 1);
    if (nn_device(first->nn) != NN_DEVICE_CPU)
        common->threads = 1;
    if (job->init == INIT_NONE) {
        must(sam2_open(&first->sam2, first->nn, (enum sam2_size)job->size, (uint64_t)common->seed, &error),
             &error);
    } else {
        must(sam2_read(&first->sam2, first->nn, job->weights, (enum sam2_size)job->size, &error), &error);
        common->seed = 0; /* it changes nothing */
    }
    for (int i = 1; i < common->threads; i++) {
        job->scratch[i].nn = network_context(common, 1);
        must(sam2_twin(&job->scratch[i].sam2, job->scratch[i].nn, first->sam2, &error), &error);
    }
    job->size = (int)sam2_size(first->sam2); /* the history tells what was used */
}

static void close_all(struct job *job)
{
    for (int i = job->common->threads - 1; i >= 0; i--) {
        struct scratch *scratch = &job->scratch[i];
        ws2_proposals_free(scratch->proposals);
        ws2_instances_index_free(&scratch->index);
        sam2_frame_free(&scratch->frame);
        free(scratch->colour);
        sam2_close(scratch->sam2);
        nn_close(scratch->nn);
    }
    free(job->scratch);
    free((void *)job->sam2.point);
    free((void *)job->sam2.box);
}

int main(int argc, char **argv)
{
    static struct job job = {.scales = "100,300,1000",
                             .out = "instances",
                             .grid = 32,
                             .batch = 64,
                             .side = SAM2_SIDE,
                             .iou = NAN,
                             .stability = NAN,
                             .nms = NAN};
    static const struct ws2_option options[] = {
        {"method", 0, WS2_OPT_CHOICE, &job.method, "auto|graph|sam2", "sam2 with weights, else graph", true,
         0, 0},
        {"weights", 'w', WS2_OPT_TEXT, &job.weights, "FILE", "of SAM 2 or 2.1", false, 0, 0},
        {"init", 0, WS2_OPT_CHOICE, &job.init, "file|none",
         "none: no weights, but numbers drawn with the seed", true, 0, 0},
        {"size", 0, WS2_OPT_CHOICE, &job.size, "auto|tiny|small|base_plus|large",
         "of the network; auto: as the file has it", true, 0, 0},
        {"preset", 0, WS2_OPT_CHOICE, &job.preset, "official|ws2", "sam2: levels of the filters", true, 0, 0},
        {"iou", 0, WS2_OPT_REAL, &job.iou, "X", "sam2: keep masks of a predicted IoU above", true, 0, 1},
        {"stability", 0, WS2_OPT_REAL, &job.stability, "X", "sam2: keep masks this stable", true, 0, 1},
        {"nms", 0, WS2_OPT_REAL, &job.nms, "X", "sam2: overlap of boxes at which one goes", true, 0, 1},
        {"grid", 0, WS2_OPT_INT, &job.grid, "N", "sam2: points a side", true, 1, 256},
        {"crops", 0, WS2_OPT_INT, &job.crops, "N", "sam2: layers of crops", true, 0, SAM2_CROP_LAYERS_MAX},
        {"clean", 0, WS2_OPT_INT, &job.region_area, "PX", "sam2: smaller holes and islands go", true, 0, 1e9},
        {"side", 0, WS2_OPT_INT, &job.side, "N", "sam2: of the network's input", true, SAM2_SIDE_STEP, 4096},
        {"batch", 0, WS2_OPT_INT, &job.batch, "N", "sam2: points at a time", false, 1, 4096},
        {"point", 0, WS2_OPT_LIST, &job.points, "X,Y", "sam2: mask of a point, repeatable", true, 0, 0},
        {"box", 0, WS2_OPT_LIST, &job.boxes, "L,T,R,B", "sam2: mask in a box, repeatable", true, 0, 0},
        {"keep-embedding", 0, WS2_OPT_FLAG, &job.sam2.keep, NULL,
         "sam2: add what the encoder made of a frame", true, 0, 0},
        {"scales", 0, WS2_OPT_TEXT, &job.scales, "K,...", "graph: larger K, larger regions", true, 0, 0},
        {"min", 0, WS2_OPT_INT, &job.params.least, "PX", "graph: least pixels of a mask", true, 1, 1e9},
        {"sigma", 0, WS2_OPT_REAL, &job.params.sigma, "PX", "graph: smooth the picture first; 0: not", true,
         0, 16},
        {"neck", 0, WS2_OPT_REAL, &job.params.neck, "X",
         "graph: cut the foreground at necks narrower than this share of a piece", true, 0, 1},
        {"fg", 0, WS2_OPT_TEXT, &job.fg, "NAME", "graph: foreground mask [fg, if there is one]", true, 0, 0},
        {"colour-only", 0, WS2_OPT_FLAG, &job.colour_only, NULL, "graph: without the foreground", true, 0, 0},
        {"stack", 0, WS2_OPT_FLAG, &job.stack, NULL, "write u8[n,h,w], a plane for each mask", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "masks to add, and their tables", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-sam",
        .operands = "[FILE...]",
        .summary = "find masks of single things in pictures",
        .reads = "rgb:u8[h,w,3] fg:u8[h,w]",
        .adds = "instances:u16[l,h,w]|u8[n,h,w] instances.box:i32[n,4] instances.score:f32[n] "
                "instances.stability:f32[n] embed:f16[256,g,g] embed.high0:f16[32,4g,4g] "
                "embed.high1:f16[64,2g,2g] embed.rgb:i64[3]",
        .examples = "  ws2-sam b1.coarse.ws2 | ws2-sam-refine | ws2-iou --mask refined\n"
                    "  ws2-sam -w sam2.1_hiera_tiny.pt --preset ws2 -z 3 -o b1.sam.ws2 b1.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_SEED | WS2_TAKES_DEVICE |
                 WS2_TAKES_PROGRESS,
        .options = options,
    };
    job.params = ws2_proposals_defaults();
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    settle(&job);
    job.program = &program;
    job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    if (job.method == SAM2)
        open_networks(&job);
    const int code = ws2_cli_filter(&program, &common, &filter);
    close_all(&job);
    return code;
}
