/* ws2-fuse: class maps of neighbouring frames, brought to one frame by flow and merged. */
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "motion/motion.h"

struct job {
    const char *in, *out; /* of the segment being read; out: NULL replaces in */
    int64_t frames, neighbours;
    int merge; /* as in: of the segment */
    bool divide;
    struct asked { /* by the user: NULL and negative where the maps decide */
        const char *in;
        int merge;
        bool raw;
    } asked;
    struct ws2_fuse fuse;
    bool valid;                       /* the validity of flows is needed */
    struct ws2_fuse_scratch *scratch; /* one for each worker */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

static const char *const flow_names[] = {"flow.next", "flow.prev"};
static const char *const valid_names[] = {"flow.next.valid", "flow.prev.valid"};

/* Which maps are merged, and how. Probabilities are not divided by their maximum, which would be a matter of the frame, and
 * their mean keeps what the planes of a pixel sum up to. */
static void choose_maps(struct job *job, const struct ws2_head *in)
{
    const struct ws2_tensor_info *prob = ws2_head_find(in, "prob");
    const bool only = ws2_head_find(in, "cam") == NULL && prob != NULL && prob->dtype == WS2_F16;
    job->in = job->asked.in ? job->asked.in : only ? "prob" : "cam";
    const bool probabilities = strcmp(job->in, "prob") == 0;
    job->merge = job->asked.merge >= 0 ? job->asked.merge : probabilities ? WS2_FUSE_MEAN : WS2_FUSE_MAX;
    job->fuse.merge = (enum ws2_fuse_merge)job->merge;
    job->fuse.raw = job->asked.raw || (probabilities && !job->divide);
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    choose_maps(job, in);
    const struct ws2_tensor_info *maps = ws2_head_want(in, job->in, WS2_F16, error);
    if (maps == NULL)
        return error->status;
    for (int way = 0; job->neighbours > 0 && way < 2; way++)
        if (ws2_head_want(in, flow_names[way], WS2_F16, error) == NULL ||
            (job->valid && ws2_head_want(in, valid_names[way], WS2_U8, error) == NULL))
            return error->status;
    if (job->out == NULL)
        ws2_head_drop_tensor(out, job->in);
    if (ws2_head_add_tensor(out, job->out ? job->out : job->in, WS2_F16, maps->axes,
                            job->fuse.raw ? maps->unit : "0..1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* A flow of the record, when it has one, goes into the frame. */
static int load_flow(const struct job *job, int way, struct ws2_record *record, struct ws2_fuse_frame *frame,
                     struct ws2_error *error)
{
    struct ws2_tensor flow, valid = {0};
    char found[96], wanted[96];
    if (!ws2_record_has(record, flow_names[way]))
        return 0;
    int status = ws2_record_want(record, flow_names[way], WS2_F16, 3, &flow, error);
    if (status >= 0 && job->valid)
        status = ws2_record_want(record, valid_names[way], WS2_U8, 2, &valid, error);
    if (status < 0)
        return status;
    const struct ws2_shape plane = ws2_shape_2(flow.shape.dim[1], flow.shape.dim[2]);
    if (job->valid && !ws2_shape_equal(&valid.shape, &plane))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, the flow %s", valid_names[way],
                        ws2_shape_text(&valid.shape, found, sizeof found),
                        ws2_shape_text(&flow.shape, wanted, sizeof wanted));
    status = ws2_fuse_frame_flow(frame, (enum ws2_fuse_way)way, flow.data, &flow.shape, valid.data, error);
    if (status < 0)
        ws2_error_prefix(error, "tensor '%s'", flow_names[way]);
    return status;
}

static int prepare(void *context, int step, struct ws2_record *record, void **note, int worker,
                   struct ws2_error *error)
{
    const struct job *job = context;
    struct ws2_tensor maps;
    (void)step, (void)worker;
    if (*note == NULL)
        *note = ws2_fuse_frame_new();
    if (*note == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status = ws2_record_want(record, job->in, WS2_F16, 3, &maps, error);
    if (status < 0)
        return status;
    status = ws2_fuse_frame_maps(*note, ws2_record_frame(record), maps.data, &maps.shape, error);
    if (status < 0) {
        ws2_error_prefix(error, "tensor '%s'", job->in);
        return status;
    }
    for (int way = 0; status >= 0 && job->neighbours > 0 && way < 2; way++)
        status = load_flow(job, way, record, *note, error);
    return status < 0 ? status : 0;
}

static int work(void *context, struct ws2_record *record, void *const *note, int worker,
                struct ws2_error *error)
{
    const struct job *job = context;
    const struct ws2_fuse_frame *window[2 * WS2_FUSE_REACH_MAX + 1] = {0};
    struct ws2_tensor maps;
    const int reach = job->fuse.reach;
    for (int k = -reach; k <= reach; k++)
        window[WS2_FUSE_REACH_MAX + k] = note[k];
    ws2_record_peek(record, job->in, &maps);
    if (job->out == NULL)
        ws2_record_drop(record, job->in);
    uint16_t *out = ws2_record_add(record, job->out ? job->out : job->in, WS2_F16, &maps.shape, error);
    if (out == NULL)
        return error->status;
    return ws2_fuse(&job->fuse, window + WS2_FUSE_REACH_MAX, &job->scratch[worker], out, error);
}

static void forget(void *note)
{
    ws2_fuse_frame_free(note);
}

/* --frames N and -k K say the same; what is not said follows from the other. */
static void settle_window(struct job *job)
{
    if (job->frames > 0 && job->frames % 2 == 0)
        ws2_die_text(WS2_ERR_USAGE, "--frames: %lld is even; the frame itself is in the middle",
                     (long long)job->frames);
    if (job->frames > 0 && job->neighbours >= 0 && job->frames != 2 * job->neighbours + 1)
        ws2_die_text(WS2_ERR_USAGE, "--frames and --neighbours contradict each other");
    if (job->neighbours < 0)
        job->neighbours = job->frames > 0 ? job->frames / 2 : 2;
    job->frames = 2 * job->neighbours + 1;
}

int main(int argc, char **argv)
{
    static struct job job = {.neighbours = -1, .merge = -1};
    static const struct ws2_option options[] = {
        {"frames", 0, WS2_OPT_INT, &job.frames, "N", "frames in the window, odd [5]", false, 1,
         2 * WS2_FUSE_REACH_MAX + 1},
        {"neighbours", 'k', WS2_OPT_INT, &job.neighbours, "K", "the same as frames on each side [2]", true, 0,
         WS2_FUSE_REACH_MAX},
        {"merge", 0, WS2_OPT_CHOICE, &job.merge, "max|mean|confidence",
         "how warped maps are merged; prob: mean", true, 0, 0},
        {"use-valid", 0, WS2_OPT_FLAG, &job.fuse.visible, NULL,
         "max and mean leave out what is hidden in a neighbour", true, 0, 0},
        {"raw", 0, WS2_OPT_FLAG, &job.fuse.raw, NULL, "do not divide each map by its maximum", true, 0, 0},
        {"divide", 0, WS2_OPT_FLAG, &job.divide, NULL, "do, when they are called prob too", false, 0, 0},
        {"compat-warp", 0, WS2_OPT_FLAG, &job.fuse.compat, NULL,
         "warp as the published code does, half a pixel off", true, 0, 0},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "maps [cam, or prob where there is no cam]", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "add the result instead of replacing the maps", true, 0,
         0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-fuse",
        .operands = "[FILE...]",
        .summary = "merge class maps of neighbouring frames along the flow",
        .reads = "cam:f16[c,h,w] prob:f16[c,h,w] flow.next:f16[2,h,w] flow.prev:f16[2,h,w] "
                 "flow.next.valid:u8[h,w] "
                 "flow.prev.valid:u8[h,w]",
        .adds = "cam:f16[c,h,w] prob:f16[c,h,w]",
        .examples = "  ws2-fuse b1.cam.ws2 | ws2-coarse | ws2-iou\n"
                    "  ws2-merge b1.cam.ws2 b1.flow.ws2 | ws2-fuse --frames 3 -z 3 -o b1.f2f.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    settle_window(&job);
    if (job.fuse.raw && job.divide)
        ws2_die_text(WS2_ERR_USAGE, "--raw and --divide contradict each other");
    job.asked = (struct asked){job.in, job.merge, job.fuse.raw};
    job.program = &program;
    job.common = &common;
    job.fuse.reach = (int)job.neighbours;
    job.valid = job.fuse.visible || job.merge == WS2_FUSE_CONFIDENCE;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    /* A window of one frame still goes through the notes: one path for all. */
    const struct ws2_filter filter = {.begin = begin,
                                      .context = &job,
                                      .reach = job.fuse.reach > 0 ? job.fuse.reach : 1,
                                      .steps = 1,
                                      .prepare = prepare,
                                      .work_near = work,
                                      .forget = forget};
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++)
        ws2_fuse_scratch_free(&job.scratch[i]);
    free(job.scratch);
    return code;
}
