/* ws2-cmp: do two streams hold the same tensors? */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "score/score.h"

/* What was found for one tensor name over all frames. */
struct row {
    char name[WS2_NAME_MAX + 1];
    int64_t frames, differing; /* compared; beyond the tolerance */
    double max;
};

struct job {
    const char *keep_text, *drop_text;
    struct ws2_text_list keep, drop;
    double tolerance;
    bool all;
    const char *path[2];
    struct ws2_reader *reader[2];
    struct ws2_record *record[2];
    struct row row[WS2_TENSORS_MAX];
    int rows;
    bool beyond; /* with --all: something was beyond the tolerance */
};

/* The answer is no: says where, and ends. */
static _Noreturn void differ(const struct job *job, const char *format, ...) WS2_PRINTF(2, 3);
static _Noreturn void differ(const struct job *job, const char *format, ...)
{
    va_list args;
    ws2_cli_field(job->path[0]);
    printf(" ");
    ws2_cli_field(job->path[1]);
    printf(" differ: ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    exit(ws2_cli_end(NULL, 1));
}

/* "[3,17]": the index of element `at` of a tensor of this shape. */
static const char *index_text(const struct ws2_shape *shape, size_t at, char *text, size_t size)
{
    struct ws2_shape index = {.rank = shape->rank};
    for (int i = shape->rank - 1; i >= 0; i--) {
        index.dim[i] = (int64_t)(at % (size_t)shape->dim[i]);
        at /= (size_t)shape->dim[i];
    }
    return ws2_shape_text(&index, text, size);
}

static struct row *row_find(struct job *job, const char *name)
{
    for (int i = 0; i < job->rows; i++)
        if (strcmp(job->row[i].name, name) == 0)
            return &job->row[i];
    if (job->rows == WS2_TENSORS_MAX)
        ws2_die_text(WS2_ERR_INPUT, "more than %d names of tensors", WS2_TENSORS_MAX);
    struct row *row = &job->row[job->rows++];
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

/* ---- comparing ------------------------------------------------------------------------------------------------ */

static void compare_values(struct job *job, const struct ws2_tensor *tensor, long long frame)
{
    struct ws2_difference found = ws2_difference_find(tensor[0].dtype, tensor[0].data, tensor[1].data,
                                                      tensor[0].bytes / ws2_dtype_size(tensor[0].dtype));
    struct row *row = row_find(job, tensor[0].name);
    char at[160];
    bool beyond = found.max > job->tolerance;
    row->frames++;
    row->differing += beyond;
    row->max = found.max > row->max ? found.max : row->max;
    job->beyond |= beyond;
    if (beyond && !job->all)
        differ(job, "frame %lld: tensor '%s': largest difference %.9g, first at %s; %lld values differ",
               frame, tensor[0].name, found.max, index_text(&tensor[0].shape, found.at, at, sizeof at),
               (long long)found.differing);
}

static void compare_tensor(struct job *job, const char *name)
{
    struct ws2_tensor tensor[2];
    char shape[2][160];
    long long frame = (long long)ws2_record_frame(job->record[0]);
    for (int side = 0; side < 2; side++) {
        struct ws2_error error = {0};
        int got = ws2_record_get(job->record[side], name, &tensor[side], &error);
        if (got < 0) {
            ws2_error_prefix(&error, "%s: frame %lld", job->path[side], frame);
            ws2_die(&error);
        }
        if (got == 0)
            differ(job, "frame %lld: tensor '%s' is only in the %s", frame, name, side ? "first" : "second");
    }
    if (tensor[0].dtype != tensor[1].dtype || !ws2_shape_equal(&tensor[0].shape, &tensor[1].shape))
        differ(job, "frame %lld: tensor '%s' is %s%s and %s%s", frame, name, ws2_dtype_name(tensor[0].dtype),
               ws2_shape_text(&tensor[0].shape, shape[0], sizeof shape[0]), ws2_dtype_name(tensor[1].dtype),
               ws2_shape_text(&tensor[1].shape, shape[1], sizeof shape[1]));
    compare_values(job, tensor, frame);
}

static void compare_records(struct job *job)
{
    long long frame[2] = {(long long)ws2_record_frame(job->record[0]),
                          (long long)ws2_record_frame(job->record[1])};
    if (frame[0] != frame[1])
        differ(job, "frame %lld against frame %lld", frame[0], frame[1]);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < ws2_record_tensors(job->record[side]); i++) {
            const char *name = ws2_record_name(job->record[side], i);
            bool seen = side == 1 && ws2_record_has(job->record[0], name);
            if (!seen && ws2_cli_chosen(&job->keep, &job->drop, name))
                compare_tensor(job, name);
        }
}

/* Reads on in both; names what one has more of. True while both go on. */
static bool both(struct job *job, int (*next)(struct job *, int side), const char *what)
{
    int got[2];
    for (int side = 0; side < 2; side++) {
        got[side] = next(job, side);
        if (got[side] < 0)
            ws2_die(ws2_reader_error(job->reader[side]));
    }
    if (got[0] != got[1])
        differ(job, "the %s has more %s", got[0] ? "first" : "second", what);
    return got[0];
}

static int next_record(struct job *job, int side)
{
    return ws2_reader_next(job->reader[side], job->record[side]);
}

static int next_segment(struct job *job, int side)
{
    return ws2_reader_next_segment(job->reader[side]);
}

static void check_names(const struct job *job)
{
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < job->keep.count; i++)
            if (ws2_head_find(ws2_reader_head(job->reader[side]), job->keep.item[i]) == NULL)
                ws2_die_text(WS2_ERR_INPUT, "%s: no tensor '%s'", job->path[side], job->keep.item[i]);
}

