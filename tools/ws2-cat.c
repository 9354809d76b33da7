/* ws2-cat: join files, to one segment or one after the other. Tensors pass through as they are. */
#include <string.h>
#include "cli/cli.h"

struct job {
    bool segments;
    const char *seq;
    const char **path;
    int paths;
    const struct ws2_program *program;
    const struct ws2_common *common;
    struct ws2_reader *input; /* standard input, when its head was looked at already */
    struct ws2_writer *writer;
    struct ws2_record *record;
    struct ws2_head *head; /* of all inputs together, without our own history entry */
    int64_t frame;         /* last one written to the segment */
};

static _Noreturn void fail_in(const char *path, struct ws2_error *error)
{
    ws2_error_prefix(error, "%s", path);
    ws2_die(error);
}

static void check_writer(const struct job *job, int status)
{
    if (status < 0)
        ws2_die(ws2_writer_error(job->writer));
}

/* The head of a segment, under its new sequence name if there is one. */
static struct ws2_head *read_head(const struct job *job, const struct ws2_reader *reader)
{
    struct ws2_head *head = ws2_head_copy(ws2_reader_head(reader));
    if (head == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (job->seq && ws2_head_set_seq(head, job->seq) < 0)
        ws2_die_text(WS2_ERR_USAGE, "--seq: '%s' cannot be a name", job->seq);
    return head;
}

/* Joins the reader's head with what was gathered so far; dies where they do not agree. */
static void gather(struct job *job, const struct ws2_reader *reader, const char *path)
{
    struct ws2_error error = {0};
    struct ws2_head *head = read_head(job, reader), *joined = NULL;
    if (job->segments) { /* --check: nothing to agree on */
        ws2_head_free(head);
        return;
    }
    if (job->head == NULL) {
        job->head = head;
        return;
    }
    if (ws2_head_agree(job->head, head, &error) == 0)
        joined = ws2_head_join(job->head, head, false, &error);
    if (joined == NULL)
        fail_in(path, &error);
    ws2_head_free(job->head);
    ws2_head_free(head);
    job->head = joined;
}

/* Looks at the heads of all inputs before anything is written: a file that does not fit is found at once, and
 * the joined head knows the history of all. Of standard input only the first head can be seen beforehand. */
static void gather_all(struct job *job)
{
    for (int i = 0; i < job->paths; i++) {
        const char *path = job->path[i];
        bool pipe = strcmp(path, "-") == 0;
        if (pipe && job->input)
            ws2_die_text(WS2_ERR_USAGE, "standard input can be joined only once");
        struct ws2_reader *reader = ws2_cli_reader(job->common, path);
        int64_t segments = 1, records, first, count;
        gather(job, reader, path);
        if (pipe) {
            job->input = reader;
            continue;
        }
        /* A damaged file has no index; copying it will say what is wrong. */
        if (ws2_reader_index(reader, &segments, &records) < 0)
            segments = 1;
        for (int64_t k = 1; k < segments && ws2_reader_segment(reader, k, &first, &count) >= 0; k++)
            gather(job, reader, path);
        ws2_reader_close(reader);
    }
}

static void write_head(struct job *job, const struct ws2_head *head)
{
    struct ws2_head *out = ws2_head_copy(head);
    if (out == NULL || ws2_cli_history(job->program, job->common, out, NULL) < 0)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    check_writer(job, ws2_writer_begin(job->writer, out));
    ws2_head_free(out);
    job->frame = -1;
}

static void copy_records(struct job *job, struct ws2_reader *reader, const char *path)
{
    int got;
    while ((got = ws2_reader_next(reader, job->record)) > 0) {
        int64_t frame = ws2_record_frame(job->record);
        if (frame <= job->frame) {
            struct ws2_error error = {0};
            ws2_fail(&error, WS2_ERR_INPUT, "frame %lld follows frame %lld; --segments keeps the parts apart",
                     (long long)frame, (long long)job->frame);
            fail_in(path, &error);
        }
        job->frame = frame;
        check_writer(job, ws2_writer_put(job->writer, job->record));
        ws2_cli_progress_set(ws2_writer_records(job->writer), NULL);
    }
    if (got < 0)
        ws2_die(ws2_reader_error(reader));
}

static void copy_segment(struct job *job, struct ws2_reader *reader, const char *path)
{
    struct ws2_error error = {0};
    struct ws2_head *head = read_head(job, reader);
    if (job->segments)
        write_head(job, head);
    else if (ws2_head_agree(job->head, head, &error) < 0)
        fail_in(path, &error);
    copy_records(job, reader, path);
    if (job->segments)
        check_writer(job, ws2_writer_end(job->writer));
    ws2_head_free(head);
}

static void copy_all(struct job *job)
{
    if (!job->segments)
        write_head(job, job->head);
    for (int i = 0; i < job->paths; i++) {
        bool pipe = job->input && strcmp(job->path[i], "-") == 0;
        struct ws2_reader *reader = pipe ? job->input : ws2_cli_reader(job->common, job->path[i]);
        int more = 1;
        while (more > 0) {
            copy_segment(job, reader, job->path[i]);
            more = ws2_reader_next_segment(reader);
        }
        if (more < 0)
            ws2_die(ws2_reader_error(reader));
        ws2_reader_close(reader);
    }
    if (!job->segments)
        check_writer(job, ws2_writer_end(job->writer));
}

int main(int argc, char **argv)
{
    static const char *const standard_input = "-";
    static struct job job;
    static const struct ws2_option options[] = {
        {"segments", 0, WS2_OPT_FLAG, &job.segments, NULL, "keep every segment as it is", true, 0, 0},
        {"seq", 0, WS2_OPT_TEXT, &job.seq, "NAME", "name of the sequence, whatever the inputs say", true, 0,
         0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-cat",
        .operands = "[FILE...]",
        .summary = "join streams one after the other, to one segment",
        .reads = "-",
        .adds = "-",
        .examples = "  ws2-cat part1.ws2 part2.ws2 -o whole.ws2\n"
                    "  ws2-cat --segments before/*.ws2 | ws2-iou --by-seq",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    job.program = &program;
    job.common = &common;
    job.path = common.operands ? common.operand : (const char **)&standard_input;
    job.paths = common.operands ? common.operands : 1;
    job.record = ws2_record_new();
    if (job.record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (!job.segments || common.check)
        gather_all(&job);
    if (!common.check) {
        job.writer = ws2_cli_writer(&common);
        ws2_cli_progress_begin(&common, "frames", 0);
        copy_all(&job);
    }
    ws2_record_free(job.record);
    ws2_head_free(job.head);
    return ws2_cli_end(job.writer, 0);
}
