/* ws2-check: is a file whole? Names the bad ones. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

struct job {
    bool quick;
    struct ws2_record *record;
};

/* Decompresses every tensor of the record, which verifies its checksum and size. */
static int check_tensors(struct ws2_record *record, const char *path, struct ws2_error *error)
{
    for (int i = 0; i < ws2_record_tensors(record); i++) {
        struct ws2_tensor tensor;
        int status = ws2_record_get(record, ws2_record_name(record, i), &tensor, error);
        if (status < 0) {
            ws2_error_prefix(error, "%s: frame %lld", path, (long long)ws2_record_frame(record));
            return status;
        }
    }
    return 0;
}

static int check_all(struct job *job, struct ws2_reader *reader, const char *path, struct ws2_error *error)
{
    int got = 1;
    while (got > 0) {
        while ((got = ws2_reader_next(reader, job->record)) > 0) {
            int status = check_tensors(job->record, path, error);
            if (status < 0)
                return status;
        }
        if (got == 0)
            got = ws2_reader_next_segment(reader);
    }
    return got;
}

/* 0 when the file is good, else a status and the reason in error. */
static int check_file(struct job *job, const char *path, struct ws2_error *error)
{
    struct ws2_reader *reader;
    int64_t segments, records;
    int status = ws2_reader_open(&reader, path, error);
    if (status < 0)
        return status;
    if (job->quick && ws2_reader_size(reader) >= 0)
        status = ws2_reader_index(reader, &segments, &records);
    else
        status = check_all(job, reader, path, error);
    if (status < 0 && error->status == 0)
        *error = *ws2_reader_error(reader);
    ws2_reader_close(reader);
    return status;
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"quick", 0, WS2_OPT_FLAG, &job.quick, NULL, "look at HEAD, TAIL and index only", false, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-check",
        .operands = "FILE...",
        .summary = "verify that streams are whole; prints the bad ones and why",
        .reads = "-",
        .examples = "  ws2-check out/*.ws2 && echo all good\n"
                    "  ws2-read clip.mp4 -o clip.tmp && ws2-check --quick clip.tmp && mv clip.tmp clip.ws2",
        .takes = WS2_TAKES_OPERANDS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    int bad = 0, trouble = 0;
    job.record = ws2_record_new();
    if (job.record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (common.operands == 0)
        ws2_die_text(WS2_ERR_USAGE, "no FILE given; - is standard input");
    for (int i = 0; i < common.operands; i++) {
        struct ws2_error error = {0};
        int status = check_file(&job, common.operand[i], &error);
        if (status == WS2_ERR_INPUT || status == WS2_ERR_TRUNCATED) {
            ws2_cli_field(error.text);
            printf("\n");
            bad++;
        } else if (status < 0) {
            ws2_complain(&error);
            trouble = status;
        }
    }
    ws2_record_free(job.record);
    return ws2_cli_end(NULL, trouble < 0 ? -trouble : bad > 0);
}