static void print_rows(const struct job *job)
{
    puts("tensor\tframes\tbeyond\tmax_abs_diff");
    for (int i = 0; i < job->rows; i++)
        printf("%s\t%lld\t%lld\t%.9g\n", job->row[i].name, (long long)job->row[i].frames,
               (long long)job->row[i].differing, job->row[i].max);
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"tolerance", 0, WS2_OPT_REAL, &job.tolerance, "X", "values may differ by X", false, 0, 1e300},
        {"all", 0, WS2_OPT_FLAG, &job.all, NULL, "go on to the end and print a line for each tensor", false,
         0, 0},
        {"keep", 0, WS2_OPT_TEXT, &job.keep_text, "A,B", "only these tensors", false, 0, 0},
        {"drop", 0, WS2_OPT_TEXT, &job.drop_text, "A,B", "all but these tensors", false, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-cmp",
        .operands = "FILE1 FILE2",
        .summary = "compare two streams tensor by tensor; exit 1 when they differ",
        .reads = "-",
        .examples = "  ws2-cmp old.ws2 new.ws2 && echo same\n"
                    "  ws2-cmp --all --tolerance 0.001 --keep cam cpu.ws2 cuda.ws2",
        .takes = WS2_TAKES_INPUT,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    if (common.operands != 2)
        ws2_die_text(WS2_ERR_USAGE, "two files are compared, not %d", common.operands);
    if (strcmp(common.operand[0], "-") == 0 && strcmp(common.operand[1], "-") == 0)
        ws2_die_text(WS2_ERR_USAGE, "standard input cannot be both files");
    job.keep = ws2_cli_names("keep", job.keep_text);
    job.drop = ws2_cli_names("drop", job.drop_text);
    for (int side = 0; side < 2; side++) {
        job.path[side] = common.operand[side];
        job.reader[side] = ws2_cli_reader(&common, job.path[side]);
        job.record[side] = ws2_record_new();
        if (job.record[side] == NULL)
            ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    }
    check_names(&job);
    if (common.check)
        return ws2_cli_end(NULL, 0);
    do {
        while (both(&job, next_record, "frames"))
            compare_records(&job);
    } while (both(&job, next_segment, "segments"));
    if (job.all)
        print_rows(&job);
    for (int side = 0; side < 2; side++) {
        ws2_reader_close(job.reader[side]);
        ws2_record_free(job.record[side]);
    }
    return ws2_cli_end(NULL, job.beyond);
}
