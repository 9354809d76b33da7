/* ws2-ls: what is in a stream, one line for each segment or record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

/* One segment of the file being listed. */
struct row {
    struct ws2_head *head;
    int64_t frames, first, last;
    size_t bytes[WS2_TENSORS_MAX]; /* raw size of each tensor of the head in the first record that has it */
};

struct job {
    bool records;
    struct row *row;
    int rows, capacity;
    struct ws2_record *record;
};

static struct row *row_add(struct job *job, const struct ws2_head *head)
{
    if (job->rows == job->capacity) {
        job->capacity = job->capacity ? 2 * job->capacity : 8;
        job->row = realloc(job->row, (size_t)job->capacity * sizeof *job->row);
    }
    struct ws2_head *copy = job->row ? ws2_head_copy(head) : NULL;
    if (copy == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    struct row *row = &job->row[job->rows++];
    *row = (struct row){.head = copy, .first = -1, .last = -1};
    return row;
}

/* Takes note of a record of the row's segment. */
static void row_see(struct row *row, const struct ws2_record *record)
{
    struct ws2_tensor tensor;
    row->last = ws2_record_frame(record);
    if (row->first < 0)
        row->first = row->last;
    for (int i = 0; i < ws2_head_tensors(row->head); i++)
        if (row->bytes[i] == 0 && ws2_record_peek(record, ws2_head_tensor(row->head, i)->name, &tensor) > 0)
            row->bytes[i] = tensor.bytes;
}

static void check(const struct ws2_reader *reader, int status)
{
    if (status < 0)
        ws2_die(ws2_reader_error(reader));
}

/* ---- printing ------------------------------------------------------------------------------------------------ */

static void print_record(const char *path, const struct ws2_head *head, const struct ws2_record *record)
{
    char shape[160];
    ws2_cli_field(path);
    printf("\t");
    ws2_cli_field(ws2_head_seq(head));
    printf("\t%lld\t%lld\t", (long long)ws2_record_frame(record), (long long)ws2_record_pts(record));
    for (int i = 0; i < ws2_record_tensors(record); i++) {
        const char *name = ws2_record_name(record, i);
        struct ws2_tensor tensor;
        ws2_record_peek(record, name, &tensor);
        printf("%s%s:%s%s:%zu", i > 0 ? " " : "", name, ws2_dtype_name(tensor.dtype),
               ws2_shape_text(&tensor.shape, shape, sizeof shape), tensor.bytes);
    }
    printf("%s\n", ws2_record_tensors(record) > 0 ? "" : "-");
}

static void print_row(const char *path, const struct row *row, int number, int rows)
{
    int64_t width, height, num, den;
    ws2_head_size(row->head, &width, &height);
    ws2_head_rate(row->head, &num, &den);
    ws2_cli_field(path);
    printf("\t%d/%d\t", number, rows);
    ws2_cli_field(ws2_head_seq(row->head));
    printf("\t%s\t", ws2_role_name(ws2_head_role(row->head)));
    if (width > 0)
        printf("%lldx%lld\t", (long long)width, (long long)height);
    else
        printf("-\t");
    if (num > 0)
        printf("%lld/%lld\t", (long long)num, (long long)den);
    else
        printf("-\t");
    printf("%lld\t", (long long)row->frames);
    if (row->first >= 0)
        printf("%lld\t%lld\t", (long long)row->first, (long long)row->last);
    else
        printf("-\t-\t");
    for (int i = 0; i < ws2_head_tensors(row->head); i++) {
        const struct ws2_tensor_info *info = ws2_head_tensor(row->head, i);
        printf("%s%s:%s[", i > 0 ? " " : "", info->name, ws2_dtype_name(info->dtype));
        if (info->axes[0] != '\0')
            ws2_cli_field(info->axes);
        printf("]:%zu", row->bytes[i]);
    }
    printf("%s\n", ws2_head_tensors(row->head) > 0 ? "" : "-");
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

/* Reads everything: a pipe, or when every record is wanted. */
static void list_forward(struct job *job, struct ws2_reader *reader, const char *path)
{
    int got = 1;
    while (got > 0) {
        struct row *row = row_add(job, ws2_reader_head(reader));
        while ((got = ws2_reader_next(reader, job->record)) > 0) {
            row_see(row, job->record);
            row->frames++;
            if (job->records)
                print_record(path, row->head, job->record);
        }
        check(reader, got);
        got = ws2_reader_next_segment(reader);
        check(reader, got);
    }
}

/* Reads the first and last record of each segment only. */
static void list_index(struct job *job, struct ws2_reader *reader)
{
    int64_t segments, records, first, count;
    check(reader, ws2_reader_index(reader, &segments, &records));
    for (int64_t k = 0; k < segments; k++) {
        check(reader, ws2_reader_segment(reader, k, &first, &count));
        struct row *row = row_add(job, ws2_reader_head(reader));
        row->frames = count;
        for (int end = 0; end < 2 && end < count; end++) {
            check(reader, ws2_reader_at(reader, end ? first + count - 1 : first, job->record));
            row_see(row, job->record);
        }
    }
}

static void list(struct job *job, const struct ws2_common *common, const char *path)
{
    struct ws2_reader *reader = ws2_cli_reader(common, path);
    job->rows = 0;
    if (common->check) {
        ws2_reader_close(reader);
        return;
    }
    if (job->records || ws2_reader_size(reader) < 0)
        list_forward(job, reader, path);
    else
        list_index(job, reader);
    for (int i = 0; i < job->rows; i++) {
        if (!job->records)
            print_row(path, &job->row[i], i + 1, job->rows);
        ws2_head_free(job->row[i].head);
    }
    ws2_reader_close(reader);
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"long", 'l', WS2_OPT_FLAG, &job.records, NULL, "one line for each record", false, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-ls",
        .operands = "[FILE...]",
        .summary = "list the contents of streams",
        .reads = "-",
        .examples = "  ws2-ls out/*.ws2 | column -t\n"
                    "  ws2-ls -l b1.ws2 | head",
        .takes = WS2_TAKES_INPUT,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    job.record = ws2_record_new();
    if (job.record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    bool header = true;
    for (int i = 0; i < (common.operands ? common.operands : 1); i++) {
        if (header && !common.check)
            fputs(job.records ? "file\tseq\tframe\tpts\ttensors\n"
                              : "file\tsegment\tseq\trole\tsize\trate\tframes\tfirst\tlast\ttensors\n",
                  stdout);
        header = false;
        list(&job, &common, common.operands ? common.operand[i] : "-");
    }
    free(job.row);
    ws2_record_free(job.record);
    return ws2_cli_end(NULL, 0);
}
