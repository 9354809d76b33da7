/*
 * The registry of a network's parameters: declaring, initialising, loading, saving.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"

#define PREFIX_MAX 512
#define LEVELS_MAX 16

/* rows[i].name points into its own allocation. sorted: row numbers in order of name, for nn_params_find; rebuilt
 * by insertion, names come in nearly in order. */
struct nn_params {
    struct nn *nn;
    struct nn_param *rows;
    int *sorted;
    int count, capacity;
    char prefix[PREFIX_MAX]; /* of the levels entered, each ending in '.' */
    size_t level[LEVELS_MAX];
    int levels;
};

struct nn_params *nn_params_new(struct nn *nn)
{
    struct nn_params *params = calloc(1, sizeof(*params));
    if (params)
        params->nn = nn;
    else
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    return params;
}

void nn_params_free(struct nn_params *params)
{
    if (!params)
        return;
    for (int i = 0; i < params->count; i++) {
        nn_drop(params->nn, params->rows[i].tensor);
        free((char *)params->rows[i].name);
    }
    free(params->rows);
    free(params->sorted);
    free(params);
}

struct nn *nn_params_context(const struct nn_params *params)
{
    return params->nn;
}

/* ---- declaring ------------------------------------------------------------------------------------------------ */

void nn_params_enter(struct nn_params *params, const char *format, ...)
{
    size_t used = strlen(params->prefix), room = PREFIX_MAX - used;
    if (params->levels == LEVELS_MAX) {
        nn_fail(params->nn, WS2_ERR_USAGE, "parameter names nest too deeply");
        return;
    }
    params->level[params->levels++] = used;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(params->prefix + used, room, format, args);
    va_end(args);
    if (length < 0 || (size_t)length + 2 > room)
        nn_fail(params->nn, WS2_ERR_USAGE, "a parameter name is too long");
    else if (length > 0)
        memcpy(params->prefix + used + length, ".", 2);
}

void nn_params_leave(struct nn_params *params)
{
    if (params->levels > 0)
        params->prefix[params->level[--params->levels]] = 0;
}

