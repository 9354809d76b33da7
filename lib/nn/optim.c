/*
 * Optimisers: groups, step counts and state; the arithmetic is in torch_train.cpp.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"

/* first, second: one handle per parameter of the registry, NULL until the parameter was first updated. steps: how
 * often each parameter was updated (Adam corrects its bias by it). */
struct nn_optim {
    struct nn_params *params;
    struct nn *nn;
    struct nn_optim_options options;
    int64_t steps;
    int count;
    struct nn_tensor **first, **second;
    int64_t *updates;
};

static int check_options(struct nn_optim *optim)
{
    const struct nn_optim_options *o = &optim->options;
    if (o->groups < 1 || o->groups > NN_GROUPS_MAX || o->momentum < 0 || o->beta1 < 0 || o->beta1 >= 1 ||
        o->beta2 < 0 || o->beta2 >= 1 || (o->nesterov && o->momentum == 0))
        return WS2_ERR_USAGE;
    for (int i = 0; i < optim->count; i++) {
        int group = nn_params_at(optim->params, i)->group;
        if (group < 0 || group >= o->groups)
            return WS2_ERR_USAGE;
    }
    return 0;
}

static void set_defaults(struct nn_optim_options *options)
{
    if (options->groups == 0) {
        options->groups = 1;
        options->group[0] = (struct nn_group){1, 0};
    }
    if (options->beta1 == 0)
        options->beta1 = 0.9;
    if (options->beta2 == 0)
        options->beta2 = 0.999;
    if (options->eps == 0)
        options->eps = 1e-8;
}

struct nn_optim *nn_optim_new(struct nn_params *params, const struct nn_optim_options *options)
{
    struct nn *nn = nn_params_context(params);
    size_t count = (size_t)nn_params_count(params);
    struct nn_optim *optim = calloc(1, sizeof(*optim));
    if (optim) {
        optim->params = params;
        optim->nn = nn;
        optim->options = *options;
        optim->count = (int)count;
        optim->first = ws2_calloc(count, sizeof(*optim->first));
        optim->second = ws2_calloc(count, sizeof(*optim->second));
        optim->updates = ws2_calloc(count, sizeof(*optim->updates));
        set_defaults(&optim->options);
    }
    if (!optim || !optim->first || !optim->second || !optim->updates)
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    else if (check_options(optim) < 0)
        nn_fail(nn, WS2_ERR_USAGE,
                "nn_optim_new: bad options, or a parameter in a group that does not exist");
    else
        return optim;
    nn_optim_free(optim);
    return NULL;
}

void nn_optim_free(struct nn_optim *optim)
{
    if (!optim)
        return;
    for (int i = 0; optim->first && optim->second && i < optim->count; i++) {
        nn_drop(optim->nn, optim->first[i]);
        nn_drop(optim->nn, optim->second[i]);
    }
    free(optim->first);
    free(optim->second);
    free(optim->updates);
    free(optim);
}

int64_t nn_optim_steps(const struct nn_optim *optim)
{
    return optim->steps;
}

static bool uses_first(const struct nn_optim *optim)
{
    return optim->options.kind != NN_SGD || optim->options.momentum != 0;
}

static bool uses_second(const struct nn_optim *optim)
{
    return optim->options.kind != NN_SGD;
}

static int make_state(struct nn_optim *optim, int i)
{
    if (uses_first(optim) && !optim->first[i])
        optim->first[i] =
            nn_keep_always(optim->nn, nn_zeros_like(optim->nn, nn_params_at(optim->params, i)->tensor));
    if (uses_second(optim) && !optim->second[i])
        optim->second[i] =
            nn_keep_always(optim->nn, nn_zeros_like(optim->nn, nn_params_at(optim->params, i)->tensor));
    return nn_check(optim->nn, NULL);
}

/* Updates parameters of one group that have been updated `updates` times before; they share their arithmetic. */
static int update_group(struct nn_optim *optim, int group, int64_t updates, double lr,
                        struct nn_tensor **list)
{
    const struct nn_optim_options *o = &optim->options;
    struct nn_update u = {.param = list, .first = list + optim->count, .second = list + 2 * optim->count};
    for (int i = 0; i < optim->count; i++) {
        const struct nn_param *row = nn_params_at(optim->params, i);
        if (!row->trained || row->group != group || optim->updates[i] != updates ||
            !nn_has_leaf_grad(row->tensor))
            continue;
        if (make_state(optim, i) < 0)
            break;
        u.param[u.count] = row->tensor;
        u.first[u.count] = optim->first[i];
        u.second[u.count++] = optim->second[i];
    }
    if (!uses_first(optim))
        u.first = NULL;
    u.lr = lr * o->group[group].lr_scale;
    u.weight_decay = o->group[group].weight_decay;
    u.momentum = o->momentum;
    u.nesterov = o->nesterov;
    u.fresh = updates == 0;
    u.beta1 = o->beta1;
    u.beta2 = o->beta2;
    u.eps = o->eps;
    u.decoupled = o->kind == NN_ADAMW;
    u.step = updates + 1;
    return o->kind == NN_SGD ? nn_update_sgd(optim->nn, &u) : nn_update_adam(optim->nn, &u);
}

/* The smallest update count >= from among parameters of the group, or -1: parameters frozen for a while lag. */
static int64_t next_count(const struct nn_optim *optim, int group, int64_t from)
{
    int64_t best = -1;
    for (int i = 0; i < optim->count; i++) {
        if (nn_params_at(optim->params, i)->group == group && optim->updates[i] >= from &&
            (best < 0 || optim->updates[i] < best))
            best = optim->updates[i];
    }
    return best;
}

