/* ws2-flow: where each pixel goes in the next frame, and where it was in the previous one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "image/image.h"
#include "motion/motion.h"

enum { BELT, DIS, RAFT, FILES };

static struct {
    int method;
    const char *read, *name, *in, *weights;
    bool negate;
} want = {.name = "flow", .in = "rgb"};

static const struct ws2_option options[] = {
    {"method", 0, WS2_OPT_CHOICE, &want.method, "belt|dis|raft|files", "how motion is found", true, 0, 0},
    {"read", 0, WS2_OPT_TEXT, &want.read, "PATH", "take it from .flo or KITTI files; implies --method files",
     false, 0, 0},
    {"compat-neg", 0, WS2_OPT_FLAG, &want.negate, NULL, "to the previous frame: minus that frame's to this",
     true, 0, 0},
    {"name", 0, WS2_OPT_TEXT, &want.name, "NAME", "add NAME.next, NAME.prev and their .valid", true, 0, 0},
    {"in", 0, WS2_OPT_TEXT, &want.in, "NAME", "frames", true, 0, 0},
    {"weights", 'w', WS2_OPT_TEXT, &want.weights, "FILE", "raft: its weights; more options has ws2-raft",
     false, 0, 0},
    {0}};

static const struct ws2_program program = {
    .name = "ws2-flow",
    .operands = "[FILE...]",
    .summary = "find where each pixel goes in the next and was in the previous frame",
    .reads = "rgb:u8[h,w,3]",
    .adds = "flow.next:f16[2,h,w] flow.next.valid:u8[h,w] flow.prev:f16[2,h,w] flow.prev.valid:u8[h,w]",
    .examples = "  ws2-read clip.mp4 | ws2-flow -j 4 | ws2-show -t flow.next\n"
                "  ws2-flow --read flows/video_001 --name flow.truth -o b1.flow.ws2 b1.ws2",
    .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
    .options = options};

/* Tensors of one record: "NAME.next", "NAME.next.valid", ... */
enum { NEXT, PREV, WAYS };
static char tensor[WAYS][200], mask[WAYS][200];

/* What a record leaves for its neighbours, as it is written: half [WAYS + 1][2][height][width] and seen
 * [WAYS + 1][height][width], NEXT from the record before to this one, PREV back, and WAYS what a file says of this
 * one's way to the next. */
struct note {
    struct ws2_flow_frame *frame;
    int width, height;
    size_t pixels; /* that there is memory for */
    uint16_t *half;
    uint8_t *seen;
};

/* Memory of one worker. */
struct worker {
    struct ws2_flow *flow;
    struct ws2_flow_file file;
};

struct job {
    const struct ws2_common *common;
    struct worker *worker;
    struct ws2_flow_files *files;
};

/* ---- notes -------------------------------------------------------------------------------------------------- */

static void forget(void *object)
{
    struct note *note = object;
    ws2_flow_frame_free(note->frame);
    free(note->half);
    free(note->seen);
    free(note);
}

/* The record's note, with memory for its size. */
static struct note *fitted(void **slot, int width, int height, struct ws2_error *error)
{
    struct note *note = *slot = *slot ? *slot : ws2_calloc(1, sizeof *note);
    const size_t pixels = (size_t)width * (size_t)height;
    if (note && note->pixels < pixels) {
        free(note->half);
        free(note->seen);
        note->half = ws2_calloc(pixels, 2 * (WAYS + 1) * sizeof *note->half);
        note->seen = ws2_calloc(pixels, WAYS + 1);
        note->pixels = note->half && note->seen ? pixels : 0;
    }
    if (note == NULL || note->pixels < pixels) {
        ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the flow of %d x %d pixels", width, height);
        return NULL;
    }
    note->width = width;
    note->height = height;
    return note;
}

static uint16_t *half_of(const struct note *note, int way)
{
    return note->half + (size_t)2 * (size_t)way * (size_t)note->width * (size_t)note->height;
}

static uint8_t *seen_of(const struct note *note, int way)
{
    return note->seen + (size_t)way * (size_t)note->width * (size_t)note->height;
}

/* ---- motion of a pair ------------------------------------------------------------------------------------------ */

