/*
 * Probes: networks whose weights and inputs follow from their names, and seven numbers of what comes out. The fill
 * rule is a hash of the key and the element's number.
 */
#ifndef WS2_TEST_PROBE_H
#define WS2_TEST_PROBE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "generator.h"

static inline double probe_value(const char *name, const struct ws2_shape *shape, double u)
{
    double v = 2 * u - 1, fan = 1;
    for (int i = 1; i < shape->rank; i++)
        fan *= (double)shape->dim[i];
    if (generator_ends(name, "running_var"))
        return 0.5 + u;
    if (generator_ends(name, "running_mean"))
        return 0.1 * v;
    if (shape->rank <= 1)
        return generator_ends(name, "weight") ? 1 + 0.1 * v : 0.1 * v;
    return generator_ends(name, "weight") ? v * sqrt(3 / fan) : 0.2 * v;
}

static inline void probe_fill(struct nn_params *params)
{
    for (int p = 0; p < nn_params_count(params); p++) {
        const struct nn_param *row = nn_params_at(params, p);
        size_t count;
        assert_true(ws2_shape_count(&row->shape, &count));
        if (row->kind == NN_COUNTER)
            continue;
        uint32_t hash = ws2_fnv1a(row->name, strlen(row->name));
        float *value = ws2_calloc(count, sizeof(*value));
        assert_non_null(value);
        for (size_t i = 0; i < count; i++)
            value[i] = (float)probe_value(row->name, &row->shape, probe_uniform(hash, (uint32_t)i));
        assert_int_equal(nn_params_fill(params, p, value, count), 0);
        free(value);
    }
}

static inline struct nn_tensor *probe_input(struct nn *nn, const char *key, int64_t size)
{
    size_t count = (size_t)(3 * size * size);
    uint32_t hash = ws2_fnv1a(key, strlen(key));
    float *value = ws2_calloc(count, sizeof(*value));
    assert_non_null(value);
    for (size_t i = 0; i < count; i++)
        value[i] = (float)(2 * probe_uniform(hash, (uint32_t)i) - 1);
    struct nn_tensor *x = nn_from_f32(nn, ws2_shape_4(1, 3, size, size), value);
    free(value);
    return x;
}

/* Mean, population deviation, largest magnitude, elements 0, n/3, n/2, n-1. */
struct probe_numbers {
    double value[7];
};

static inline struct probe_numbers probe_measure(struct nn *nn, struct nn_tensor *x)
{
    struct probe_numbers r = {{0}};
    if (!x)
        fail_msg("%s", nn_error(nn));
    size_t n = (size_t)nn_count(x);
    double *v = ws2_calloc(n, sizeof(*v)), square = 0;
    assert_int_equal(nn_to_f64(nn, x, v, n), 0);
    for (size_t i = 0; i < n; i++) {
        r.value[0] += v[i] / (double)n;
        r.value[2] = fmax(r.value[2], fabs(v[i]));
    }
    for (size_t i = 0; i < n; i++)
        square += (v[i] - r.value[0]) * (v[i] - r.value[0]) / (double)n;
    r.value[1] = sqrt(square);
    r.value[3] = v[0];
    r.value[4] = v[n / 3];
    r.value[5] = v[n / 2];
    r.value[6] = v[n - 1];
    free(v);
    return r;
}

/* In float64 the table's seven digits are the limit, in float32 its 1e-4. */
static inline void probe_compare(struct nn *nn, const char *what, struct nn_tensor *x, const double want[7])
{
    struct probe_numbers got = probe_measure(nn, x);
    double relative = nn_precision(nn) == NN_F64_MODE ? 6e-7 : 1e-4;
    for (int i = 0; i < 7; i++)
        if (!(fabs(got.value[i] - want[i]) <= relative * fmax(fabs(want[i]), 1e-2)))
            fail_msg("%s, number %d: %.10g is not %.10g", what, i, got.value[i], want[i]);
}

#endif
