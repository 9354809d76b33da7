/* ws2-seg: adds how unwanted each pixel is, as a dense network has learnt it, and the mask of what is. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "flat.h"
#include "models/fpn_frame.h"
#include "network.h"

/* One thread's memory. A GPU has one network, the CPU one for each thread, which share their weights. */
struct scratch {
    struct nn *nn;
    struct fpn fpn;
    struct fpn_frame frame;
};

struct job {
    const char *weights, *prob, *mask, *fg, *class_names;
    struct ws2_text_list names; /* of class_names */
    double threshold;           /* NAN: that of the weights */
    bool tta, whole, masked;
    int classes, before, after; /* of the segment being read: planes of the result, and two of them */
    struct flat_fields flat;
    const struct ws2_flat *even;     /* that of the segment being read */
    char model[NN_DIGEST_SIZE + 17]; /* digests of weights and belt */
    struct scratch *scratch;
    const struct ws2_program *program;
    struct ws2_common *common;
};

/* ---- the network ---------------------------------------------------------------------------------------------- */

static void open_networks(struct job *job)
{
    struct ws2_error error = {0};
    struct scratch *first = job->scratch;
    first->nn = network_context(job->common, 1);
    if (nn_device(first->nn) != NN_DEVICE_CPU)
        job->common->threads = 1;
    must(fpn_read(&first->fpn, first->nn, job->weights, &error), &error);
    for (int i = 1; i < job->common->threads; i++) {
        job->scratch[i].nn = network_context(job->common, 1);
        must(fpn_twin(&job->scratch[i].fpn, job->scratch[i].nn, &first->fpn, &error), &error);
    }
    if (isnan(job->threshold))
        job->threshold = first->fpn.info.threshold;
}

static void close_networks(struct job *job)
{
    for (int i = job->common->threads - 1; i >= 0; i--) {
        fpn_frame_free(&job->scratch[i].frame);
        fpn_close(&job->scratch[i].fpn);
        nn_close(job->scratch[i].nn);
    }
    free(job->scratch);
}

/* As the network learnt, so it is used. */
static void open_flat(struct job *job)
{
    const struct ws2_flat_params *learnt = &job->scratch->fpn.flat;
    if (learnt->level > 0 && job->flat.file.count == 0)
        ws2_die_text(
            WS2_ERR_USAGE,
            "%s: learnt from frames behind a flat field: give the belt of the camera with --flat-field",
            job->weights);
    if (learnt->level == 0 && job->flat.file.count > 0)
        ws2_die_text(WS2_ERR_USAGE, "%s: learnt from frames as they are: leave --flat-field out",
                     job->weights);
    flat_open(&job->flat, job->common, learnt);
}

/* ---- the head -------------------------------------------------------------------------------------------------- */

