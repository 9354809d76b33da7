#include "cli/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- inputs and outputs
 * -------------------------------------------------------------------------------------------- */

struct ws2_reader *ws2_cli_reader(const struct ws2_common *common, const char *path)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    if (strcmp(path, "-") == 0 && isatty(STDIN_FILENO) && !common->force)
        ws2_misuse("standard input is a terminal; name a file or pipe a stream in");
    if (ws2_reader_open(&reader, path, &error) < 0)
        ws2_die(&error);
    return reader;
}

struct ws2_writer *ws2_cli_writer(const struct ws2_common *common)
{
    struct ws2_error error = {0};
    if (strcmp(common->output, "-") == 0 && isatty(STDOUT_FILENO) && !common->force)
        ws2_misuse("standard output is a terminal; use -o FILE or a pipe such as | ws2-show | chafa");
    if (ws2_writer_open(&ws2_cli.writer, common->output, common->level, &error) < 0)
        ws2_die(&error);
    return ws2_cli.writer;
}

int ws2_cli_end(struct ws2_writer *writer, int code)
{
    struct ws2_error error = {0};
    ws2_cli_progress_end();
    if (writer) {
        const long long records = (long long)ws2_writer_records(writer);
        const long long bytes = (long long)ws2_writer_bytes(writer);
        ws2_cli.writer = NULL;
        if (ws2_writer_close(writer, &error) < 0)
            ws2_die(&error);
        ws2_note("%lld records, %lld bytes, %.2f s", records, bytes, ws2_seconds_since(&ws2_cli.began));
    }
    if (fflush(stdout) || ferror(stdout) || (fclose(stdout) && errno != EBADF))
        ws2_die_text(WS2_ERR_SYSTEM, "standard output: %s", strerror(errno));
    return code;
}

int ws2_cli_history(const struct ws2_program *program, const struct ws2_common *common, struct ws2_head *head,
                    const char *model)
{
    static char text[WS2_OPTIONS_MAX][256];
    const char *option[WS2_OPTIONS_MAX];
    int count = 0;
    for (const struct ws2_option *o = program->options; o && o->name; o++) {
        char value[192];
        const struct ws2_text_list *list = o->type == WS2_OPT_LIST ? o->value : NULL;
        const char *now = o->result ? ws2_option_text(o, value, sizeof value) : NULL;
        for (int i = 0; o->result && list && i < list->count && count < WS2_OPTIONS_MAX; i++, count++)
            snprintf(text[count], sizeof *text, "%s=%s", o->name, list->item[i]);
        if (now && count < WS2_OPTIONS_MAX)
            snprintf(text[count++], sizeof *text, "%s=%s", o->name, now);
    }
    if (program->takes & WS2_TAKES_DEVICE && count + 2 <= WS2_OPTIONS_MAX) {
        snprintf(text[count++], sizeof *text, "device=%s", common->device);
        snprintf(text[count++], sizeof *text, "precision=%s", common->precision);
    }
    for (int i = 0; i < count; i++)
        option[i] = text[i];
    const struct ws2_history entry = {.program = program->name,
                                      .version = WS2_VERSION,
                                      .options = option,
                                      .count = count,
                                      .seeded = program->takes & WS2_TAKES_SEED,
                                      .seed = common->seed,
                                      .model = model};
    return ws2_head_add_history(head, &entry);
}

/* ---- the filter most programs are
 * ---------------------------------------------------------------------------------- */

struct counted {
    const struct ws2_filter *filter;
    int64_t records;
};

static int counted_begin(void *context, const struct ws2_head *in, struct ws2_head *out,
                         struct ws2_error *error)
{
    const struct ws2_filter *filter = ((struct counted *)context)->filter;
    return filter->begin ? filter->begin(filter->context, in, out, error) : WS2_OK;
}

static int counted_work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct ws2_filter *filter = ((struct counted *)context)->filter;
    return filter->work(filter->context, record, worker, error);
}

static int counted_prepare(void *context, int step, struct ws2_record *record, void **note, int worker,
                           struct ws2_error *error)
{
    const struct ws2_filter *filter = ((struct counted *)context)->filter;
    return filter->prepare(filter->context, step, record, note, worker, error);
}

static int counted_near(void *context, struct ws2_record *record, void *const *note, int worker,
                        struct ws2_error *error)
{
    const struct ws2_filter *filter = ((struct counted *)context)->filter;
    return filter->work_near(filter->context, record, note, worker, error);
}

static void counted_done(void *context, const struct ws2_reader *reader, const struct ws2_record *record)
{
    struct counted *counted = context;
    counted->records++;
    if (counted->filter->done)
        counted->filter->done(counted->filter->context, reader, record);
    const int64_t size = ws2_reader_size(reader);
    ws2_cli_progress_fraction(size > 0 ? (double)ws2_reader_bytes(reader) / (double)size : 0);
    ws2_cli_progress_set(counted->records, NULL);
}

static void check_only(const struct ws2_filter *filter, struct ws2_reader *reader)
{
    struct ws2_error error = {0};
    const struct ws2_head *in = ws2_reader_head(reader);
    struct ws2_head *out = ws2_head_copy(in);
    if (out == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (filter->begin && filter->begin(filter->context, in, out, &error) < 0)
        ws2_die(&error);
    ws2_head_free(out);
}

int ws2_cli_filter(const struct ws2_program *program, const struct ws2_common *common,
                   const struct ws2_filter *filter)
{
    static const char *const standard_input = "-";
    const char *const *path = common->operands ? common->operand : &standard_input;
    const int paths = common->operands ? common->operands : 1;
    struct counted counted = {filter, 0};
    const struct ws2_filter run = {.begin = counted_begin,
                                   .work = counted_work,
                                   .done = counted_done,
                                   .context = &counted,
                                   .reach = filter->reach,
                                   .steps = filter->steps,
                                   .prepare = counted_prepare,
                                   .work_near = counted_near,
                                   .forget = filter->forget};
    (void)program;
    struct ws2_writer *writer = common->check ? NULL : ws2_cli_writer(common);
    ws2_cli_progress_begin(common, "frames", 0);
    for (int i = 0; i < paths; i++) {
        struct ws2_error error = {0};
        struct ws2_reader *reader = ws2_cli_reader(common, path[i]);
        if (common->check)
            check_only(filter, reader);
        else if (ws2_filter_run(&run, reader, writer, common->threads, &error) < 0)
            ws2_die(&error);
        ws2_reader_close(reader);
    }
    return ws2_cli_end(writer, 0);
}
