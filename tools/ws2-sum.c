/* ws2-sum: a hash of what streams say, whatever their compression. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

/* The sum of a whole file, or of one tensor of it. */
struct part {
    char name[WS2_NAME_MAX + 1];
    struct ws2_sum *sum;
};

struct job {
    bool by_tensor;
    struct part part[WS2_TENSORS_MAX];
    int parts;
    struct ws2_record *record;
};

static struct ws2_sum *part_find(struct job *job, const char *name)
{
    for (int i = 0; i < job->parts; i++)
        if (strcmp(job->part[i].name, name) == 0)
            return job->part[i].sum;
    if (job->parts == WS2_TENSORS_MAX)
        ws2_die_text(WS2_ERR_INPUT, "more than %d names of tensors in one file", WS2_TENSORS_MAX);
    struct part *part = &job->part[job->parts++];
    snprintf(part->name, sizeof part->name, "%s", name);
    part->sum = ws2_sum_new();
    if (part->sum == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    return part->sum;
}

static int sum_record(struct job *job, struct ws2_error *error)
{
    if (!job->by_tensor)
        return ws2_sum_record(part_find(job, ""), job->record, error);
    for (int i = 0; i < ws2_record_tensors(job->record); i++) {
        const char *name = ws2_record_name(job->record, i);
        int status = ws2_sum_tensor(part_find(job, name), job->record, name, error);
        if (status < 0)
            return status;
    }
    return 0;
}

static int sum_segment(struct job *job, struct ws2_reader *reader, const char *path, struct ws2_error *error)
{
    const struct ws2_head *head = ws2_reader_head(reader);
    int got;
    if (!job->by_tensor)
        ws2_sum_head(part_find(job, ""), head);
    for (int i = 0; job->by_tensor && i < ws2_head_tensors(head); i++)
        part_find(job, ws2_head_tensor(head, i)->name);
    while ((got = ws2_reader_next(reader, job->record)) > 0) {
        int status = sum_record(job, error);
        if (status < 0) {
            ws2_error_prefix(error, "%s: frame %lld", path, (long long)ws2_record_frame(job->record));
            return status;
        }
    }
    return got;
}

static void sum_file(struct job *job, const struct ws2_common *common, const char *path)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader = ws2_cli_reader(common, path);
    int got = common->check ? 0 : 1;
    while (got > 0) {
        got = sum_segment(job, reader, path, &error);
        if (got == 0)
            got = ws2_reader_next_segment(reader);
    }
    if (got < 0)
        ws2_die(error.status < 0 ? &error : ws2_reader_error(reader));
    ws2_reader_close(reader);
    for (int i = 0; i < job->parts; i++) {
        char text[WS2_SUM_TEXT];
        printf("%s  ", ws2_sum_text(job->part[i].sum, text));
        if (job->by_tensor)
            printf("%s  ", job->part[i].name);
        ws2_cli_field(path);
        printf("\n");
        ws2_sum_free(job->part[i].sum);
    }
    job->parts = 0;
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"by-tensor", 0, WS2_OPT_FLAG, &job.by_tensor, NULL, "one line for each tensor", false, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-sum",
        .operands = "[FILE...]",
        .summary = "hash the content of streams, whatever their compression and history",
        .reads = "-",
        .examples = "  ws2-sum a.ws2 b.ws2\n"
                    "  ws2-sum --by-tensor out/b1.ws2",
        .takes = WS2_TAKES_INPUT,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    job.record = ws2_record_new();
    if (job.record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    for (int i = 0; i < (common.operands ? common.operands : 1); i++)
        sum_file(&job, &common, common.operands ? common.operand[i] : "-");
    ws2_record_free(job.record);
    return ws2_cli_end(NULL, 0);
}