/* The classes of the stream, or those asked for where it names none. */
static int find_classes(struct job *job, struct ws2_head *out, struct ws2_error *error)
{
    const struct ws2_text_list *asked = &job->names;
    if (ws2_head_classes(out) == 0 && ws2_head_set_classes(out, asked->item, asked->count) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    job->classes = ws2_head_classes(out);
    job->before = ws2_head_class_find(out, "before");
    job->after = ws2_head_class_find(out, "after");
    return job->before >= 0 ? 0 : ws2_fail(error, WS2_ERR_INPUT, "the stream's classes lack 'before'");
}

/* The flat field of the camera, whose belt is part of what the history has as the model. */
static int find_flat(struct job *job, const struct ws2_head *in, struct ws2_error *error)
{
    const enum ws2_role role = ws2_head_role(in);
    const bool asked = job->flat.file.count > 0;
    job->even = job->flat.of[role];
    snprintf(job->model, sizeof job->model, "%s%s%s", job->scratch->fpn.digest, asked ? "+" : "",
             job->flat.digest[role]);
    if (asked && role == WS2_ROLE_NONE)
        return ws2_fail(error, WS2_ERR_INPUT, "no role: read it with --role before or --role after");
    if (asked && job->even == NULL)
        return ws2_fail(error, WS2_ERR_INPUT, "no --flat-field is of the camera '%s'", ws2_role_name(role));
    return 0;
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    job->masked = !job->whole;
    if (ws2_head_want(in, "rgb", WS2_U8, error) == NULL ||
        (job->masked && ws2_head_want(in, job->fg, WS2_U8, error) == NULL) ||
        find_classes(job, out, error) < 0 || find_flat(job, in, error) < 0 ||
        ws2_head_add_tensor(out, job->prob, WS2_F16, "c,h,w", "0..1", error) < 0 ||
        ws2_head_add_tensor(out, job->mask, WS2_U8, "h,w", "0/1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, job->model);
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

/* p of `before`, 1 - p of `after`, on the belt; 0 of all else. */
static void fill(const struct job *job, const float *value, const uint8_t *fg, size_t pixels, uint16_t *prob,
                 uint8_t *mask)
{
    memset(prob, 0, (size_t)job->classes * pixels * sizeof *prob);
    ws2_half_from_floats(prob + (size_t)job->before * pixels, value, pixels);
    for (size_t i = 0; i < pixels; i++) {
        const float rest = 1 - value[i];
        const bool item = fg == NULL || fg[i];
        mask[i] = item && value[i] >= (float)job->threshold;
        if (job->after >= 0 && item)
            ws2_half_from_floats(prob + (size_t)job->after * pixels + i, &rest, 1);
    }
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    struct ws2_tensor rgb, fg = {0};
    char a[96];
    int status = ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error);
    if (status >= 0 && job->masked)
        status = ws2_record_want(record, job->fg, WS2_U8, 2, &fg, error);
    if (status < 0)
        return status;
    const int64_t h = rgb.shape.dim[0], w = rgb.shape.dim[1];
    const struct ws2_shape plane = ws2_shape_2(h, w), planes = ws2_shape_3(job->classes, h, w);
    if (rgb.shape.dim[2] != 3)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'rgb' is %s", ws2_shape_text(&rgb.shape, a, sizeof a));
    if (job->masked && !ws2_shape_equal(&fg.shape, &plane))
        return ws2_record_misfit(record, "rgb", job->fg, error);
    scratch->frame.flat = job->even;
    status = fpn_frame_run(&scratch->fpn, h, w, rgb.data, fg.data, job->tta, &scratch->frame, error);
    uint16_t *prob = status < 0 ? NULL : ws2_record_add(record, job->prob, WS2_F16, &planes, error);
    uint8_t *mask = prob ? ws2_record_add(record, job->mask, WS2_U8, &plane, error) : NULL;
    if (mask == NULL)
        return error->status;
    fill(job, scratch->frame.value, fg.data, (size_t)(h * w), prob, mask);
    return 0;
}

int main(int argc, char **argv)
{
    static struct job job = {
        .class_names = "after,before", .threshold = NAN, .prob = "prob", .mask = "mask", .fg = "fg"};
    static const struct ws2_option options[] = {
        {"weights", 'w', WS2_OPT_TEXT, &job.weights, "FILE", "of ws2-seg-train", 0, 0, 0},
        {"threshold", 't', WS2_OPT_REAL, &job.threshold, "P", "of the mask [that of the weights]", true, 0,
         1},
        {"tta", 0, WS2_OPT_FLAG, &job.tta, NULL, "mean over the frame and its mirror images", true, 0, 0},
        {"whole", 0, WS2_OPT_FLAG, &job.whole, NULL, "whole frames, not only what lies on the belt", true, 0,
         0},
        {"flat-field", 0, WS2_OPT_LIST, &job.flat.file, "FILE",
         "belt of a camera, if the network learnt so; repeatable", 0, 0, 0},
        {"fg", 0, WS2_OPT_TEXT, &job.fg, "NAME", "what lies on the belt", true, 0, 0},
        {"classes", 0, WS2_OPT_TEXT, &job.class_names, "A,B",
         "of the probabilities, where the stream names none", true, 0, 0},
        {"prob", 0, WS2_OPT_TEXT, &job.prob, "NAME", "name of the probabilities", true, 0, 0},
        {"mask", 0, WS2_OPT_TEXT, &job.mask, "NAME", "name of the mask", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-seg",
        .operands = "[FILE...]",
        .summary = "mark unwanted pixels by a dense network",
        .reads = "rgb:u8[h,w,3] fg:u8[h,w]",
        .adds = "prob:f16[c,h,w] mask:u8[h,w]",
        .examples = "  ws2-seg -w pu.safetensors b1.fg.ws2 | ws2-iou --mask mask\n"
                    "  ws2-seg -w pu.safetensors --mask coarse b1.fg.ws2 | ws2-show >look.png",
        .takes =
            WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_DEVICE | WS2_TAKES_PROGRESS,
        .options = options,
    };
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    if (job.weights == NULL)
        ws2_die_text(WS2_ERR_USAGE, "-w FILE is needed: the weights of a dense network");
    job.names = ws2_cli_names("--classes", job.class_names);
    job.program = &program;
    job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    open_networks(&job);
    open_flat(&job);
    const int code = ws2_cli_filter(&program, &common, &filter);
    close_networks(&job);
    flat_close(&job.flat);
    return code;
}
