/* ws2-epe: how well a flow matches the true one, as a table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "score/score.h"

/* Everything, or one sequence. */
struct row {
    char *role, *seq;
    struct ws2_epe epe;
};

struct job {
    const char *flow, *truth, *valid, *known;
    char visible[WS2_NAME_MAX + sizeof ".valid"]; /* the truth's own mask */
    bool by_seq;
    struct row *row; /* the first one is of everything */
    int rows, current;
    int64_t frames;
};

/* ---- rows -------------------------------------------------------------------------------------------------- */

/* The row of this name, which is made when it is not there; -1 when out of memory. */
static int row_find(struct job *job, const char *role, const char *seq)
{
    for (int i = 0; i < job->rows; i++)
        if (strcmp(job->row[i].role, role) == 0 && strcmp(job->row[i].seq, seq) == 0)
            return i;
    struct row *grown = realloc(job->row, ((size_t)job->rows + 1) * sizeof *grown);
    if (grown == NULL)
        return -1;
    job->row = grown;
    grown[job->rows] = (struct row){.role = strdup(role), .seq = strdup(seq)};
    return grown[job->rows].role && grown[job->rows].seq ? job->rows++ : -1;
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

static int begin(void *context, const char *path, const struct ws2_head *head, struct ws2_error *error)
{
    struct job *job = context;
    const char *const need[] = {job->flow, job->truth, job->valid, job->known};
    (void)path;
    for (int i = 0; i < 4; i++)
        if (need[i] && ws2_head_find(head, need[i]) == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", need[i]);
    const int all = row_find(job, "all", "");
    job->current = job->by_seq ? row_find(job, ws2_role_name(ws2_head_role(head)),
                                          ws2_head_seq(head)[0] ? ws2_head_seq(head) : "-")
                               : all;
    return all < 0 || job->current < 0 ? ws2_fail(error, WS2_ERR_SYSTEM, "out of memory") : 0;
}

/* A flow f16 or f32 [2,h,w]. */
static int get_flow(struct ws2_record *record, const char *name, struct ws2_tensor *flow,
                    struct ws2_error *error)
{
    char text[96];
    const int found = ws2_record_get(record, name, flow, error);
    if (found < 0)
        return found;
    if (found == 0)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s', but there is a truth", name);
    if ((flow->dtype != WS2_F16 && flow->dtype != WS2_F32) || flow->shape.rank != 3 ||
        flow->shape.dim[0] != 2)
        return ws2_fail(error, WS2_ERR_INPUT, "'%s', %s %s, is no flow f16 or f32 [2,h,w]", name,
                        ws2_dtype_name(flow->dtype), ws2_shape_text(&flow->shape, text, sizeof text));
    return 0;
}

/* *mask: u8 [h,w] of the size of the frame, or NULL where there is no such tensor and none is needed. */
static int get_mask(struct ws2_record *record, const char *name, bool needed,
                    const struct ws2_epe_frame *frame, const uint8_t **mask, struct ws2_error *error)
{
    struct ws2_tensor tensor;
    char text[96];
    if (name == NULL || (!needed && !ws2_record_has(record, name)))
        return 0;
    const int status = ws2_record_want(record, name, WS2_U8, 2, &tensor, error);
    if (status < 0)
        return status;
    if (tensor.shape.dim[0] != frame->height || tensor.shape.dim[1] != frame->width)
        return ws2_fail(error, WS2_ERR_INPUT, "'%s' is %s, the flow [2,%lld,%lld]", name,
                        ws2_shape_text(&tensor.shape, text, sizeof text), (long long)frame->height,
                        (long long)frame->width);
    *mask = tensor.data;
    return 0;
}

static int get_frame(const struct job *job, struct ws2_record *record, struct ws2_epe_frame *frame,
                     struct ws2_error *error)
{
    struct ws2_tensor flow, truth;
    if (get_flow(record, job->truth, &truth, error) < 0 || get_flow(record, job->flow, &flow, error) < 0)
        return error->status;
    if (!ws2_shape_equal(&flow.shape, &truth.shape))
        return ws2_record_misfit(record, job->flow, job->truth, error);
    *frame = (struct ws2_epe_frame){.height = truth.shape.dim[1],
                                    .width = truth.shape.dim[2],
                                    .estimate_dtype = flow.dtype,
                                    .truth_dtype = truth.dtype,
                                    .estimate = flow.data,
                                    .truth = truth.data};
    int status = get_mask(record, job->valid, true, frame, &frame->valid, error);
    if (status == 0)
        status = get_mask(record, job->known, true, frame, &frame->known, error);
    if (status == 0)
        status = get_mask(record, job->visible, false, frame, &frame->visible, error);
    return status < 0 ? status : get_mask(record, "class", false, frame, &frame->kind, error);
}

static int read_record(void *context, struct ws2_record *record, struct ws2_error *error)
{
    struct job *job = context;
    struct ws2_epe_frame frame;
    struct ws2_epe epe;
    if (!ws2_record_has(record, job->truth)) /* the last frame has no flow to the next */
        return 0;
    if (get_frame(job, record, &frame, error) < 0 || ws2_epe_measure(&frame, &epe, error) < 0)
        return error->status;
    ws2_epe_add(&job->row[0].epe, &epe);
    if (job->current > 0)
        ws2_epe_add(&job->row[job->current].epe, &epe);
    job->frames++;
    return 0;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static void print_number(double value, int digits)
{
    if (isnan(value))
        printf("\t-");
    else
        printf("\t%.*f", digits, value);
}

static void print_class(const struct row *row, enum ws2_epe_class class)
{
    const struct ws2_epe_sum *sum = &row->epe.sum[class];
    ws2_cli_field(row->role);
    printf("\t");
    ws2_cli_field(row->seq);
    printf("\t%s\t%lld", ws2_epe_class_name(class), (long long)sum->pixels);
    print_number(ws2_epe_mean(sum), 4);
    print_number(100 * ws2_epe_share(sum, sum->outliers), 2);
    print_number(100 * ws2_epe_share(sum, sum->above1), 2);
    print_number(100 * ws2_epe_share(sum, sum->above5), 2);
    print_number(100 * ws2_epe_density(sum), 2);
    printf("\n");
}

/* Classes that no frame of the row can tell are left out. */
static void print_table(const struct job *job)
{
    printf("role\tseq\tclass\tpixels\tepe\toutliers\tabove1\tabove5\tvalid\n");
    for (int i = 0; i < job->rows; i++)
        for (int class = 0; class < WS2_EPE_CLASSES; class ++)
            if (job->row[i].epe.sum[class].frames > 0)
                print_class(&job->row[i], (enum ws2_epe_class) class);
}

int main(int argc, char **argv)
{
    static struct job job = {.flow = "flow.next", .truth = "flow.truth.next"};
    static const struct ws2_option options[] = {
        {"flow", 0, WS2_OPT_TEXT, &job.flow, "NAME", "flow to score", true, 0, 0},
        {"truth", 0, WS2_OPT_TEXT, &job.truth, "NAME", "flow that is right", true, 0, 0},
        {"valid", 0, WS2_OPT_TEXT, &job.valid, "NAME", "mask: score only where it is 1", true, 0, 0},
        {"known", 0, WS2_OPT_TEXT, &job.known, "NAME", "mask: where there is a truth", true, 0, 0},
        {"by-seq", 0, WS2_OPT_FLAG, &job.by_seq, NULL, "the same lines for every sequence", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-epe",
        .operands = "[FILE...]",
        .summary = "score flow against the truth: end-point error by kind of pixel",
        .reads = "flow.next:f16[2,h,w] flow.truth.next:f16[2,h,w]",
        .examples = "  ws2-merge b1.truth.ws2 b1.flow.ws2 | ws2-epe | column -t\n"
                    "  ws2-epe --by-seq --valid flow.next.valid out/*.flow.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_walk walk = {.begin = begin, .record = read_record, .context = &job};
    snprintf(job.visible, sizeof job.visible, "%.*s.valid", WS2_NAME_MAX, job.truth);
    ws2_cli_walk(&common, &walk);
    if (common.check)
        return ws2_cli_end(NULL, 0);
    if (job.frames == 0)
        ws2_die_text(WS2_ERR_INPUT, "no frame to score");
    print_table(&job);
    return ws2_cli_end(NULL, 0);
}