/* Where name stands in the sorted order; *found tells whether it is there. */
static int position(const struct nn_params *params, const char *name, bool *found)
{
    int low = 0, high = params->count;
    *found = false;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(params->rows[params->sorted[middle]].name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int grow(struct nn_params *params)
{
    if (params->count < params->capacity)
        return 0;
    int capacity = params->capacity ? 2 * params->capacity : 64;
    struct nn_param *rows = realloc(params->rows, (size_t)capacity * sizeof(*rows));
    if (!rows)
        return WS2_ERR_SYSTEM;
    params->rows = rows;
    int *sorted = realloc(params->sorted, (size_t)capacity * sizeof(*sorted));
    if (!sorted)
        return WS2_ERR_SYSTEM;
    params->sorted = sorted;
    params->capacity = capacity;
    return 0;
}

struct nn_tensor *nn_declare(struct nn_params *params, enum nn_kind kind, const char *name,
                             struct ws2_shape shape, struct nn_init init)
{
    char full[PREFIX_MAX + 128];
    int length = snprintf(full, sizeof(full), "%s%s", params->prefix, name);
    if (length < 0 || (size_t)length >= sizeof(full))
        return nn_fail(params->nn, WS2_ERR_USAGE, "a parameter name is too long");
    bool found;
    int place = position(params, full, &found);
    if (found)
        return nn_fail(params->nn, WS2_ERR_USAGE, "parameter '%s' is declared twice", full);
    char *kept = strdup(full);
    if (!kept || grow(params) < 0) {
        free(kept);
        return nn_fail(params->nn, WS2_ERR_SYSTEM, "out of memory");
    }
    bool trained = kind == NN_WEIGHT || kind == NN_BIAS;
    enum nn_dtype dtype = kind == NN_COUNTER ? NN_I64 : nn_working_dtype(params->nn);
    struct nn_tensor *tensor = nn_new_parameter(params->nn, shape, dtype, trained);
    memmove(params->sorted + place + 1, params->sorted + place,
            (size_t)(params->count - place) * sizeof(*params->sorted));
    params->sorted[place] = params->count;
    params->rows[params->count++] = (struct nn_param){
        .name = kept, .kind = kind, .shape = shape, .init = init, .tensor = tensor, .trained = trained};
    return tensor;
}

/* ---- looking ---------------------------------------------------------------------------------------------------- */

int nn_params_count(const struct nn_params *params)
{
    return params->count;
}

const struct nn_param *nn_params_at(const struct nn_params *params, int index)
{
    return index >= 0 && index < params->count ? &params->rows[index] : NULL;
}

int nn_params_find(const struct nn_params *params, const char *name)
{
    bool found;
    int place = position(params, name, &found);
    return found ? params->sorted[place] : -1;
}

static size_t elements(const struct nn_param *row)
{
    size_t count = 0;
    ws2_shape_count(&row->shape, &count);
    return count;
}

static bool is_learnt(const struct nn_param *row)
{
    return row->kind == NN_WEIGHT || row->kind == NN_BIAS;
}

int64_t nn_params_elements(const struct nn_params *params)
{
    int64_t sum = 0;
    for (int i = 0; i < params->count; i++)
        if (is_learnt(&params->rows[i]))
            sum += (int64_t)elements(&params->rows[i]);
    return sum;
}

/* A name, or a prefix that ends in '*'. */
static bool matches(const char *pattern, const char *name)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*')
        return strncmp(pattern, name, length - 1) == 0;
    return strcmp(pattern, name) == 0;
}

int nn_params_set_trained(struct nn_params *params, const char *pattern, bool trained)
{
    int count = 0;
    for (int i = 0; i < params->count; i++) {
        struct nn_param *row = &params->rows[i];
        if (!is_learnt(row) || !matches(pattern, row->name))
            continue;
        nn_requires_grad(params->nn, row->tensor, trained);
        row->trained = trained;
        count++;
    }
    return count;
}

int nn_params_set_group(struct nn_params *params, const char *pattern, int group)
{
    int count = 0;
    for (int i = 0; i < params->count; i++) {
        if (matches(pattern, params->rows[i].name)) {
            params->rows[i].group = group;
            count++;
        }
    }
    return count;
}

void nn_param_set_group(struct nn_params *params, int index, int group)
{
    if (index >= 0 && index < params->count)
        params->rows[index].group = group;
}

/* ---- values -------------------------------------------------------------------------------------------------------- */

int nn_params_fill(struct nn_params *params, int index, const float *data, size_t count)
{
    const struct nn_param *row = nn_params_at(params, index);
    struct nn *nn = params->nn;
    if (!row || elements(row) != count)
        nn_fail(nn, WS2_ERR_USAGE, "nn_params_fill: wrong index or count");
    nn_scope_begin(nn);
    if (!nn_error(nn))
        nn_assign(nn, row->tensor, nn_from_f32(nn, row->shape, data));
    nn_scope_end(nn);
    return nn_check(nn, NULL);
}

/* Inputs and outputs of one element of a weight [out, in, ...]. */
static void fans(const struct ws2_shape *shape, double *in, double *out)
{
    double area = 1;
    for (int i = 2; i < shape->rank; i++)
        area *= (double)shape->dim[i];
    *in = shape->rank > 1 ? (double)shape->dim[1] * area : 1;
    *out = shape->rank > 0 ? (double)shape->dim[0] * area : 1;
}

static double truncated_normal(struct ws2_random *random)
{
    for (;;) {
        double z = ws2_random_normal(random);
        if (z >= -2 && z <= 2)
            return z;
    }
}

static void draw(const struct nn_param *row, struct ws2_random *random, double *value, size_t count)
{
    double in, out, value_of = row->init.value, bound = 0;
    fans(&row->shape, &in, &out);
    switch (row->init.rule) {
    case NN_INIT_CONSTANT:
        for (size_t i = 0; i < count; i++)
            value[i] = value_of;
        return;
    case NN_INIT_NORMAL:
        for (size_t i = 0; i < count; i++)
            value[i] = value_of * ws2_random_normal(random);
        return;
    case NN_INIT_TRUNC_NORMAL:
        for (size_t i = 0; i < count; i++)
            value[i] = value_of * truncated_normal(random);
        return;
    case NN_INIT_KAIMING_OUT:
        for (size_t i = 0; i < count; i++)
            value[i] = sqrt(2 / out) * ws2_random_normal(random);
        return;
    case NN_INIT_UNIFORM:
        bound = value_of;
        break;
    case NN_INIT_XAVIER_UNIFORM:
        bound = sqrt(6 / (in + out));
        break;
    case NN_INIT_DEFAULT:
        bound = 1 / sqrt(row->shape.rank > 1 ? in : fmax(value_of, 1));
        break;
    }
    for (size_t i = 0; i < count; i++)
        value[i] = ws2_random_range(random, -bound, bound);
}

/* A generator for one name: 64 bits made of two FNV hashes. */
static struct ws2_random stream_of(uint64_t seed, const char *name)
{
    size_t length = strlen(name);
    uint64_t low = ws2_fnv1a(name, length);
    uint64_t high = ws2_fnv1a(&low, sizeof(low));
    return ws2_random_make(seed, high << 32 | low);
}

static void init_row(struct nn *nn, const struct nn_param *row, uint64_t seed)
{
    size_t count = elements(row);
    double *value = ws2_calloc(count, sizeof(*value));
    if (!value) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
        return;
    }
    struct ws2_random random = stream_of(seed, row->name);
    draw(row, &random, value, count);
    nn_scope_begin(nn);
    nn_assign(nn, row->tensor, nn_from_f64(nn, row->shape, value));
    nn_scope_end(nn);
    free(value);
}

