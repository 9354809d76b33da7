/* ws2-bgmask: frames and the belt of their camera -> foreground mask; --apply cuts items or belt out. */
#include <stdlib.h>
#include <string.h>
#include "foreground.h"
#include "image/image.h"

/* Name of the cut frame while the original is still in the record; cannot be in a stream that has it too. */
#define CUT "rgb.cut"

struct job {
    const char *belt, *in, *out;
    int apply, fill;
    struct ws2_apply cut;
    struct foreground_values values;
    enum ws2_role role; /* of the belt */
    int64_t height, width;
    char digest[17];
    struct ws2_foreground *foreground;
    struct ws2_foreground_scratch **scratch; /* one for each worker, made on first use */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

enum { APPLY_NOTHING, APPLY_ITEMS, APPLY_BELT };

/* ---- the belt ----------------------------------------------------------------------------------------------- */

/* A view of one tensor of the belt; h = 0 takes the size from it. */
static float *belt_tensor(struct ws2_record *record, const char *name, int rank, int64_t h, int64_t w,
                          struct ws2_error *error)
{
    struct ws2_tensor tensor;
    if (ws2_record_want(record, name, WS2_F32, rank, &tensor, error) < 0)
        return NULL;
    const int64_t *dim = tensor.shape.dim;
    if ((h != 0 && (dim[0] != h || dim[1] != w)) || (rank == 3 && dim[2] != 3)) {
        char text[96];
        ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, which does not fit the belt", name,
                 ws2_shape_text(&tensor.shape, text, sizeof text));
        return NULL;
    }
    return (float *)tensor.data;
}

static int belt_view(struct job *job, struct ws2_record *record, struct ws2_belt *belt,
                     struct ws2_error *error)
{
    struct ws2_tensor size, saturation;
    if (ws2_record_want(record, "belt.luma", WS2_F32, 2, &size, error) < 0)
        return error->status;
    job->height = belt->height = size.shape.dim[0];
    job->width = belt->width = size.shape.dim[1];
    if (belt->height < 1 || belt->width < 1)
        return ws2_fail(error, WS2_ERR_INPUT, "the belt is empty");
    belt->luma = belt_tensor(record, "belt.luma", 2, belt->height, belt->width, error);
    belt->scale = belt_tensor(record, "belt.scale", 2, belt->height, belt->width, error);
    belt->rgb = belt_tensor(record, "belt.rgb", 3, belt->height, belt->width, error);
    if (error->status == 0 && job->values.params.channels == WS2_CHANNELS_MAX) {
        if (!ws2_record_has(record, "belt.scale.rgb"))
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor 'belt.scale.rgb': made without --channels max");
        belt->rgb_scale = belt_tensor(record, "belt.scale.rgb", 3, belt->height, belt->width, error);
    }
    if (error->status == 0 &&
        ws2_record_want(record, "belt.saturation", WS2_F32, 1, &saturation, error) == 1) {
        if (saturation.shape.dim[0] != 2)
            return ws2_fail(error, WS2_ERR_INPUT, "tensor 'belt.saturation' has not two values");
        memcpy(belt->saturation, saturation.data, sizeof belt->saturation);
    }
    return error->status;
}

/* After the first record there is nothing but a good TAIL. */
static void check_alone(const struct job *job, struct ws2_reader *reader, int got)
{
    struct ws2_record *more = ws2_record_new();
    if (more == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    const bool empty = got == 0;
    if (got == 1)
        got = ws2_reader_next(reader, more);
    if (got == 0)
        got = ws2_reader_next_segment(reader);
    if (got < 0)
        ws2_die(ws2_reader_error(reader));
    if (empty || got == 1)
        ws2_die_text(WS2_ERR_INPUT, "%s: %s", job->belt,
                     empty ? "the stream is empty" : "more than one belt");
    ws2_record_free(more);
}

/* Turns the only record of the file into thresholds; the tensors are not needed after that. */
static void load_belt(struct job *job)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader = ws2_cli_reader(job->common, job->belt);
    struct ws2_record *record = ws2_record_new();
    struct ws2_belt belt = {0};
    if (record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (ws2_head_find(ws2_reader_head(reader), "belt.luma") == NULL)
        ws2_die_text(WS2_ERR_INPUT, "%s: no tensor 'belt.luma': not made by ws2-median", job->belt);
    const int got = ws2_reader_next(reader, record);
    job->role = ws2_head_role(ws2_reader_head(reader));
    check_alone(job, reader, got);
    if (error.status == 0 && belt_view(job, record, &belt, &error) == 0 &&
        ws2_foreground_new(&job->foreground, &belt, &job->values.params, &error) == 0)
        ws2_belt_digest(&belt, job->digest);
    if (error.status != 0) {
        ws2_error_prefix(&error, "%s", job->belt);
        ws2_die(&error);
    }
    ws2_record_free(record);
    ws2_reader_close(reader);
}

/* ---- the filter --------------------------------------------------------------------------------------------- */

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    struct job *job = context;
    const struct ws2_tensor_info *info = ws2_head_want(in, job->in, WS2_U8, error);
    const enum ws2_role role = ws2_head_role(in);
    if (info == NULL)
        return error->status;
    if (role != WS2_ROLE_NONE && job->role != WS2_ROLE_NONE && role != job->role)
        return ws2_fail(error, WS2_ERR_INPUT, "the frames are of the camera '%s', the belt is of '%s'",
                        ws2_role_name(role), ws2_role_name(job->role));
    if (ws2_head_add_tensor(out, "fg", WS2_U8, "h,w", "0/1", error) < 0)
        return error->status;
    if (job->apply != APPLY_NOTHING && job->out != NULL &&
        ws2_head_add_tensor(out, job->out, WS2_U8, "h,w,3", "sRGB 0..255", error) < 0)
        return error->status;
    if (job->apply != APPLY_NOTHING && job->out == NULL && ws2_head_find(in, CUT) != NULL)
        return ws2_fail(error, WS2_ERR_INPUT, "a tensor '" CUT "' is already there");
    return ws2_cli_history(job->program, job->common, out, job->digest);
}

