/* ws2-iou: how well masks match the truth, as a table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "score/score.h"

enum { METHOD, SPLIT, THRESHOLD, LABELS };
static const char *const label_names[LABELS] = {"method", "split", "threshold"};

/* One line of the table: everything, one role, or one sequence. */
struct row {
    char *role, *seq;
    char label[LABELS][64];
    struct ws2_score score;
};

struct job {
    const char *mask, *truth;
    bool by_seq, centre, ignore, json, whole;
    double min;
    struct row *row;
    int rows;
    int current[3]; /* rows that the segment being read counts for */
    int currents;
    /* with --centre: the last frame read, which counts only when another one follows */
    bool first;
    int pending; /* 0 none, 1 overlap is there, or a status */
    int64_t pending_frame;
    struct ws2_overlap overlap;
    struct ws2_error pending_error;
};

/* ---- rows -------------------------------------------------------------------------------------------------- */

static int row_find(struct job *job, const char *role, const char *seq)
{
    for (int i = 0; i < job->rows; i++)
        if (strcmp(job->row[i].role, role) == 0 && strcmp(job->row[i].seq, seq) == 0)
            return i;
    struct row *grown = realloc(job->row, ((size_t)job->rows + 1) * sizeof *grown);
    if (grown == NULL)
        return -1;
    job->row = grown;
    struct row *row = &grown[job->rows];
    *row = (struct row){.role = strdup(role), .seq = strdup(seq)};
    if (row->role == NULL || row->seq == NULL)
        return -1;
    return job->rows++;
}

/* What produced the masks, as far as the head knows; "-" where it does not. */
static void read_labels(const struct ws2_head *head, char label[LABELS][64])
{
    for (int i = 0; i < LABELS; i++)
        strcpy(label[i], "-");
    if (head == NULL) /* no program made the masks */
        return;
    const char *split = ws2_head_note(head, "split");
    char rule[64];
    snprintf(label[SPLIT], 64, "%s", split ? split : "-");
    if (!ws2_head_history_option(head, "ws2-cam", "method", label[METHOD], 64))
        strcpy(label[METHOD], "-");
    if (!ws2_head_history_option(head, "ws2-coarse", "rule", rule, sizeof rule))
        strcpy(label[THRESHOLD], "-");
    else if (strcmp(rule, "threshold") != 0 ||
             !ws2_head_history_option(head, "ws2-coarse", "threshold", label[THRESHOLD], 64))
        strcpy(label[THRESHOLD], rule);
}

