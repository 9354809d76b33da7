/* ws2-history: which programs made a stream, with what settings. */
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"

struct job {
    bool json;
};

static void print_head(const struct job *job, const char *path, const struct ws2_head *head)
{
    for (int i = 0; i < ws2_head_histories(head); i++) {
        if (job->json) {
            puts(ws2_head_history(head, i));
            continue;
        }
        char *line = ws2_head_history_line(head, i);
        if (line == NULL)
            ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
        ws2_cli_field(path);
        printf("\t");
        ws2_cli_field(ws2_head_seq(head));
        printf("\t%d\t%s\n", i + 1, line);
        free(line);
    }
}

static void check(const struct ws2_reader *reader, int status)
{
    if (status < 0)
        ws2_die(ws2_reader_error(reader));
}

/* A file is asked for the heads of its segments; a pipe has to be read. */
static void print_file(const struct job *job, const struct ws2_common *common, struct ws2_record *record,
                       const char *path)
{
    struct ws2_reader *reader = ws2_cli_reader(common, path);
    int64_t segments = 0, records, first, count;
    int got = 0;
    bool file = ws2_reader_size(reader) >= 0;
    if (common->check) {
        ws2_reader_close(reader);
        return;
    }
    if (file)
        check(reader, ws2_reader_index(reader, &segments, &records));
    for (int64_t k = 0; k < segments; k++) {
        check(reader, ws2_reader_segment(reader, k, &first, &count));
        print_head(job, path, ws2_reader_head(reader));
    }
    while (!file) {
        print_head(job, path, ws2_reader_head(reader));
        while ((got = ws2_reader_next(reader, record)) > 0)
            ;
        check(reader, got);
        got = ws2_reader_next_segment(reader);
        check(reader, got);
        if (got == 0)
            break;
    }
    ws2_reader_close(reader);
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"json", 0, WS2_OPT_FLAG, &job.json, NULL, "the entries as they stand in the file, JSON lines", false,
         0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-history",
        .operands = "[FILE...]",
        .summary = "show which programs made a stream, oldest first",
        .reads = "-",
        .examples = "  ws2-history b1.mask.ws2 | column -t -s \"$(printf '\\t')\"\n"
                    "  ws2-history --json b1.mask.ws2 | jq .program",
        .takes = WS2_TAKES_INPUT,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    struct ws2_record *record = ws2_record_new();
    if (record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (!job.json && !common.check)
        puts("file\tseq\tstep\tprogram\tversion\tseed\tmodel\toptions");
    for (int i = 0; i < (common.operands ? common.operands : 1); i++)
        print_file(&job, &common, record, common.operands ? common.operand[i] : "-");
    ws2_record_free(record);
    return ws2_cli_end(NULL, 0);
}
