/* ws2-stat: minimum, maximum, mean, deviation and share of nonzero values of tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "score/score.h"

/* One line of the table: a tensor of all inputs, of a sequence, or of a frame. */
struct row {
    char name[WS2_NAME_MAX + 1];
    enum ws2_dtype dtype;
    int64_t frames;
    struct ws2_stats stats;
};

struct job {
    const char *keep_text;
    struct ws2_text_list keep;
    bool by_seq, by_frame;
    struct row *row; /* the lines that are still growing */
    int rows, capacity;
    char *seq;
    const char *role;
};

static struct row *row_find(struct job *job, const struct ws2_tensor *tensor)
{
    for (int i = 0; i < job->rows; i++)
        if (strcmp(job->row[i].name, tensor->name) == 0 && job->row[i].dtype == tensor->dtype)
            return &job->row[i];
    if (job->rows == job->capacity) {
        int capacity = job->capacity ? 2 * job->capacity : 16;
        struct row *grown = realloc(job->row, (size_t)capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        job->row = grown;
        job->capacity = capacity;
    }
    struct row *row = &job->row[job->rows++];
    *row = (struct row){.dtype = tensor->dtype};
    snprintf(row->name, sizeof row->name, "%s", tensor->name);
    return row;
}

/* Prints the lines gathered and starts new ones. */
static void flush_rows(struct job *job, int64_t frame)
{
    for (int i = 0; i < job->rows; i++) {
        const struct row *row = &job->row[i];
        const struct ws2_stats *s = &row->stats;
        ws2_cli_field(job->seq ? job->seq : "");
        printf("\t%s\t", job->role ? job->role : "-");
        if (frame >= 0)
            printf("%lld\t", (long long)frame);
        else
            printf("-\t");
        printf("%s\t%s\t%lld\t%lld\t", row->name, ws2_dtype_name(row->dtype), (long long)row->frames,
               (long long)s->count);
        if (s->count > 0)
            printf("%.9g\t%.9g\t%.9g\t%.9g\t%.6f\t", s->min, s->max, s->mean, ws2_stats_deviation(s),
                   (double)s->nonzero / (double)s->count);
        else
            printf("-\t-\t-\t-\t-\t");
        printf("%lld\n", (long long)s->strange);
    }
    job->rows = 0;
}

static int begin(void *context, const char *path, const struct ws2_head *head, struct ws2_error *error)
{
    struct job *job = context;
    (void)path;
    for (int i = 0; i < job->keep.count; i++)
        if (ws2_head_find(head, job->keep.item[i]) == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", job->keep.item[i]);
    if (!job->by_seq && !job->by_frame)
        return 0;
    free(job->seq);
    job->seq = strdup(ws2_head_seq(head));
    job->role = ws2_role_name(ws2_head_role(head));
    return job->seq ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

static int read_record(void *context, struct ws2_record *record, struct ws2_error *error)
{
    struct job *job = context;
    for (int i = 0; i < ws2_record_tensors(record); i++) {
        const char *name = ws2_record_name(record, i);
        struct ws2_tensor tensor;
        if (!ws2_cli_chosen(&job->keep, &(struct ws2_text_list){0}, name))
            continue;
        int status = ws2_record_get(record, name, &tensor, error);
        if (status < 0)
            return status;
        struct row *row = row_find(job, &tensor);
        if (row == NULL)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
        ws2_stats_add(&row->stats, tensor.dtype, tensor.data, tensor.bytes / ws2_dtype_size(tensor.dtype));
        row->frames++;
    }
    if (job->by_frame)
        flush_rows(job, ws2_record_frame(record));
    return 0;
}

static int end(void *context, struct ws2_error *error)
{
    struct job *job = context;
    (void)error;
    if (job->by_seq)
        flush_rows(job, -1);
    return 0;
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"keep", 0, WS2_OPT_TEXT, &job.keep_text, "A,B", "only these tensors", false, 0, 0},
        {"by-seq", 0, WS2_OPT_FLAG, &job.by_seq, NULL, "one line for each tensor of each segment", false, 0,
         0},
        {"by-frame", 0, WS2_OPT_FLAG, &job.by_frame, NULL, "one line for each tensor of each frame", false, 0,
         0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-stat",
        .operands = "[FILE...]",
        .summary = "print minimum, maximum, mean, deviation and share of nonzero values of tensors",
        .reads = "-",
        .examples = "  ws2-stat b1.cam.ws2\n"
                    "  ws2-stat --keep fg --by-frame b1.fg.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_walk walk = {.begin = begin, .record = read_record, .end = end, .context = &job};
    if (job.by_seq && job.by_frame)
        ws2_die_text(WS2_ERR_USAGE, "--by-seq and --by-frame exclude each other");
    job.keep = ws2_cli_names("keep", job.keep_text);
    if (!common.check)
        puts("seq\trole\tframe\ttensor\tdtype\tframes\tcount\tmin\tmax\tmean\tstd\tnonzero\tstrange");
    ws2_cli_walk(&common, &walk);
    flush_rows(&job, -1);
    free(job.row);
    free(job.seq);
    return ws2_cli_end(NULL, 0);
}