int nn_params_init(struct nn_params *params, uint64_t seed)
{
    for (int i = 0; i < params->count && !nn_error(params->nn); i++)
        init_row(params->nn, &params->rows[i], seed);
    return nn_check(params->nn, NULL);
}

/* The row of `from` that fits row i of `to`, or NULL with the error set. */
static const struct nn_param *twin(struct nn_params *to, const struct nn_params *from, int i)
{
    const struct nn_param *row = &to->rows[i];
    const struct nn_param *other = nn_params_at(from, nn_params_find(from, row->name));
    if (!other || !ws2_shape_equal(&row->shape, &other->shape)) {
        nn_fail(to->nn, WS2_ERR_USAGE, "networks differ at '%s'", row->name);
        return NULL;
    }
    return other;
}

int nn_params_share(struct nn_params *to, const struct nn_params *from)
{
    if (to->count != from->count)
        nn_fail(to->nn, WS2_ERR_USAGE, "networks differ in their number of parameters");
    for (int i = 0; i < to->count && !nn_error(to->nn); i++) {
        const struct nn_param *other = twin(to, from, i);
        if (other)
            nn_share(to->nn, to->rows[i].tensor, other->tensor);
    }
    return nn_check(to->nn, NULL);
}

/* ---- gradients ------------------------------------------------------------------------------------------------------ */

void nn_params_zero_grad(struct nn_params *params)
{
    for (int i = 0; i < params->count; i++)
        if (nn_has_leaf_grad(params->rows[i].tensor))
            nn_clear_grad(params->nn, params->rows[i].tensor);
}

double nn_params_clip_grad(struct nn_params *params, double max)
{
    struct nn_tensor **list = ws2_calloc((size_t)params->count, sizeof(*list));
    int count = 0;
    if (!list) {
        nn_fail(params->nn, WS2_ERR_SYSTEM, "out of memory");
        return NAN;
    }
    for (int i = 0; i < params->count; i++)
        if (params->rows[i].trained && nn_has_leaf_grad(params->rows[i].tensor))
            list[count++] = params->rows[i].tensor;
    double norm = nn_clip_grads(params->nn, list, count, max);
    free(list);
    return norm;
}

/* ---- loading ----------------------------------------------------------------------------------------------------------- */

static bool skipped(const struct nn_load_options *options, const char *name)
{
    for (int i = 0; options && i < NN_SKIP_MAX && options->skip[i]; i++)
        if (matches(options->skip[i], name))
            return true;
    return false;
}

static const char *prefix_of(const struct nn_load_options *options)
{
    return options && options->prefix ? options->prefix : "";
}

/* The file's tensor for one of our names; -1 when it is not there. */
static int file_index(const struct nn_weights *weights, const char *prefix, const char *name)
{
    char full[2 * PREFIX_MAX];
    int length = snprintf(full, sizeof(full), "%s%s", prefix, name);
    return length < 0 || (size_t)length >= sizeof(full) ? -1 : nn_weights_find(weights, full);
}

