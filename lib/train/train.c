#include "train/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Everything of one call of ws2_task_run. */
struct run {
    struct nn *nn;
    const struct ws2_task *task;
    struct ws2_loader *train, *val;
    const struct ws2_train_options *options;
    struct nn_optim *optim;
    struct ws2_state state;
    int64_t steps; /* of the whole training */
    int64_t epoch_steps;
    char *best, *last;
    FILE *log;
    struct ws2_error *error;
};

/* Sums of the loss and its terms, weighted by pictures. */
struct sums {
    double total, part[WS2_PARTS_MAX];
    double weight;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double item_or_nan(struct nn *nn, struct nn_tensor *term)
{
    return term ? nn_item(nn, term) : NAN;
}

static void add_loss(struct run *run, struct sums *sums, struct nn_tensor *total,
                     struct nn_tensor *const part[WS2_PARTS_MAX], double weight)
{
    sums->weight += weight;
    sums->total += weight * nn_item(run->nn, total);
    for (int i = 0; i < WS2_PARTS_MAX; i++)
        sums->part[i] += weight * item_or_nan(run->nn, part[i]);
}

static struct ws2_moment moment_of(const struct run *run, bool training)
{
    return (struct ws2_moment){training, training ? run->state.step : run->steps, run->epoch_steps,
                               run->steps};
}

/* ---- the log ---------------------------------------------------------------------------------------------- */

static void write_header(const struct run *run, FILE *log)
{
    fputs("epoch\tsteps\tloss", log);
    for (int i = 0; i < WS2_PARTS_MAX && run->task->part[i]; i++)
        fprintf(log, "\tloss_%s", run->task->part[i]);
    fputs("\tval_loss\tval_error\tval_accuracy\tlr\timages_per_second\tbest\n", log);
}

static void put_number(FILE *log, double value, const char *format)
{
    fputc('\t', log);
    if (isnan(value))
        fputc('-', log);
    else
        fprintf(log, format, value);
}

static int write_row(struct run *run, const struct ws2_epoch *row)
{
    FILE *log = run->log;
    if (log == NULL)
        return WS2_OK;
    fprintf(log, "%lld\t%lld", (long long)row->epoch, (long long)row->steps);
    put_number(log, row->loss, "%.6g");
    for (int i = 0; i < WS2_PARTS_MAX && run->task->part[i]; i++)
        put_number(log, row->part[i], "%.6g");
    put_number(log, row->val_loss, "%.6g");
    put_number(log, row->val_error, "%.6g");
    put_number(log, row->val_accuracy, "%.6g");
    put_number(log, row->lr, "%.6g");
    put_number(log, row->images_per_second, "%.1f");
    fprintf(log, "\t%d\n", row->best);
    if (fflush(log) != 0 || ferror(log))
        return ws2_fail_errno(run->error, "%s", run->options->log);
    return WS2_OK;
}

/* Copies the header and the rows of epochs 1..last; a row written after the last state is made anew. */
static void copy_rows(FILE *to, FILE *from, int64_t last)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length = getline(&line, &capacity, from); /* the old header */
    for (int64_t epoch = 1; length > 0 && epoch <= last; epoch++) {
        length = getline(&line, &capacity, from);
        if (length > 0 && line[length - 1] == '\n')
            fwrite(line, 1, (size_t)length, to);
    }
    free(line);
}