/* Adds the cut frame, under its own name or in place of the original. */
static int cut_frame(const struct job *job, struct ws2_record *record, struct ws2_foreground_scratch *scratch,
                     const struct ws2_tensor *rgb, struct ws2_error *error)
{
    uint8_t *out = ws2_record_add(record, job->out ? job->out : CUT, WS2_U8, &rgb->shape, error);
    if (out == NULL)
        return error->status;
    const int status = ws2_foreground_apply(job->foreground, scratch, &job->cut, rgb->data, out, error);
    if (status != 0 || job->out != NULL)
        return status;
    ws2_record_drop(record, job->in);
    return ws2_record_rename(record, CUT, job->in, error);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    struct job *job = context;
    struct ws2_tensor rgb;
    if (ws2_record_want(record, job->in, WS2_U8, 3, &rgb, error) < 0)
        return error->status;
    const struct ws2_shape shape = ws2_shape_3(job->height, job->width, 3);
    if (!ws2_shape_equal(&rgb.shape, &shape)) {
        char found[96], wanted[96];
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, the belt wants %s", job->in,
                        ws2_shape_text(&rgb.shape, found, sizeof found),
                        ws2_shape_text(&shape, wanted, sizeof wanted));
    }
    if (job->scratch[worker] == NULL)
        job->scratch[worker] = ws2_foreground_scratch_new(job->foreground);
    struct ws2_foreground_scratch *scratch = job->scratch[worker];
    if (scratch == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    const struct ws2_shape plane = ws2_shape_2(job->height, job->width);
    uint8_t *fg = ws2_record_add(record, "fg", WS2_U8, &plane, error);
    if (fg == NULL || ws2_foreground_mask(job->foreground, scratch, rgb.data, fg, error) < 0)
        return error->status;
    return job->apply == APPLY_NOTHING ? 0 : cut_frame(job, record, scratch, &rgb, error);
}

static void finish_options(struct job *job)
{
    if (job->belt == NULL)
        ws2_die_text(WS2_ERR_USAGE, "no belt: name one made by ws2-median with -b FILE");
    if (job->out != NULL && job->apply == APPLY_NOTHING)
        ws2_die_text(WS2_ERR_USAGE, "--out names the frame cut by --apply");
    foreground_finish(&job->values);
    job->cut.what = job->apply == APPLY_BELT ? WS2_APPLY_BELT : WS2_APPLY_ITEMS;
    memcpy(job->cut.fill, ws2_fill_colour[job->fill], sizeof job->cut.fill);
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "rgb", .cut.margin = 5};
    static struct ws2_option options[6 + FOREGROUND_OPTIONS + 1] = {
        {"belt", 'b', WS2_OPT_TEXT, &job.belt, "FILE", "belt of the camera, made by ws2-median", false, 0, 0},
        {"apply", 0, WS2_OPT_CHOICE, &job.apply, "none|items|belt",
         "replace the frames by their items or their bare belt", true, 0, 0},
        {"fill", 0, WS2_OPT_CHOICE, &job.fill, "black|mean", "what the rest is filled with", true, 0, 0},
        {"margin", 0, WS2_OPT_REAL, &job.cut.margin, "R", "belt: how far to stay away from items", true, 0,
         500},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "frames", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "put the cut frames under this name, keep the frames",
         true, 0, 0},
    };
    static const struct ws2_program program = {
        .name = "ws2-bgmask",
        .operands = "[FILE...]",
        .summary = "mark what lies on the belt",
        .reads = "rgb:u8[h,w,3]",
        .adds = "fg:u8[h,w]",
        .examples =
            "  ws2-median -o belt.ws2 before/*.ws2 && ws2-bgmask -b belt.ws2 before/b1.ws2 | ws2-show\n"
            "  ws2-bgmask -b belt.ws2 --apply items -z 3 -o b1.items.ws2 b1.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    foreground_options(options + 6, &job.values);
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    job.program = &program;
    job.common = &common;
    finish_options(&job);
    load_belt(&job);
    job.scratch = ws2_calloc((size_t)common.threads, sizeof *job.scratch);
    if (job.scratch == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    const int code = ws2_cli_filter(&program, &common, &filter);
    for (int i = 0; i < common.threads; i++)
        ws2_foreground_scratch_free(job.scratch[i]);
    free(job.scratch);
    ws2_foreground_free(job.foreground);
    return code;
}