static int check_ours(const struct nn_params *params, const struct nn_weights *weights,
                      const struct nn_load_options *options, struct ws2_error *error)
{
    for (int i = 0; i < params->count; i++) {
        const struct nn_param *row = &params->rows[i];
        char want[128], have[128];
        if (skipped(options, row->name))
            continue;
        int index = file_index(weights, prefix_of(options), row->name);
        ws2_shape_text(&row->shape, want, sizeof(want));
        if (index < 0 && row->kind == NN_COUNTER)
            continue;
        if (index < 0)
            return ws2_fail(error, WS2_ERR_MODEL, "the file has no '%s%s' (wanted %s)", prefix_of(options),
                            row->name, want);
        const struct nn_weight *found = nn_weights_at(weights, index);
        ws2_shape_text(&found->shape, have, sizeof(have));
        if (!ws2_shape_equal(&found->shape, &row->shape))
            return ws2_fail(error, WS2_ERR_MODEL, "'%s%s': wanted %s, found %s", prefix_of(options),
                            row->name, want, have);
        bool integer = found->dtype >= NN_U8;
        if (integer != (row->kind == NN_COUNTER))
            return ws2_fail(error, WS2_ERR_MODEL, "'%s%s': elements are %s", prefix_of(options), row->name,
                            nn_dtype_name(found->dtype));
    }
    return 0;
}

/* Names of the file that nobody takes. */
static int check_theirs(const struct nn_params *params, const struct nn_weights *weights,
                        const struct nn_load_options *options, int *ignored, struct ws2_error *error)
{
    const char *prefix = prefix_of(options);
    size_t length = strlen(prefix);
    *ignored = 0;
    for (int i = 0; i < nn_weights_count(weights); i++) {
        const struct nn_weight *found = nn_weights_at(weights, i);
        char have[128];
        if (strncmp(found->name, prefix, length) != 0 || skipped(options, found->name + length)) {
            ++*ignored;
            continue;
        }
        if (nn_params_find(params, found->name + length) < 0)
            return ws2_fail(error, WS2_ERR_MODEL, "the file holds '%s' %s, which this network does not have",
                            found->name, ws2_shape_text(&found->shape, have, sizeof(have)));
    }
    return 0;
}

static int load_counter(struct nn *nn, const struct nn_param *row, const struct nn_weights *weights,
                        int index, struct ws2_error *error)
{
    int64_t value = 0;
    int status = index < 0 ? 0 : nn_weights_read_i64(weights, index, &value, 1, error);
    if (status == 0)
        nn_assign(nn, row->tensor, nn_from_i64(nn, row->shape, &value));
    return status;
}

static int load_row(struct nn *nn, const struct nn_param *row, const struct nn_weights *weights, int index,
                    struct ws2_error *error)
{
    size_t count = elements(row);
    double *value = ws2_calloc(count, sizeof(*value));
    if (!value)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status;
    if (nn_working_dtype(nn) == NN_F64) {
        status = nn_weights_read_f64(weights, index, value, count, error);
        if (status == 0)
            nn_assign(nn, row->tensor, nn_from_f64(nn, row->shape, value));
    } else {
        float *narrow = (float *)(void *)value;
        status = nn_weights_read_f32(weights, index, narrow, count, error);
        if (status == 0)
            nn_assign(nn, row->tensor, nn_from_f32(nn, row->shape, narrow));
    }
    free(value);
    return status;
}

static void describe(const struct nn_params *params, const struct nn_load_options *options,
                     struct nn_load_report *report)
{
    size_t size = sizeof(report->text);
    size_t used = (size_t)snprintf(report->text, size, "%d tensors loaded", report->loaded);
    if (report->skipped > 0)
        used += (size_t)snprintf(report->text + used, size - used, "; kept own");
    for (int i = 0, shown = 0; i < params->count && used < size && shown < report->skipped; i++) {
        if (!skipped(options, params->rows[i].name))
            continue;
        if (shown++ == 4) {
            used += (size_t)snprintf(report->text + used, size - used, " ...");
            break;
        }
        used += (size_t)snprintf(report->text + used, size - used, " %s", params->rows[i].name);
    }
    if (report->ignored > 0 && used < size)
        used += (size_t)snprintf(report->text + used, size - used, "; %d of the file left alone",
                                 report->ignored);
    if (report->counters_zero > 0 && used < size)
        snprintf(report->text + used, size - used, "; %d batch counters set to 0", report->counters_zero);
}