/* What is there and no file: a terminal, a pipe, a device, a folder. */
static bool is_special(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

/* A terminal or a pipe can only be written as it is. */
static int open_special_log(struct run *run, const char *path)
{
    run->log = fopen(path, "we");
    if (run->log)
        write_header(run, run->log);
    return run->log && fflush(run->log) == 0 ? WS2_OK : ws2_fail_errno(run->error, "%s", path);
}

static int open_log(struct run *run)
{
    const char *path = run->options->log;
    char *temporary = NULL;
    if (path == NULL)
        return WS2_OK;
    if (is_special(path))
        return open_special_log(run, path);
    if (asprintf(&temporary, "%s.tmp", path) < 0)
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    int status = WS2_OK;
    run->log = fopen(temporary, "we");
    if (run->log) {
        write_header(run, run->log);
        FILE *old = run->state.epoch > 0 ? fopen(path, "re") : NULL;
        if (old) {
            copy_rows(run->log, old, run->state.epoch);
            fclose(old);
        }
        /* The handle stays open over the renaming: later rows are appended to the file under its name. */
        if (fflush(run->log) != 0 || rename(temporary, path) != 0)
            status = ws2_fail_errno(run->error, "%s", path);
    } else {
        status = ws2_fail_errno(run->error, "%s", temporary);
    }
    free(temporary);
    return status;
}

/* ---- one epoch -------------------------------------------------------------------------------------------- */

static int train_step(struct run *run, const struct ws2_batch *batch, struct sums *sums)
{
    struct nn *nn = run->nn;
    const struct ws2_moment moment = moment_of(run, true);
    struct sums one = {0};
    struct nn_tensor *part[WS2_PARTS_MAX] = {0};
    nn_scope_begin(nn);
    struct nn_tensor *total = run->task->loss(run->task->context, batch, &moment, part, NULL);
    nn_params_zero_grad(run->task->params);
    nn_backward(nn, total);
    nn_optim_step(run->optim, ws2_plan_rate(&run->options->plan, moment.step, run->steps));
    add_loss(run, &one, total, part, 1);
    nn_scope_end(nn);
    const int status = nn_check(nn, run->error);
    if (status < 0)
        return status;
    if (!isfinite(one.total))
        return ws2_fail(run->error, WS2_ERR_MODEL,
                        "the loss is not finite at step %lld: try a lower learning rate",
                        (long long)moment.step + 1);
    run->state.step++;
    sums->total += one.total;
    for (int i = 0; i < WS2_PARTS_MAX; i++)
        sums->part[i] += one.part[i];
    sums->weight += 1;
    return WS2_OK;
}

static int train_epoch(struct run *run, struct ws2_epoch *row)
{
    struct sums sums = {0};
    struct ws2_batch batch;
    const double began = now();
    int64_t images = 0;
    int status = ws2_loader_start(run->train, run->state.epoch, run->error);
    while (status >= 0 && (status = ws2_loader_next(run->train, &batch, run->error)) == 1) {
        row->lr = ws2_plan_rate(&run->options->plan, run->state.step, run->steps);
        status = train_step(run, &batch, &sums);
        images += batch.count;
        if (status >= 0 && run->options->report)
            status = run->options->report(run->options->context, run->state.step, run->steps,
                                          sums.total / sums.weight, (double)images / (now() - began), NULL);
    }
    row->loss = sums.total / sums.weight;
    for (int i = 0; i < WS2_PARTS_MAX; i++)
        row->part[i] = sums.part[i] / sums.weight;
    row->images_per_second = (double)images / (now() - began);
    return status;
}

/* The running statistics decide here, and all terms count in full, so that epochs compare. */
static int validate_batch(struct run *run, const struct ws2_batch *batch, struct sums *sums,
                          struct ws2_tally *tally)
{
    struct nn *nn = run->nn;
    const struct ws2_moment moment = moment_of(run, false);
    struct nn_tensor *part[WS2_PARTS_MAX] = {0};
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    add_loss(run, sums, run->task->loss(run->task->context, batch, &moment, part, tally), part, batch->count);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    return nn_check(nn, run->error);
}

static int validate(struct run *run, struct ws2_epoch *row)
{
    struct sums sums = {0};
    struct ws2_tally tally = {0};
    struct ws2_batch batch;
    int status = ws2_loader_start(run->val, 0, run->error);
    while (status >= 0 && (status = ws2_loader_next(run->val, &batch, run->error)) == 1)
        status = validate_batch(run, &batch, &sums, &tally);
    row->val_loss = sums.total / sums.weight;
    row->val_error = tally.questions > 0 ? tally.wrong / tally.questions : NAN;
    row->val_accuracy = tally.samples > 0 ? tally.correct / tally.samples : NAN;
    return status;
}

/* ---- the run ---------------------------------------------------------------------------------------------- */

/* Remembers the weights when this epoch is the best so far, then the state of the run: in this order, since a
 * run killed in between makes the epoch anew and with it the same best. */
static int finish_epoch(struct run *run, struct ws2_epoch *row)
{
    const double key = run->task->by_error ? row->val_error : row->val_loss, tie = row->val_loss;
    struct ws2_state *state = &run->state;
    int status = WS2_OK;
    if (!isfinite(row->val_loss))
        return ws2_fail(run->error, WS2_ERR_MODEL, "the validation loss is not finite after epoch %lld",
                        (long long)state->epoch + 1);
    row->best = run->task->newest || state->best_epoch == 0 || key < state->best_key ||
                (key == state->best_key && tie < state->best_tie);
    state->epoch++;
    if (row->best) {
        *state = (struct ws2_state){state->epoch, state->step, state->epoch, key, tie};
        status = ws2_checkpoint_save(run->task->params, run->options->meta, run->best, run->error);
    }
    row->epoch = state->epoch;
    row->steps = state->step;
    if (status >= 0)
        status = write_row(run, row);
    if (status >= 0)
        status =
            ws2_state_save(state, run->task->params, run->optim, run->options->meta, run->last, run->error);
    if (status >= 0 && run->options->report)
        status = run->options->report(run->options->context, state->step, run->steps, row->loss,
                                      row->images_per_second, row);
    return status;
}

static bool out_of_patience(const struct run *run)
{
    const int64_t patience = run->options->patience;
    return patience > 0 && run->state.best_epoch > 0 && run->state.epoch - run->state.best_epoch >= patience;
}

static int loop(struct run *run)
{
    const struct ws2_train_options *o = run->options;
    while (run->state.epoch < o->epochs && !out_of_patience(run)) {
        if (o->stop_epoch > 0 && run->state.epoch >= o->stop_epoch)
            return WS2_TRAIN_STOPPED;
        struct ws2_epoch row = {0};
        int status = train_epoch(run, &row);
        if (status >= 0)
            status = validate(run, &row);
        if (status >= 0)
            status = finish_epoch(run, &row);
        if (status < 0)
            return status;
    }
    /* A run killed after the renaming has no best left, but the output. */
    if (rename(run->best, o->output) != 0 && !(errno == ENOENT && access(o->output, R_OK) == 0))
        return ws2_fail_errno(run->error, "%s", o->output);
    unlink(run->last);
    return WS2_TRAIN_DONE;
}

/* That the weights cannot be written is told before the work, not after it. */
static int try_output(struct run *run)
{
    const char *output = run->options->output;
    char *temporary = NULL;
    if (is_special(output))
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "%s: not a regular file", output);
    if (asprintf(&temporary, "%s.tmp", run->last) < 0)
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    const int file = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    const int status = file < 0 ? ws2_fail_errno(run->error, "%s: cannot create", output) : WS2_OK;
    if (file >= 0) {
        close(file);
        unlink(temporary);
    }
    free(temporary);
    return status;
}

