/* The number generator of the golden fixtures, as in tests/golden/generator.py. */
#ifndef WS2_TEST_GENERATOR_H
#define WS2_TEST_GENERATOR_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"

static inline uint32_t generator_next(uint32_t *state)
{
    return *state = *state * 1664525u + 1013904223u;
}

static inline void generator_values(const char *key, double *out, size_t count, double bound)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        out[i] = ((double)(generator_next(&state) >> 8) / 16777216.0 - 0.5) * 2 * bound;
}

/* u8 [height,width,3], the top byte of each state. */
static inline void generator_image(const char *key, uint8_t *rgb, size_t count)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        rgb[i] = (uint8_t)(generator_next(&state) >> 24);
}

static inline bool generator_ends(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Fills every parameter; rename (may be NULL) gives the key that the reference uses for a name of ours. */
static inline int generator_fill(struct nn_params *params, const char *(*rename)(const char *name))
{
    for (int p = 0; p < nn_params_count(params); p++) {
        const struct nn_param *param = nn_params_at(params, p);
        const char *key = rename ? rename(param->name) : param->name;
        size_t count;
        if (param->kind == NN_COUNTER || !ws2_shape_count(&param->shape, &count))
            continue;
        double *value = ws2_calloc(count, sizeof *value);
        float *single = ws2_calloc(count, sizeof *single);
        double fan_in = 1;
        for (int a = 1; a < param->shape.rank; a++)
            fan_in *= (double)param->shape.dim[a];
        const bool norm = param->shape.rank == 1 && generator_ends(key, "weight");
        const bool mean = generator_ends(key, "running_mean"), var = generator_ends(key, "running_var");
        generator_values(key, value, count,
                         var                               ? 0.5
                         : norm                            ? 0.2
                         : param->shape.rank >= 2 && !mean ? sqrt(6 / fan_in)
                                                           : 0.1);
        for (size_t i = 0; i < count; i++)
            single[i] = (float)(var ? 1 + fabs(value[i]) : norm ? 1 + value[i] : value[i]);
        const int status = nn_params_fill(params, p, single, count);
        free(value);
        free(single);
        if (status < 0)
            return status;
    }
    return 0;
}

#endif
