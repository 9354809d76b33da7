/* Comparing tensors with a fixture of tests/golden. */
#ifndef WS2_TEST_GOLDEN_H
#define WS2_TEST_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "nn/nn.h"

static inline struct nn_weights *golden_open(const char *path)
{
    struct nn_weights *weights;
    struct ws2_error error = {0};
    if (nn_weights_open(&weights, path, NULL, &error) < 0)
        fail_msg("%s", error.text);
    return weights;
}

/* 1e-9 in float64. In float32 1e-4, or where torchvision's own float32 is further off than half of that, twice its
 * distance (NAME.f32 in the fixture). */
static inline double golden_limit(struct nn *nn, const struct nn_weights *weights, const char *name)
{
    char key[128];
    double theirs;
    if (nn_precision(nn) == NN_F64_MODE)
        return 1e-9;
    snprintf(key, sizeof(key), "%s.f32", name);
    assert_int_equal(nn_weights_read_f64(weights, nn_weights_find(weights, key), &theirs, 1, NULL), 0);
    return fmax(1e-4, 2 * theirs);
}

/* max |a - b| / max(1, max |b|) over every step-th element of x, from the first on. */
static inline void golden_compare(struct nn *nn, const struct nn_weights *weights, const char *name,
                                  struct nn_tensor *x, size_t step)
{
    int index = nn_weights_find(weights, name);
    if (index < 0 || !x)
        fail_msg("%s: %s", name, x ? "not in the fixture" : nn_error(nn));
    struct ws2_shape shape = nn_weights_at(weights, index)->shape;
    size_t want_count, count = (size_t)nn_count(x);
    assert_true(ws2_shape_count(&shape, &want_count));
    assert_true((want_count - 1) * step < count);
    double *want = ws2_calloc(want_count, sizeof(*want)), *got = ws2_calloc(count, sizeof(*got));
    double largest = 1, worst = 0, limit = golden_limit(nn, weights, name);
    assert_int_equal(nn_weights_read_f64(weights, index, want, want_count, NULL), 0);
    assert_int_equal(nn_to_f64(nn, x, got, count), 0);
    for (size_t i = 0; i < want_count; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs(got[i * step] - want[i]));
    }
    free(want);
    free(got);
    if (!(worst / largest <= limit))
        fail_msg("%s: differs by %g", name, worst / largest);
}

#endif
