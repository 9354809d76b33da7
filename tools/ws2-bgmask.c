/* ws2-bgmask: frames and the belt of their camera -> foreground mask; --apply cuts items or belt out, or evens light. */
#include <stdlib.h>
#include <string.h>
#include "belt.h"
#include "foreground.h"
#include "image/image.h"

/* Name of the new frame while the original is still in the record; cannot be in a stream that has it too. */
#define CUT "rgb.cut"

struct job {
    const char *belt, *in, *out;
    int apply, fill;
    struct ws2_apply cut;
    struct ws2_flat_params even;
    struct foreground_values values;
    enum ws2_role role; /* of the belt */
    int64_t height, width;
    char digest[17];
    struct ws2_foreground *foreground;
    struct ws2_flat *flat;                   /* of --apply flat */
    struct ws2_foreground_scratch **scratch; /* one for each worker, made on first use */
    const struct ws2_program *program;
    const struct ws2_common *common;
};

enum { APPLY_NOTHING, APPLY_ITEMS, APPLY_BELT, APPLY_FLAT };

/* ---- the belt ----------------------------------------------------------------------------------------------- */

/* Turns the belt into thresholds, and gains where they are asked for; it is not needed after that. */
static void load_belt(struct job *job)
{
    const struct ws2_foreground_params *params = &job->values.params;
    struct ws2_error error = {0};
    struct belt_file file;
    belt_open(&file, job->common, job->belt, params->channels == WS2_CHANNELS_MAX);
    job->role = file.role;
    job->height = file.belt.height;
    job->width = file.belt.width;
    memcpy(job->digest, file.digest, sizeof job->digest);
    belt_must(&file, ws2_foreground_new(&job->foreground, &file.belt, params, &error), &error);
    if (job->apply == APPLY_FLAT)
        belt_must(&file, ws2_flat_new(&job->flat, &file.belt, &job->even, &error), &error);
    belt_close(&file);
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

/* Adds the new frame, under its own name or in place of the original. */
static int apply(const struct job *job, struct ws2_record *record, struct ws2_foreground_scratch *scratch,
                 const struct ws2_tensor *rgb, struct ws2_error *error)
{
    uint8_t *out = ws2_record_add(record, job->out ? job->out : CUT, WS2_U8, &rgb->shape, error);
    if (out == NULL)
        return error->status;
    const int status = job->flat
                           ? ws2_flat_apply(job->flat, job->height, job->width, rgb->data, out, error)
                           : ws2_foreground_apply(job->foreground, scratch, &job->cut, rgb->data, out, error);
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
    return job->apply == APPLY_NOTHING ? 0 : apply(job, record, scratch, &rgb, error);
}

static void finish_options(struct job *job)
{
    if (job->belt == NULL)
        ws2_die_text(WS2_ERR_USAGE, "no belt: name one made by ws2-median with -b FILE");
    if (job->out != NULL && job->apply == APPLY_NOTHING)
        ws2_die_text(WS2_ERR_USAGE, "--out names the frame made by --apply");
    foreground_finish(&job->values);
    job->cut.what = job->apply == APPLY_BELT ? WS2_APPLY_BELT : WS2_APPLY_ITEMS;
    memcpy(job->cut.fill, ws2_fill_colour[job->fill], sizeof job->cut.fill);
}

int main(int argc, char **argv)
{
    static struct job job = {.in = "rgb", .cut.margin = 5};
    static struct ws2_option options[8 + FOREGROUND_OPTIONS + 1] = {
        {"belt", 'b', WS2_OPT_TEXT, &job.belt, "FILE", "belt of the camera, made by ws2-median", false, 0, 0},
        {"apply", 0, WS2_OPT_CHOICE, &job.apply, "none|items|belt|flat",
         "replace the frames by their items, their bare belt, or evenly lit ones", true, 0, 0},
        {"fill", 0, WS2_OPT_CHOICE, &job.fill, "black|mean", "what the rest is filled with", true, 0, 0},
        {"margin", 0, WS2_OPT_REAL, &job.cut.margin, "R", "belt: how far to stay away from items", true, 0,
         500},
        {"flat-sigma", 0, WS2_OPT_REAL, &job.even.sigma, "S", "flat: the belt is smoothed by S of the height",
         true, 0, 1000},
        {"flat-level", 0, WS2_OPT_REAL, &job.even.level, "L", "flat: grey level of the belt afterwards", true,
         1, 255},
        {"in", 0, WS2_OPT_TEXT, &job.in, "NAME", "frames", true, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "put the new frames under this name, keep the frames",
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
    job.even = ws2_flat_defaults();
    foreground_options(options + 8, &job.values);
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
    ws2_flat_free(job.flat);
    return code;
}
