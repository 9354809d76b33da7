/* What programs that run a network share. */
#ifndef TOOLS_NETWORK_H
#define TOOLS_NETWORK_H

#include "cli/cli.h"
#include "nn/nn.h"

static inline void must(int status, const struct ws2_error *error)
{
    if (status < 0)
        ws2_die(error);
}

/* The context that --device and --precision ask for, with so many computing threads; dies where that is not to be had.
 * Afterwards common says what `auto` came to. */
static inline struct nn *network_context(struct ws2_common *common, int threads)
{
    struct ws2_error error = {0};
    struct nn_options options = {.threads = threads};
    struct nn *nn;
    if (nn_device_parse(common->device, &options.device, &options.device_index) < 0)
        ws2_die_text(WS2_ERR_USAGE, "--device: '%s' is none of cpu, cuda, cuda:N, auto", common->device);
    nn_precision_parse(common->precision, &options.precision);
    must(nn_open(&nn, &options, &error), &error);
    common->device = nn_device(nn) == NN_DEVICE_CUDA ? "cuda" : "cpu";
    common->precision = nn_precision_name(nn_precision(nn));
    return nn;
}

#endif
