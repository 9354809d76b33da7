/* ws2-merge: put streams side by side by frame number. Tensors pass through as they are. */
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

struct input {
    const char *path;
    struct ws2_reader *reader;
    struct ws2_record *record;
    bool there; /* record holds the next frame of this input */
};

struct job {
    const char *keep_text, *drop_text;
    struct ws2_text_list keep, drop;
    bool inner;
    struct input *input;
    int inputs;
    struct ws2_writer *writer;
    const struct ws2_program *program;
    const struct ws2_common *common;
};

/* The first file gives all its tensors, the others those that --keep and --drop leave. */
static bool taken(const struct job *job, int input, const char *name)
{
    return input == 0 || ws2_cli_chosen(&job->keep, &job->drop, name);
}

static _Noreturn void fail_in(const struct input *input, struct ws2_error *error)
{
    ws2_error_prefix(error, "%s", input->path);
    ws2_die(error);
}

/* ---- heads ------------------------------------------------------------------------------------------------- */

static struct ws2_head *chosen_head(const struct job *job, int input)
{
    const struct ws2_head *in = ws2_reader_head(job->input[input].reader);
    struct ws2_head *head = ws2_head_copy(in);
    for (int i = 0; head && i < ws2_head_tensors(in); i++) {
        const char *name = ws2_head_tensor(in, i)->name;
        if (!taken(job, input, name) && ws2_head_drop_tensor(head, name) < 0)
            head = NULL;
    }
    if (head == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    return head;
}

static struct ws2_head *merged_head(const struct job *job)
{
    struct ws2_head *head = chosen_head(job, 0);
    for (int i = 1; i < job->inputs; i++) {
        struct ws2_error error = {0};
        struct ws2_head *more = chosen_head(job, i), *joined = ws2_head_join(head, more, true, &error);
        if (joined == NULL)
            fail_in(&job->input[i], &error);
        ws2_head_free(head);
        ws2_head_free(more);
        head = joined;
    }
    if (ws2_cli_history(job->program, job->common, head, NULL) < 0)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    return head;
}

/* A name given to --keep or --drop that no file has is a slip of the pen. */
static void check_names(const struct job *job, const struct ws2_text_list *list, const char *option)
{
    for (int i = 0; i < list->count; i++) {
        bool found = false;
        for (int k = 1; k < job->inputs; k++)
            found |= ws2_head_find(ws2_reader_head(job->input[k].reader), list->item[i]) != NULL;
        if (!found)
            ws2_die_text(WS2_ERR_INPUT, "--%s: no file after the first has a tensor '%s'", option,
                         list->item[i]);
    }
}

/* ---- records ------------------------------------------------------------------------------------------------ */

static void advance(struct input *input)
{
    int64_t last = input->there ? ws2_record_frame(input->record) : -1;
    int got = ws2_reader_next(input->reader, input->record);
    if (got < 0)
        ws2_die(ws2_reader_error(input->reader));
    input->there = got > 0;
    if (input->there && ws2_record_frame(input->record) <= last)
        ws2_die_text(WS2_ERR_INPUT, "%s: frame %lld follows frame %lld", input->path,
                     (long long)ws2_record_frame(input->record), (long long)last);
}

/* The smallest frame number that any input is at; -1 when all have ended. */
static int64_t next_frame(const struct job *job)
{
    int64_t frame = -1;
    for (int i = 0; i < job->inputs; i++) {
        const struct input *input = &job->input[i];
        if (input->there && (frame < 0 || ws2_record_frame(input->record) < frame))
            frame = ws2_record_frame(input->record);
    }
    return frame;
}

/* The first input that does not hold this frame, or NULL. */
static const struct input *lacking(const struct job *job, int64_t frame)
{
    for (int i = 0; i < job->inputs; i++)
        if (!job->input[i].there || ws2_record_frame(job->input[i].record) != frame)
            return &job->input[i];
    return NULL;
}

/* Moves the tensors of all inputs into the first one's record and writes it. */
static void write_frame(struct job *job, int64_t frame)
{
    struct ws2_error error = {0};
    struct ws2_record *all = job->input[0].record;
    for (int i = 1; i < job->inputs; i++) {
        struct ws2_record *from = job->input[i].record;
        if (ws2_record_pts(all) < 0)
            ws2_record_set_frame(all, frame, ws2_record_pts(from));
        for (int k = ws2_record_tensors(from) - 1; k >= 0; k--) {
            const char *name = ws2_record_name(from, k);
            if (taken(job, i, name) && ws2_record_move(all, from, name, &error) < 0)
                fail_in(&job->input[i], &error);
        }
    }
    if (ws2_writer_put(job->writer, all) < 0)
        ws2_die(ws2_writer_error(job->writer));
    ws2_cli_progress_set(ws2_writer_records(job->writer), NULL);
}

static void merge_segment(struct job *job)
{
    struct ws2_head *head = merged_head(job);
    if (ws2_writer_begin(job->writer, head) < 0)
        ws2_die(ws2_writer_error(job->writer));
    for (int i = 0; i < job->inputs; i++) {
        job->input[i].there = false;
        advance(&job->input[i]);
    }
    for (int64_t frame; (frame = next_frame(job)) >= 0;) {
        const struct input *missing = lacking(job, frame);
        if (missing && !job->inner)
            ws2_die_text(WS2_ERR_INPUT, "%s: frame %lld is missing", missing->path, (long long)frame);
        if (!missing)
            write_frame(job, frame);
        for (int i = 0; i < job->inputs; i++)
            if (job->input[i].there && ws2_record_frame(job->input[i].record) == frame)
                advance(&job->input[i]);
    }
    if (ws2_writer_end(job->writer) < 0)
        ws2_die(ws2_writer_error(job->writer));
    ws2_head_free(head);
}

/* True when all inputs go on with another segment, false when all have ended. */
static bool next_segment(struct job *job)
{
    int more = 0;
    for (int i = 0; i < job->inputs; i++) {
        int got = ws2_reader_next_segment(job->input[i].reader);
        if (got < 0)
            ws2_die(ws2_reader_error(job->input[i].reader));
        if (i > 0 && got != more)
            ws2_die_text(WS2_ERR_INPUT, "%s has fewer segments than %s", job->input[got ? 0 : i].path,
                         job->input[got ? i : 0].path);
        more = got;
    }
    return more;
}

static void open_inputs(struct job *job)
{
    static const char *const standard_input = "-";
    const struct ws2_common *common = job->common;
    job->inputs = common->operands ? common->operands : 1;
    job->input = ws2_calloc((size_t)job->inputs, sizeof *job->input);
    for (int i = 0, pipes = 0; job->input && i < job->inputs; i++) {
        struct input *input = &job->input[i];
        input->path = common->operands ? common->operand[i] : standard_input;
        pipes += strcmp(input->path, "-") == 0;
        if (pipes > 1)
            ws2_die_text(WS2_ERR_USAGE, "standard input can be merged only once");
        input->reader = ws2_cli_reader(common, input->path);
        input->record = ws2_record_new();
        if (input->record == NULL)
            ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    }
    if (job->input == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"keep", 0, WS2_OPT_TEXT, &job.keep_text, "A,B",
         "of the second and later files take only these tensors", true, 0, 0},
        {"drop", 0, WS2_OPT_TEXT, &job.drop_text, "A,B", "of the second and later files leave these out",
         true, 0, 0},
        {"inner", 0, WS2_OPT_FLAG, &job.inner, NULL, "only frames that all files have", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-merge",
        .operands = "[FILE...]",
        .summary = "put the tensors of several streams side by side, by frame number",
        .reads = "-",
        .adds = "-",
        .examples = "  ws2-merge b1.ws2 b1.mask.ws2 | ws2-iou\n"
                    "  ws2-merge --keep coarse b1.ws2 b1.mask.ws2 -o b1.both.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    job.program = &program;
    job.common = &common;
    job.keep = ws2_cli_names("keep", job.keep_text);
    job.drop = ws2_cli_names("drop", job.drop_text);
    if (job.keep_text && job.drop_text)
        ws2_die_text(WS2_ERR_USAGE, "--keep and --drop exclude each other");
    open_inputs(&job);
    check_names(&job, &job.keep, "keep");
    check_names(&job, &job.drop, "drop");
    if (common.check) {
        ws2_head_free(merged_head(&job));
    } else {
        job.writer = ws2_cli_writer(&common);
        ws2_cli_progress_begin(&common, "frames", 0);
        do {
            merge_segment(&job);
        } while (next_segment(&job));
    }
    for (int i = 0; i < job.inputs; i++) {
        ws2_reader_close(job.input[i].reader);
        ws2_record_free(job.input[i].record);
    }
    free(job.input);
    return ws2_cli_end(job.writer, 0);
}
