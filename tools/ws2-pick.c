/* ws2-pick: choose tensors and frames; the tensors themselves pass through as they are. */
#include <string.h>
#include "cli/cli.h"

struct job {
    const char *keep_text, *drop_text, *frames_text;
    struct ws2_text_list keep, drop, rename;
    struct ws2_range frames;
    bool repack;
    int level;
    const struct ws2_program *program;
    const struct ws2_common *common;
};

/* Splits "OLD=NEW"; old gets a copy, the result points at NEW. NULL when it is not of that form. */
static const char *split_rename(const char *text, char old[WS2_NAME_MAX + 1])
{
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : 0;
    if (size == 0 || size > WS2_NAME_MAX || equals[1] == '\0')
        return NULL;
    memcpy(old, text, size);
    old[size] = '\0';
    return equals + 1;
}

static int check_names(const struct ws2_head *head, const struct ws2_text_list *list, struct ws2_error *error)
{
    for (int i = 0; i < list->count; i++)
        if (ws2_head_find(head, list->item[i]) == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", list->item[i]);
    return 0;
}

static int rename_rows(const struct job *job, struct ws2_head *head, struct ws2_error *error)
{
    for (int i = 0; i < job->rename.count; i++) {
        char old[WS2_NAME_MAX + 1];
        const char *new = split_rename(job->rename.item[i], old);
        const struct ws2_tensor_info *found = ws2_head_find(head, old);
        if (found == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", old);
        const struct ws2_tensor_info info = *found;
        int status = ws2_head_drop_tensor(head, old);
        if (status >= 0)
            status = ws2_head_add_tensor(head, new, info.dtype, info.axes, info.unit, error);
        if (status < 0)
            return ws2_fail(error, status, "cannot rename tensor '%s'", old);
    }
    return 0;
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    const struct job *job = context;
    if (check_names(in, &job->keep, error) < 0 || check_names(in, &job->drop, error) < 0)
        return error->status;
    for (int i = 0; i < ws2_head_tensors(in); i++) {
        const char *name = ws2_head_tensor(in, i)->name;
        if (!ws2_cli_chosen(&job->keep, &job->drop, name) && ws2_head_drop_tensor(out, name) < 0)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    if (rename_rows(job, out, error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, NULL);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    (void)worker;
    if (!ws2_range_has(&job->frames, ws2_record_frame(record)))
        return 1;
    for (int i = ws2_record_tensors(record) - 1; i >= 0; i--) {
        const char *name = ws2_record_name(record, i);
        if (!ws2_cli_chosen(&job->keep, &job->drop, name))
            ws2_record_drop(record, name);
    }
    for (int i = 0; i < job->rename.count; i++) {
        char old[WS2_NAME_MAX + 1];
        const char *new = split_rename(job->rename.item[i], old);
        int status = ws2_record_has(record, old) ? ws2_record_rename(record, old, new, error) : 0;
        if (status < 0)
            return status;
    }
    return job->repack ? ws2_record_repack(record, job->level, error) : 0;
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"keep", 0, WS2_OPT_TEXT, &job.keep_text, "A,B", "keep only these tensors", true, 0, 0},
        {"drop", 0, WS2_OPT_TEXT, &job.drop_text, "A,B", "leave these tensors out", true, 0, 0},
        {"frames", 0, WS2_OPT_TEXT, &job.frames_text, "BEGIN:END[:STEP]",
         "frame numbers from BEGIN up to but without END", true, 0, 0},
        {"rename", 0, WS2_OPT_LIST, &job.rename, "OLD=NEW", "give a tensor another name", true, 0, 0},
        {"repack", 0, WS2_OPT_FLAG, &job.repack, NULL, "compress all tensors anew at -z LEVEL", false, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-pick",
        .operands = "[FILE...]",
        .summary = "choose tensors and frames of a stream",
        .reads = "-",
        .adds = "-",
        .examples = "  ws2-pick --keep coarse,truth b1.mask.ws2 | ws2-iou\n"
                    "  ws2-pick --frames 0:100:10 --repack -z 3 -o small.ws2 b1.ws2",
        .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
        .options = options,
    };
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    if (job.keep_text && job.drop_text)
        ws2_die_text(WS2_ERR_USAGE, "--keep and --drop exclude each other");
    job.keep = ws2_cli_names("keep", job.keep_text);
    job.drop = ws2_cli_names("drop", job.drop_text);
    job.frames = ws2_cli_range("frames", job.frames_text);
    job.level = common.level;
    job.program = &program;
    job.common = &common;
    for (int i = 0; i < job.rename.count; i++) {
        char old[WS2_NAME_MAX + 1];
        if (split_rename(job.rename.item[i], old) == NULL)
            ws2_die_text(WS2_ERR_USAGE, "--rename: '%s' is not OLD=NEW", job.rename.item[i]);
    }
    return ws2_cli_filter(&program, &common, &filter);
}