/* The file of this frame; none at the end of a sequence is fine, its neighbour will ask. */
static int read_file(struct job *job, struct note *note, int64_t frame, int worker, struct ws2_error *error)
{
    struct ws2_flow_file *file = &job->worker[worker].file;
    const char *path = ws2_flow_files_path(job->files, frame);
    const size_t pixels = (size_t)note->width * (size_t)note->height;
    memset(seen_of(note, WAYS), 2, pixels); /* no file */
    if (path == NULL)
        return WS2_OK;
    if (ws2_flow_file_read(file, path, error) < 0)
        return error->status;
    if (file->width != note->width || file->height != note->height)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: flow of %d x %d pixels for a frame of %d x %d", path,
                        file->width, file->height, note->width, note->height);
    ws2_flow_file_tensor(file, half_of(note, WAYS), seen_of(note, WAYS));
    return WS2_OK;
}

/* There and back from what the file of the frame before says. */
static int take_file(const struct note *before, struct note *note, struct ws2_error *error)
{
    const size_t pixels = (size_t)note->width * (size_t)note->height;
    if (seen_of(before, WAYS)[0] == 2)
        return ws2_fail(error, WS2_ERR_INPUT, "there is no flow file of the frame before");
    memcpy(half_of(note, NEXT), half_of(before, WAYS), 2 * pixels * sizeof *note->half);
    memcpy(seen_of(note, NEXT), seen_of(before, WAYS), pixels);
    return WS2_OK;
}

static int estimate(struct job *job, const struct note *before, struct note *note, int worker,
                    struct ws2_error *error)
{
    return ws2_flow_pair(&job->worker[worker].flow, want.method == DIS ? WS2_FLOW_DIS : WS2_FLOW_BELT,
                         before->frame, note->frame, half_of(note, NEXT), seen_of(note, NEXT),
                         half_of(note, PREV), seen_of(note, PREV), error);
}

/* Back is minus there, at the same pixel (POF-CAM's code): right where all moves alike. */
static void negate(struct note *note)
{
    const size_t pixels = (size_t)note->width * (size_t)note->height;
    for (size_t i = 0; i < 2 * pixels; i++)
        half_of(note, PREV)[i] = half_of(note, NEXT)[i] ^ 0x8000;
    memcpy(seen_of(note, PREV), seen_of(note, NEXT), pixels);
}

/* Step 0 looks at the frame, step 1 at the pair with the frame before. */
static int prepare(void *context, int step, struct ws2_record *record, void **note, int worker,
                   struct ws2_error *error)
{
    struct job *job = context;
    struct ws2_tensor rgb;
    if (step == 0) {
        if (ws2_record_want(record, want.in, WS2_U8, 3, &rgb, error) < 0)
            return error->status;
        if (rgb.shape.dim[2] != 3 || rgb.shape.dim[0] < 1 || rgb.shape.dim[1] < 1 ||
            rgb.shape.dim[0] > WS2_FLOW_SIDE_MAX || rgb.shape.dim[1] > WS2_FLOW_SIDE_MAX)
            return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is no frame of at most %d pixels a side",
                            want.in, WS2_FLOW_SIDE_MAX);
        const int height = (int)rgb.shape.dim[0], width = (int)rgb.shape.dim[1];
        struct note *own = fitted(note, width, height, error);
        if (own == NULL)
            return error->status;
        return job->files ? read_file(job, own, ws2_record_frame(record), worker, error)
                          : ws2_flow_frame_make(&own->frame, rgb.data, width, height, error);
    }
    const struct note *before = note[-1];
    struct note *own = note[0];
    if (before == NULL)
        return WS2_OK;
    if (before->width != own->width || before->height != own->height)
        return ws2_fail(error, WS2_ERR_INPUT, "%d x %d pixels, the frame before has %d x %d", own->width,
                        own->height, before->width, before->height);
    const int status = job->files ? take_file(before, own, error) : estimate(job, before, own, worker, error);
    if (status == WS2_OK && (job->files || want.negate))
        negate(own);
    return status;
}

/* ---- records -------------------------------------------------------------------------------------------------------- */

static int add(struct ws2_record *record, const struct note *pair, int way, struct ws2_error *error)
{
    if (pair == NULL)
        return WS2_OK;
    const struct ws2_shape dense = ws2_shape_3(2, pair->height, pair->width);
    const struct ws2_shape plane = ws2_shape_2(pair->height, pair->width);
    const int status = ws2_record_put(record, tensor[way], WS2_F16, &dense, half_of(pair, way), error);
    return status < 0 ? status : ws2_record_put(record, mask[way], WS2_U8, &plane, seen_of(pair, way), error);
}