static int begin(struct run *run)
{
    const struct ws2_train_options *o = run->options;
    if (asprintf(&run->best, "%s.best", o->output) < 0 || asprintf(&run->last, "%s.last", o->output) < 0)
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    const int status = try_output(run);
    if (status < 0)
        return status;
    run->optim = nn_optim_new(run->task->params, &o->plan.optim);
    if (run->optim == NULL)
        return nn_check(run->nn, run->error) < 0 ? run->error->status
                                                 : ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    if (o->resume && access(run->last, F_OK) == 0)
        return ws2_state_load(&run->state, run->task->params, run->optim, o->meta, run->last, run->error);
    return WS2_OK;
}

int ws2_task_run(struct nn *nn, const struct ws2_task *task, struct ws2_loader *train, struct ws2_loader *val,
                 const struct ws2_train_options *options, struct ws2_error *error)
{
    struct ws2_error own = {0};
    struct run run = {.nn = nn,
                      .task = task,
                      .train = train,
                      .val = val,
                      .options = options,
                      .error = error ? error : &own};
    run.epoch_steps = ws2_loader_steps(train);
    run.steps = options->epochs * run.epoch_steps;
    int status = begin(&run);
    if (status >= 0)
        status = open_log(&run);
    if (status >= 0)
        status = loop(&run);
    if (run.log && fclose(run.log) != 0 && status >= 0)
        status = ws2_fail_errno(run.error, "%s", options->log);
    nn_optim_free(run.optim);
    free(run.best);
    free(run.last);
    return status;
}
