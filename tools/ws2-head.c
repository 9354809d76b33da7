/* ws2-head: the first records of a stream. */
#include "cli/cli.h"

struct job {
    int64_t count;
    bool drain;
    const struct ws2_program *program;
    const struct ws2_common *common;
    struct ws2_writer *writer;
    struct ws2_record *record;
    int64_t written; /* of the input being read */
};

static void check(const struct ws2_error *error, int status)
{
    if (status < 0)
        ws2_die(error);
}

/* Copies what is still wanted of one segment; with --drain reads the rest too. */
static void copy_segment(struct job *job, struct ws2_reader *reader, bool first)
{
    bool writing = first || job->written < job->count;
    if (writing) {
        struct ws2_head *head = ws2_head_copy(ws2_reader_head(reader));
        if (head == NULL || ws2_cli_history(job->program, job->common, head, NULL) < 0)
            ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
        check(ws2_writer_error(job->writer), ws2_writer_begin(job->writer, head));
        ws2_head_free(head);
    }
    while (job->written < job->count || job->drain) {
        int got = ws2_reader_next(reader, job->record);
        check(ws2_reader_error(reader), got);
        if (got == 0)
            break;
        if (job->written >= job->count)
            continue;
        check(ws2_writer_error(job->writer), ws2_writer_put(job->writer, job->record));
        job->written++;
    }
    if (writing)
        check(ws2_writer_error(job->writer), ws2_writer_end(job->writer));
}

static void copy_input(struct job *job, const char *path)
{
    struct ws2_reader *reader = ws2_cli_reader(job->common, path);
    job->written = 0;
    for (bool first = true;; first = false) {
        copy_segment(job, reader, first);
        if (job->written >= job->count && !job->drain)
            break;
        int more = ws2_reader_next_segment(reader);
        check(ws2_reader_error(reader), more);
        if (more == 0)
            break;
    }
    ws2_reader_close(reader);
}

int main(int argc, char **argv)
{
    static struct job job = {.count = 10};
    static const struct ws2_option options[] = {
        {"records", 'n', WS2_OPT_INT, &job.count, "N", "number of records of each file", true, 0, 1e15},
        {"drain", 0, WS2_OPT_FLAG, &job.drain, NULL, "read the rest too, so that the producer ends well",
         false, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-head",
        .operands = "[FILE...]",
        .summary = "copy the first records of a stream",
        .reads = "-",
        .adds = "-",
        .examples = "  ws2-head -n 1 b1.ws2 | ws2-show | chafa\n"
                    "  ws2-read clip.mp4 | ws2-head -n 100 --drain -o first.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const char *const standard_input = "-";
    const char *const *path = common.operands ? common.operand : &standard_input;
    job.program = &program;
    job.common = &common;
    job.record = ws2_record_new();
    if (job.record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (common.check) {
        for (int i = 0; i < (common.operands ? common.operands : 1); i++)
            ws2_reader_close(ws2_cli_reader(&common, path[i]));
    } else {
        job.writer = ws2_cli_writer(&common);
        for (int i = 0; i < (common.operands ? common.operands : 1); i++)
            copy_input(&job, path[i]);
    }
    ws2_record_free(job.record);
    return ws2_cli_end(job.writer, 0);
}