static int work(void *context, struct ws2_record *record, void *const *note, int worker,
                struct ws2_error *error)
{
    const int status = add(record, note[1], NEXT, error);
    (void)context, (void)worker;
    return status < 0 ? status : add(record, note[-1] ? note[0] : NULL, PREV, error);
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    const struct ws2_tensor_info *rgb = ws2_head_find(in, want.in);
    if (rgb == NULL || rgb->dtype != WS2_U8)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s' of type u8", want.in);
    for (int way = 0; way < WAYS; way++)
        if (ws2_head_add_tensor(out, tensor[way], WS2_F16, "2,h,w", "pixel", error) < 0 ||
            ws2_head_add_tensor(out, mask[way], WS2_U8, "h,w", "0/1", error) < 0)
            return error->status;
    return ws2_cli_history(&program, ((struct job *)context)->common, out, NULL);
}

/* ---- another program -------------------------------------------------------------------------------------------------- */

/* Networks live in a program of their own, so that this one starts in milliseconds: it becomes ws2-raft. */
static _Noreturn void become_raft(const struct ws2_common *common)
{
    char path[4096], threads[16], level[16];
    static const char *const progress[] = {"--progress=auto", "--progress=always", "--progress=never"};
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "ws2-raft");
    char *slash = length > 0 ? (path[length] = '\0', strrchr(path, '/')) : NULL;
    strcpy(slash ? slash + 1 : path, "ws2-raft");
    snprintf(threads, sizeof threads, "%d", common->threads);
    snprintf(level, sizeof level, "%d", common->level);
    const char *const option[] = {"ws2-raft",
                                  progress[common->progress],
                                  "-w",
                                  want.weights,
                                  "--name",
                                  want.name,
                                  "--in",
                                  want.in,
                                  "-o",
                                  common->output,
                                  "-z",
                                  level,
                                  "-j",
                                  threads,
                                  want.negate ? "--compat-neg" : NULL,
                                  common->quiet ? "-q" : NULL,
                                  common->verbose ? "-v" : NULL,
                                  common->force ? "--force" : NULL,
                                  common->check ? "--check" : NULL,
                                  "--"};
    const int options_max = sizeof option / sizeof *option;
    const char **argument =
        ws2_must(ws2_calloc((size_t)(common->operands + options_max + 1), sizeof *argument));
    int n = 0;
    for (int i = 0; i < options_max; i++)
        if (option[i])
            argument[n++] = option[i];
    for (int i = 0; i < common->operands; i++)
        argument[n++] = common->operand[i];
    execvp(path, (char *const *)argument);
    ws2_die_text(WS2_ERR_MODEL, "cannot start %s, which --method raft needs", path);
}

int main(int argc, char **argv)
{
    struct ws2_error error = {0};
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    if (want.read)
        want.method = FILES;
    if (want.method == FILES && want.read == NULL)
        ws2_die_text(WS2_ERR_USAGE, "--method files needs --read PATH");
    if ((want.method == RAFT) != (want.weights != NULL))
        ws2_die_text(WS2_ERR_USAGE, "--method raft and --weights FILE go together");
    if (want.method == RAFT)
        become_raft(&common);
    struct job job = {.common = &common};
    static const char *const way[WAYS] = {"next", "prev"};
    for (int i = 0; i < WAYS; i++) {
        snprintf(tensor[i], sizeof tensor[i], "%.100s.%s", want.name, way[i]);
        snprintf(mask[i], sizeof mask[i], "%.100s.%s.valid", want.name, way[i]);
    }
    if (want.read && ws2_flow_files_open(&job.files, want.read, &error) < 0)
        ws2_die(&error);
    job.worker = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.worker));
    const struct ws2_filter filter = {begin, NULL, NULL, &job, 1, 2, prepare, work, forget};
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++) {
        ws2_flow_free(job.worker[i].flow);
        ws2_flow_file_free(&job.worker[i].file);
    }
    free(job.worker);
    ws2_flow_files_close(job.files);
    return code;
}
