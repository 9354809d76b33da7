/* ws2-sam-refine: coarse mask and instance masks -> refined mask. */
#include <math.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "mask/mask.h"
#include "instances.h"

#define MAX_AREA 0.5
#define IOU 0.3

struct job {
    const char *in, *instances, *out;
    int rule;
    struct ws2_refine refine;
    bool layers; /* of the segment being read: instances come as layers, not as a stack */
    const struct ws2_program *program;
    const struct ws2_common *common;
    struct ws2_refine_scratch *scratch; /* one for each worker */
};

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    if (ws2_head_want(in, job->in, WS2_U8, error) == NULL ||
        find_instances(in, job->instances, &job->layers, error) < 0 ||
        ws2_head_add_tensor(out, job->out, WS2_U8, "h,w", "0/1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    struct job *job = context;
    struct ws2_tensor coarse;
    struct ws2_instances instances;
    if (ws2_record_want(record, job->in, WS2_U8, 2, &coarse, error) < 0 ||
        get_instances(record, job->instances, job->layers, &instances, error) < 0)
        return error->status;
    const struct ws2_shape shape = ws2_shape_2(instances.height, instances.width);
    if (!ws2_shape_equal(&coarse.shape, &shape))
        return ws2_record_misfit(record, job->in, job->instances, error);
    uint8_t *refined = ws2_record_add(record, job->out, WS2_U8, &shape, error);
    if (refined == NULL)
        return error->status;
    const int64_t taken =
        ws2_refine_mask(&job->refine, &job->scratch[worker], coarse.data, &instances, refined, error);
    if (taken < 0)
        ws2_error_prefix(error, "tensor '%s'", job->instances);
    return taken < 0 ? (int)taken : 0;
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "coarse",
                             .instances = "instances",
                             .out = "refined",
                             .refine = {.max_area = MAX_AREA, .iou = NAN}};
    static const struct ws2_option options[] = {
        {"rule", 0, WS2_OPT_CHOICE, &job.rule, "sepl|max_iou_imp|max_iou|copy|and|or",
         "which masks are taken, and what becomes of the others", true, 0, 0},
        {"max-area", 0, WS2_OPT_REAL, &job.refine.max_area, "X",
         "never take masks with a larger share of the frame; 1 is as published", true, 0, 1},
        {"iou", 0, WS2_OPT_REAL, &job.refine.iou, "X",
         "copy, and, or: take masks that overlap more than this [0.3]", true, 0, 1},
        {"parts", 0, WS2_OPT_FLAG, &job.refine.parts, NULL,
         "copy, and, or: overlap any connected part of the coarse mask", true, 0, 0},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "coarse mask", true, 0, 0},
        {"instances", 0, WS2_OPT_TEXT, &job.instances, "NAME", "instance masks", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "mask to add", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-sam-refine",
        .operands = "[FILE...]",
        .summary = "refine coarse masks by instance masks",
        .reads = "coarse:u8[h,w] instances:u8[n,h,w]|u16[l,h,w]",
        .adds = "refined:u8[h,w]",
        .examples = "  ws2-sam b1.coarse.ws2 | ws2-sam-refine | ws2-iou --mask refined\n"
                    "  ws2-sam-refine --rule copy --parts -o b1.copy.ws2 b1.both.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    job.program = &program;
    job.common = &common;
    job.refine.rule = (enum ws2_refine_rule)job.rule;
    const bool overlaps = job.refine.rule >= WS2_REFINE_COPY;
    if (!overlaps && (!isnan(job.refine.iou) || job.refine.parts))
        ws2_die_text(WS2_ERR_USAGE, "--iou and --parts are for the rules copy, and, or");
    if (overlaps && isnan(job.refine.iou))
        job.refine.iou = IOU;
    job.scratch = ws2_calloc((size_t)common.threads, sizeof *job.scratch);
    if (job.scratch == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++)
        ws2_refine_scratch_free(&job.scratch[i]);
    free(job.scratch);
    return code;
}
