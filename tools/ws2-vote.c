/* ws2-vote: how unwanted pixels are becomes how unwanted their items are: votes in regions and along tracks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "instances.h"

#define NEW "prob.vote" /* while both are in the record */

enum { BY_REGION, BY_TRACK };

struct job {
    const char *in, *out, *fg, *instances, *mask;
    int by, rule, prefer;
    int64_t neighbours;
    double asked; /* threshold of the mask; NAN: that of ws2-seg, else 1/2 */
    struct ws2_vote vote;
    double threshold;                 /* of the segment being read */
    const char *belt;                 /* and name of fg, or NULL */
    bool layers;                      /* and whether instances come as layers, not as a stack */
    int64_t classes, before, after;   /* and their number, and planes of the maps */
    struct ws2_vote_scratch *scratch; /* one for each worker */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

static const char *const flow_names[] = {"flow.next", "flow.prev"};

/* ---- the head ---------------------------------------------------------------------------------------------- */

static int find_inputs(struct job *job, const struct ws2_head *in, struct ws2_error *error)
{
    const bool track = job->by == BY_TRACK;
    job->belt = job->fg ? job->fg : track || ws2_head_find(in, "fg") ? "fg" : NULL;
    if (job->belt && ws2_head_want(in, job->belt, WS2_U8, error) == NULL)
        return error->status;
    if (job->instances && find_instances(in, job->instances, &job->layers, error) < 0)
        return error->status;
    for (int way = 0; track && job->vote.reach > 0 && way < 2; way++)
        if (ws2_head_want(in, flow_names[way], WS2_F16, error) == NULL)
            return error->status;
    return 0;
}

/* The mask of an item is cut where that of its pixels was. */
static double find_threshold(const struct job *job, const struct ws2_head *in)
{
    char text[64];
    if (job->mask == NULL || !isnan(job->asked))
        return job->asked;
    if (!ws2_head_history_option(in, "ws2-seg", "threshold", text, sizeof text))
        return 0.5;
    const double told = strtod(text, NULL); /* what a stream says is checked */
    return told >= 0 && told <= 1 ? told : 0.5;
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    const struct ws2_tensor_info *prob = ws2_head_want(in, job->in, WS2_F16, error);
    job->threshold = find_threshold(job, in);
    job->classes = ws2_head_classes(in);
    job->before = ws2_head_class_find(in, "before");
    job->after = ws2_head_class_find(in, "after");
    if (prob == NULL || find_inputs(job, in, error) < 0)
        return error->status;
    if (job->before < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the stream's classes lack 'before'");
    if (job->out == NULL)
        ws2_head_drop_tensor(out, job->in);
    if (ws2_head_add_tensor(out, job->out ? job->out : job->in, WS2_F16, prob->axes, prob->unit, error) < 0)
        return error->status;
    if (job->mask)
        ws2_head_drop_tensor(out, job->mask);
    if (job->mask && ws2_head_add_tensor(out, job->mask, WS2_U8, "h,w", "0/1", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

/* ---- frames ------------------------------------------------------------------------------------------------ */

/* Says which tensor is to blame for what the library found. */
static int blame(const char *name, struct ws2_error *error)
{
    if (error->status == WS2_ERR_INPUT)
        ws2_error_prefix(error, "tensor '%s'", name);
    return error->status;
}

static int get_maps(const struct job *job, struct ws2_record *record, struct ws2_vote_maps *maps,
                    struct ws2_error *error)
{
    struct ws2_tensor prob, fg;
    if (ws2_record_want(record, job->in, WS2_F16, 3, &prob, error) < 0)
        return error->status;
    if (prob.shape.dim[0] != job->classes)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' has %lld maps for %lld classes", job->in,
                        (long long)prob.shape.dim[0], (long long)job->classes);
    *maps = (struct ws2_vote_maps){.prob = prob.data,
                                   .classes = job->classes,
                                   .height = prob.shape.dim[1],
                                   .width = prob.shape.dim[2],
                                   .before = job->before,
                                   .after = job->after};
    if (ws2_vote_check(maps, error) < 0)
        return blame(job->in, error);
    if (job->belt == NULL)
        return 0;
    if (ws2_record_want(record, job->belt, WS2_U8, 2, &fg, error) < 0)
        return error->status;
    maps->fg = fg.data;
    const struct ws2_shape plane = ws2_shape_2(maps->height, maps->width);
    return ws2_shape_equal(&fg.shape, &plane) ? 0 : ws2_record_misfit(record, job->in, job->belt, error);
}

/* Adds the mask, and puts the result in the place of what was read. */
static int finish(const struct job *job, struct ws2_record *record, const struct ws2_vote_maps *voted,
                  struct ws2_error *error)
{
    if (job->mask) {
        const struct ws2_shape plane = ws2_shape_2(voted->height, voted->width);
        ws2_record_drop(record, job->mask);
        uint8_t *mask = ws2_record_add(record, job->mask, WS2_U8, &plane, error);
        if (mask == NULL)
            return error->status;
        ws2_vote_mask(voted, (float)job->threshold, mask);
    }
    if (job->out)
        return 0;
    ws2_record_drop(record, job->in);
    return ws2_record_rename(record, NEW, job->in, error);
}

/* By tracks when there is a window, else by regions. */
static int vote(const struct job *job, struct ws2_record *record, const struct ws2_vote_frame *const *window,
                int worker, struct ws2_error *error)
{
    struct ws2_vote_scratch *scratch = &job->scratch[worker];
    struct ws2_vote_maps maps;
    struct ws2_instances masks;
    if (get_maps(job, record, &maps, error) < 0 ||
        (window == NULL && get_instances(record, job->instances, job->layers, &masks, error) < 0))
        return error->status;
    const struct ws2_shape shape = ws2_shape_3(maps.classes, maps.height, maps.width);
    uint16_t *result = ws2_record_add(record, job->out ? job->out : NEW, WS2_F16, &shape, error);
    if (result == NULL || (window && ws2_vote_tracks(&job->vote, scratch, &maps, window, result, error) < 0))
        return error->status;
    if (window == NULL && ws2_vote_regions(&job->vote, scratch, &maps, &masks, result, error) < 0)
        return blame(job->instances, error);
    maps.prob = result;
    return finish(job, record, &maps, error);
}

static int work_region(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    return vote(context, record, NULL, worker, error);
}

static int load_flows(const struct job *job, struct ws2_record *record, struct ws2_vote_frame *frame,
                      struct ws2_error *error)
{
    struct ws2_tensor flow;
    for (int way = 0; job->vote.reach > 0 && way < 2; way++) {
        if (!ws2_record_has(record, flow_names[way]))
            continue;
        if (ws2_record_want(record, flow_names[way], WS2_F16, 3, &flow, error) < 0)
            return error->status;
        if (ws2_vote_frame_flow(frame, (enum ws2_fuse_way)way, flow.data, &flow.shape, error) < 0)
            return blame(flow_names[way], error);
    }
    return 0;
}

/* The first step finds items, the second which of neighbours are one. */
static int prepare(void *context, int step, struct ws2_record *record, void **note, int worker,
                   struct ws2_error *error)
{
    const struct job *job = context;
    struct ws2_vote_maps maps;
    struct ws2_instances instances;
    if (step == 1)
        return ws2_vote_frame_link(note[0], &job->vote, note[-1], error);
    if (*note == NULL && (*note = ws2_vote_frame_new()) == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (get_maps(job, record, &maps, error) < 0 ||
        (job->instances && get_instances(record, job->instances, job->layers, &instances, error) < 0))
        return error->status;
    if (ws2_vote_frame_items(*note, &job->vote, &job->scratch[worker], &maps,
                             job->instances ? &instances : NULL, ws2_record_frame(record), error) < 0)
        return blame(job->instances ? job->instances : job->in, error);
    return load_flows(job, record, *note, error);
}

static int work_track(void *context, struct ws2_record *record, void *const *note, int worker,
                      struct ws2_error *error)
{
    const struct job *job = context;
    const struct ws2_vote_frame *window[2 * WS2_VOTE_REACH_MAX + 1] = {0};
    for (int k = -job->vote.reach; k <= job->vote.reach; k++)
        window[WS2_VOTE_REACH_MAX + k] = note[k];
    return vote(job, record, window + WS2_VOTE_REACH_MAX, worker, error);
}

static void forget(void *note)
{
    ws2_vote_frame_free(note);
}

/* ---- options ----------------------------------------------------------------------------------------------- */

/* A mask replaces nothing that is read, nor the result. */
static void check_mask_name(const struct job *job)
{
    const char *const taken[] = {job->in,        job->out,      job->fg ? job->fg : "fg",
                                 job->instances, flow_names[0], flow_names[1]};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (taken[i] && strcmp(job->mask, taken[i]) == 0)
            ws2_die_text(WS2_ERR_USAGE, "--mask: '%s' is the name of another tensor here", job->mask);
}

static void settle(struct job *job)
{
    const struct ws2_vote defaults = ws2_vote_defaults();
    const bool track = job->by == BY_TRACK, share = job->rule == WS2_VOTE_SHARE;
    if (!track && (job->neighbours >= 0 || !isnan(job->vote.agree)))
        ws2_die_text(WS2_ERR_USAGE, "--neighbours and --agree are for --by track");
    if ((!share && !isnan(job->vote.level)) || (job->mask == NULL && !isnan(job->threshold)))
        ws2_die_text(WS2_ERR_USAGE, "--at is for --vote share, --threshold for --mask");
    if (!track && job->instances == NULL)
        job->instances = "instances";
    if (track)
        job->neighbours = job->neighbours < 0 ? defaults.reach : job->neighbours;
    if (track && isnan(job->vote.agree))
        job->vote.agree = defaults.agree;
    if (share)
        job->vote.level = isnan(job->vote.level) ? defaults.level : job->vote.level;
    job->vote.reach = track ? (int)job->neighbours : 0;
    job->vote.rule = (enum ws2_vote_rule)job->rule;
    job->vote.prefer = (enum ws2_vote_prefer)job->prefer;
    job->asked = job->threshold;
    if (job->mask)
        check_mask_name(job);
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "prob", .neighbours = -1, .threshold = NAN};
    static const struct ws2_option options[] = {
        {"by", 0, WS2_OPT_CHOICE, &job.by, "region|track", "what an item is", true, 0, 0},
        {"vote", 0, WS2_OPT_CHOICE, &job.rule, "mean|median|share", "what its pixels say", true, 0, 0},
        {"at", 0, WS2_OPT_REAL, &job.vote.level, "P", "share: of pixels that reach P [0.5]", true, 0, 1},
        {"weight", 0, WS2_OPT_REAL, &job.vote.weight, "X", "of the vote against the pixel", true, 0, 1},
        {"prefer", 0, WS2_OPT_CHOICE, &job.prefer, "even|fine|coarse", "region of a pixel", true, 0, 0},
        {"min-pixels", 0, WS2_OPT_INT, &job.vote.least, "PX", "smaller items do not vote", true, 1, 1e9},
        {"cover", 0, WS2_OPT_REAL, &job.vote.cover, "X", "nor do regions less covered", true, 0, 1},
        {"neighbours", 'k', WS2_OPT_INT, &job.neighbours, "K", "track: frames on each side [2]", true, 0,
         WS2_VOTE_REACH_MAX},
        {"agree", 0, WS2_OPT_REAL, &job.vote.agree, "X", "track: share that must agree [0.7]", true, 0.5, 1},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "probabilities", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "add the result, replace nothing", true, 0, 0},
        {"mask", 0, WS2_OPT_TEXT, &job.mask, "NAME", "write the mask, over one of this name", true, 0, 0},
        {"threshold", 't', WS2_OPT_REAL, &job.threshold, "P", "of the mask [that of ws2-seg]", true, 0, 1},
        {"fg", 0, WS2_OPT_TEXT, &job.fg, "NAME", "what lies on the belt [fg, if there is one]", true, 0, 0},
        {"instances", 0, WS2_OPT_TEXT, &job.instances, "NAME", "[instances; track: parts of fg]", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-vote",
        .operands = "[FILE...]",
        .summary = "let items vote on how unwanted their pixels are",
        .reads = "prob:f16[c,h,w] fg:u8[h,w] instances:u8[n,h,w]|u16[l,h,w] flow.next:f16[2,h,w] "
                 "flow.prev:f16[2,h,w]",
        .adds = "prob:f16[c,h,w]",
        .examples =
            "  ws2-seg -w pu.safetensors b1.fg.ws2 | ws2-sam | ws2-vote --mask mask | ws2-iou --mask mask\n"
            "  ws2-flow b1.prob.ws2 | ws2-vote --by track -k 3 -z 3 -o b1.items.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    job.vote = ws2_vote_defaults();
    job.vote.level = job.vote.agree = NAN;
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    settle(&job);
    job.program = &program;
    job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    const bool track = job.by == BY_TRACK, linked = job.vote.reach > 0;
    const struct ws2_filter filter = {.begin = begin,
                                      .work = work_region,
                                      .context = &job,
                                      .reach = linked ? job.vote.reach : track,
                                      .steps = linked ? 2 : track,
                                      .prepare = prepare,
                                      .work_near = work_track,
                                      .forget = forget};
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++)
        ws2_vote_scratch_free(&job.scratch[i]);
    free(job.scratch);
    return code;
}