int nn_optim_step(struct nn_optim *optim, double lr)
{
    int status = nn_check(optim->nn, NULL);
    struct nn_tensor **list = ws2_calloc((size_t)optim->count, 3 * sizeof(*list));
    if (!list)
        nn_fail(optim->nn, WS2_ERR_SYSTEM, "out of memory");
    for (int group = 0; status == 0 && list && group < optim->options.groups; group++) {
        int64_t count = next_count(optim, group, 0);
        for (; count >= 0 && status == 0; count = next_count(optim, group, count + 1))
            status = update_group(optim, group, count, lr, list);
    }
    free(list);
    if (status < 0 || nn_error(optim->nn))
        return nn_check(optim->nn, NULL);
    for (int i = 0; i < optim->count; i++) {
        const struct nn_param *row = nn_params_at(optim->params, i);
        optim->updates[i] += row->trained && nn_has_leaf_grad(row->tensor);
    }
    optim->steps++;
    return 0;
}

/* ---- keeping the state ------------------------------------------------------------------------------------------- */

#define NAME_MAX_BYTES 1024

static int save_state(const struct nn_optim *optim, struct nn_saver *saver, const char *name,
                      struct nn_tensor *x)
{
    struct ws2_shape shape = nn_shape(x);
    size_t count = (size_t)nn_count(x);
    enum nn_dtype dtype = nn_dtype(x);
    uint8_t *bytes = ws2_calloc(count, sizeof(double));
    if (!bytes)
        return WS2_ERR_SYSTEM;
    int status = dtype == NN_F64 ? nn_to_f64(optim->nn, x, (double *)(void *)bytes, count)
                                 : nn_to_f32(optim->nn, x, (float *)(void *)bytes, count);
    if (status == 0)
        status = nn_saver_add(saver, name, dtype, shape, bytes, count * nn_dtype_size(dtype));
    free(bytes);
    return status;
}

int nn_optim_save(const struct nn_optim *optim, struct nn_saver *saver, const char *prefix)
{
    char name[NAME_MAX_BYTES];
    int status = nn_check(optim->nn, NULL);
    snprintf(name, sizeof(name), "%ssteps", prefix);
    if (status == 0)
        status = nn_saver_add(saver, name, NN_I64, (struct ws2_shape){0}, (const uint8_t *)&optim->steps,
                              sizeof(optim->steps));
    snprintf(name, sizeof(name), "%supdates", prefix);
    if (status == 0)
        status = nn_saver_add(saver, name, NN_I64, ws2_shape_1(optim->count), (const uint8_t *)optim->updates,
                              (size_t)optim->count * sizeof(*optim->updates));
    for (int i = 0; status == 0 && i < optim->count; i++) {
        const char *param = nn_params_at(optim->params, i)->name;
        snprintf(name, sizeof(name), "%s%s.m", prefix, param);
        if (optim->first[i])
            status = save_state(optim, saver, name, optim->first[i]);
        snprintf(name, sizeof(name), "%s%s.v", prefix, param);
        if (status == 0 && optim->second[i])
            status = save_state(optim, saver, name, optim->second[i]);
    }
    return status;
}

/* Fills *state of parameter i from the file. */
static int load_state(struct nn_optim *optim, const struct nn_weights *weights, const char *name, int i,
                      struct nn_tensor **state, struct ws2_error *error)
{
    const struct nn_param *row = nn_params_at(optim->params, i);
    int index = nn_weights_find(weights, name);
    if (index < 0 || !ws2_shape_equal(&nn_weights_at(weights, index)->shape, &row->shape))
        return ws2_fail(error, WS2_ERR_MODEL, "optimiser state '%s' is missing or of another shape", name);
    size_t count = (size_t)nn_count(row->tensor);
    double *value = ws2_calloc(count, sizeof(*value));
    if (!value)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status = nn_weights_read_f64(weights, index, value, count, error);
    if (status == 0) {
        nn_scope_begin(optim->nn);
        if (!*state)
            *state = nn_keep_always(optim->nn, nn_zeros_like(optim->nn, row->tensor));
        nn_assign(optim->nn, *state, nn_from_f64(optim->nn, row->shape, value));
        nn_scope_end(optim->nn);
        status = nn_check(optim->nn, error);
    }
    free(value);
    return status;
}

int nn_optim_load(struct nn_optim *optim, const struct nn_weights *weights, const char *prefix,
                  struct ws2_error *error)
{
    char name[NAME_MAX_BYTES];
    int status = nn_check(optim->nn, error);
    if (status < 0)
        return status;
    snprintf(name, sizeof(name), "%ssteps", prefix);
    int steps = nn_weights_find(weights, name);
    snprintf(name, sizeof(name), "%supdates", prefix);
    int updates = nn_weights_find(weights, name);
    if (steps < 0 || updates < 0)
        return ws2_fail(error, WS2_ERR_MODEL, "the file holds no optimiser state '%s'", name);
    status = nn_weights_read_i64(weights, steps, &optim->steps, 1, error);
    if (status == 0)
        status = nn_weights_read_i64(weights, updates, optim->updates, (size_t)optim->count, error);
    for (int i = 0; status == 0 && i < optim->count; i++) {
        const char *param = nn_params_at(optim->params, i)->name;
        if (optim->updates[i] == 0)
            continue;
        snprintf(name, sizeof(name), "%s%s.m", prefix, param);
        if (uses_first(optim))
            status = load_state(optim, weights, name, i, &optim->first[i], error);
        snprintf(name, sizeof(name), "%s%s.v", prefix, param);
        if (status == 0 && uses_second(optim))
            status = load_state(optim, weights, name, i, &optim->second[i], error);
    }
    return status;
}