static void merge_labels(struct row *row, char label[LABELS][64])
{
    for (int i = 0; i < LABELS; i++) {
        if (row->label[i][0] == '\0')
            strcpy(row->label[i], label[i]);
        else if (strcmp(row->label[i], label[i]) != 0)
            strcpy(row->label[i], "mixed");
    }
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

static int begin(void *context, const char *path, const struct ws2_head *head, struct ws2_error *error)
{
    struct job *job = context;
    const char *role = ws2_role_name(ws2_head_role(head)), *const need[] = {job->mask, job->truth};
    char label[LABELS][64];
    (void)path;
    for (int i = job->whole; i < 2; i++)
        if (ws2_head_find(head, need[i]) == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", need[i]);
    job->current[0] = row_find(job, "all", "");
    job->current[1] = row_find(job, role, "");
    job->current[2] = job->by_seq ? row_find(job, role, ws2_head_seq(head)[0] ? ws2_head_seq(head) : "-") : 0;
    job->currents = job->by_seq ? 3 : 2;
    read_labels(job->whole ? NULL : head, label);
    for (int i = 0; i < job->currents; i++) {
        if (job->current[i] < 0)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
        merge_labels(&job->row[job->current[i]], label);
    }
    job->first = true;
    job->pending = 0;
    return 0;
}

static int overlap_read(const struct job *job, struct ws2_record *record, struct ws2_overlap *overlap,
                        struct ws2_error *error)
{
    struct ws2_tensor mask, truth;
    int status = ws2_record_want(record, job->truth, WS2_U8, 2, &truth, error);
    if (status >= 0 && job->whole)
        return ws2_overlap_whole(truth.data, truth.bytes, job->ignore, overlap, error);
    if (status >= 0)
        status = ws2_record_want(record, job->mask, WS2_U8, 2, &mask, error);
    if (status < 0)
        return status;
    if (!ws2_shape_equal(&mask.shape, &truth.shape))
        return ws2_record_misfit(record, job->mask, job->truth, error);
    return ws2_overlap_count(mask.data, truth.data, mask.bytes, job->ignore, overlap, error);
}

static void count(struct job *job, const struct ws2_overlap *overlap)
{
    for (int i = 0; i < job->currents; i++)
        ws2_score_add(&job->row[job->current[i]].score, overlap);
}

static int read_record(void *context, struct ws2_record *record, struct ws2_error *error)
{
    struct job *job = context;
    if (!job->centre) {
        int status = overlap_read(job, record, &job->overlap, error);
        if (status >= 0)
            count(job, &job->overlap);
        return status;
    }
    if (job->pending < 0) {
        /* the frame before this one is no last frame, so its fault counts */
        int64_t pts = ws2_record_pts(record);
        ws2_record_set_frame(record, job->pending_frame, pts);
        *error = job->pending_error;
        return job->pending;
    }
    if (job->pending == 1)
        count(job, &job->overlap);
    if (!job->first) {
        job->pending_error = (struct ws2_error){0};
        job->pending =
            overlap_read(job, record, &job->overlap, &job->pending_error) < 0 ? job->pending_error.status : 1;
        job->pending_frame = ws2_record_frame(record);
    }
    job->first = false;
    return 0;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

enum { NUMBERS = 8 };
static const char *const number_names[NUMBERS] = {"iou",       "pooled",  "precision",     "recall",
                                                  "empty_hit", "fp_area", "fp_area_empty", NULL};

static void numbers(const struct ws2_score *score, double *value)
{
    value[0] = ws2_score_iou(score);
    value[1] = ws2_score_pooled(score);
    value[2] = ws2_score_precision(score);
    value[3] = ws2_score_recall(score);
    value[4] = ws2_score_empty_hit(score);
    value[5] = ws2_score_area(score);
    value[6] = ws2_score_area_empty(score);
}

static void print_tsv(const struct job *job, const struct row *row)
{
    double value[NUMBERS];
    numbers(&row->score, value);
    ws2_cli_field(row->role);
    printf("\t");
    ws2_cli_field(row->seq);
    printf("\t");
    ws2_cli_field(job->whole ? "whole" : job->mask);
    for (int i = 0; i < LABELS; i++) {
        printf("\t");
        ws2_cli_field(row->label[i]);
    }
    printf("\t%lld\t%lld", (long long)row->score.images, (long long)row->score.empty);
    for (int i = 0; number_names[i]; i++) {
        if (isnan(value[i]))
            printf("\t-");
        else
            printf("\t%.2f", 100 * value[i]);
    }
    printf("\n");
}

static void print_json(const struct job *job, const struct row *row)
{
    double value[NUMBERS];
    numbers(&row->score, value);
    printf("{\"role\":");
    ws2_cli_json_text(row->role);
    printf(",\"seq\":");
    if (row->seq[0] == '\0')
        printf("null");
    else
        ws2_cli_json_text(row->seq);
    printf(",\"stage\":");
    ws2_cli_json_text(job->whole ? "whole" : job->mask);
    for (int i = 0; i < LABELS; i++) {
        printf(",\"%s\":", label_names[i]);
        if (strcmp(row->label[i], "-") == 0)
            printf("null");
        else
            ws2_cli_json_text(row->label[i]);
    }
    printf(",\"frames\":%lld,\"empty\":%lld", (long long)row->score.images, (long long)row->score.empty);
    for (int i = 0; number_names[i]; i++) {
        if (isnan(value[i]))
            printf(",\"%s\":null", number_names[i]);
        else
            printf(",\"%s\":%.6f", number_names[i], 100 * value[i]);
    }
    printf("}\n");
}

/* All, then the roles as they came, then the sequences as they came. */
static void print_table(const struct job *job)
{
    if (!job->json) {
        printf("role\tseq\tstage");
        for (int i = 0; i < LABELS; i++)
            printf("\t%s", label_names[i]);
        printf("\tframes\tempty");
        for (int i = 0; number_names[i]; i++)
            printf("\t%s", number_names[i]);
        printf("\n");
    }
    for (int seq = 0; seq < 2; seq++)
        for (int i = 0; i < job->rows; i++)
            if ((job->row[i].seq[0] != '\0') == seq)
                (job->json ? print_json : print_tsv)(job, &job->row[i]);
}

int main(int argc, char **argv)
{
    static struct job job = {.mask = "coarse", .truth = "truth"};
    static const struct ws2_option options[] = {
        {"mask", 0, WS2_OPT_TEXT, &job.mask, "NAME", "masks to score", true, 0, 0},
        {"truth", 0, WS2_OPT_TEXT, &job.truth, "NAME", "masks that are right", true, 0, 0},
        {"by-seq", 0, WS2_OPT_FLAG, &job.by_seq, NULL, "one line more for every sequence", true, 0, 0},
        {"centre", 0, WS2_OPT_FLAG, &job.centre, NULL, "leave out the first and last frame of every sequence",
         true, 0, 0},
        {"ignore", 0, WS2_OPT_FLAG, &job.ignore, NULL, "leave out pixels whose truth is 255", true, 0, 0},
        {"whole", 0, WS2_OPT_FLAG, &job.whole, NULL,
         "score masks of the whole frame: what a blind guess gives", true, 0, 0},
        {"min", 0, WS2_OPT_REAL, &job.min, "X", "exit 1 when the IoU of all frames is below X percent", true,
         0, 100},
        {"json", 0, WS2_OPT_FLAG, &job.json, NULL, "JSON lines instead of a table", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-iou",
        .operands = "[FILE...]",
        .summary = "score masks against the truth: mean and pooled IoU, empty frames, by role",
        .reads = "coarse:u8[h,w] truth:u8[h,w]",
        .examples = "  ws2-iou --by-seq out/*.mask.ws2 | column -t\n"
                    "  ws2-merge b1.truth.ws2 b1.mask.ws2 | ws2-iou --centre --min 30",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_walk walk = {.begin = begin, .record = read_record, .context = &job};
    ws2_cli_walk(&common, &walk);
    if (common.check)
        return ws2_cli_end(NULL, 0);
    if (job.rows == 0 || job.row[0].score.images == 0)
        ws2_die_text(WS2_ERR_INPUT, "no frame to score");
    print_table(&job);
    return ws2_cli_end(NULL, 100 * ws2_score_iou(&job.row[0].score) < job.min ? 1 : 0);
}