int nn_params_load(struct nn_params *params, const struct nn_weights *weights,
                   const struct nn_load_options *options, struct nn_load_report *report,
                   struct ws2_error *error)
{
    struct nn *nn = params->nn;
    struct nn_load_report count = {0};
    int status = nn_check(nn, error);
    if (status == 0)
        status = check_ours(params, weights, options, error);
    if (status == 0)
        status = check_theirs(params, weights, options, &count.ignored, error);
    for (int i = 0; status == 0 && i < params->count; i++) {
        struct nn_param *row = &params->rows[i];
        row->loaded = false;
        if (skipped(options, row->name)) {
            count.skipped++;
            continue;
        }
        int index = file_index(weights, prefix_of(options), row->name);
        nn_scope_begin(nn);
        if (row->kind == NN_COUNTER)
            status = load_counter(nn, row, weights, index, error);
        else
            status = load_row(nn, row, weights, index, error);
        nn_scope_end(nn);
        row->loaded = index >= 0;
        count.loaded += index >= 0;
        count.counters_zero += index < 0;
        if (status == 0)
            status = nn_check(nn, error);
    }
    describe(params, options, &count);
    if (report)
        *report = count;
    return status;
}

/* ---- saving ---------------------------------------------------------------------------------------------------------------- */

static int save_row(struct nn *nn, const struct nn_param *row, struct nn_saver *saver, const char *name)
{
    size_t count = elements(row);
    uint8_t *bytes = ws2_calloc(count, sizeof(double));
    if (!bytes)
        return WS2_ERR_SYSTEM;
    enum nn_dtype dtype = nn_dtype(row->tensor);
    int status;
    if (dtype == NN_I64)
        status = nn_to_i64(nn, row->tensor, (int64_t *)(void *)bytes, count);
    else if (dtype == NN_F64)
        status = nn_to_f64(nn, row->tensor, (double *)(void *)bytes, count);
    else
        status = nn_to_f32(nn, row->tensor, (float *)(void *)bytes, count);
    if (status == 0)
        status = nn_saver_add(saver, name, dtype, row->shape, bytes, count * nn_dtype_size(dtype));
    free(bytes);
    return status;
}

int nn_params_save(const struct nn_params *params, struct nn_saver *saver, const char *prefix)
{
    int status = nn_check(params->nn, NULL);
    for (int i = 0; status == 0 && i < params->count; i++) {
        char name[2 * PREFIX_MAX];
        int length = snprintf(name, sizeof(name), "%s%s", prefix ? prefix : "", params->rows[i].name);
        if (length < 0 || (size_t)length >= sizeof(name))
            status = WS2_ERR_USAGE;
        else
            status = save_row(params->nn, &params->rows[i], saver, name);
    }
    return status;
}

int nn_params_digest(const struct nn_params *params, char text[NN_DIGEST_SIZE], struct ws2_error *error)
{
    struct nn_digest *digest = nn_digest_new();
    int status = digest ? nn_check(params->nn, error) : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int k = 0; status == 0 && k < params->count; k++) {
        const struct nn_param *row = &params->rows[params->sorted[k]];
        size_t count = elements(row);
        if (row->kind == NN_COUNTER)
            continue;
        double *value = ws2_calloc(count, sizeof(*value));
        if (!value) {
            status = ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
            break;
        }
        enum nn_dtype dtype = nn_dtype(row->tensor);
        if (dtype == NN_F64)
            nn_to_f64(params->nn, row->tensor, value, count);
        else
            nn_to_f32(params->nn, row->tensor, (float *)(void *)value, count);
        nn_digest_add(digest, row->name, dtype, &row->shape, (const uint8_t *)value,
                      count * nn_dtype_size(dtype));
        status = nn_check(params->nn, error);
        free(value);
    }
    nn_digest_finish(digest, text);
    return status;
}
