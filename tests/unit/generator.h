/* Networks filled with the numbers of the golden fixtures. */
#ifndef WS2_TEST_GENERATOR_H
#define WS2_TEST_GENERATOR_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture_help.h"
#include "nn/nn.h"

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
