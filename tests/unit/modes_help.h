/* Tests that run in every mode of the CPU, and what they have in common. */
#ifndef WS2_TEST_MODES_HELP_H
#define WS2_TEST_MODES_HELP_H

#include "golden.h"

static const struct nn_options modes[] = {
    {.device = NN_DEVICE_CPU, .precision = NN_F64_MODE, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_FIRST, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_LAST, .threads = 1},
};
enum { MODES = sizeof modes / sizeof *modes };

static inline void must_be_good(int status, const struct ws2_error *error)
{
    if (status < 0)
        fail_msg("%s", error->text);
}

static inline struct nn *open_nn(const struct nn_options *options)
{
    struct nn *nn;
    struct ws2_error error = {0};
    must_be_good(nn_open(&nn, options, &error), &error);
    return nn;
}

static inline void close_nn(struct nn *nn)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
    nn_close(nn);
}

/* The fixture's numbers of a name; the caller frees them. */
static inline double *read_golden(const char *path, const char *name, size_t count)
{
    struct nn_weights *weights = golden_open(path);
    struct ws2_error error = {0};
    double *out = ws2_calloc(count, sizeof *out);
    must_be_good(nn_weights_read_f64(weights, nn_weights_find(weights, name), out, count, &error), &error);
    nn_weights_close(weights);
    return out;
}

static inline void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("%.15g is not %.15g", got, want);
}

#endif
