/*
 * Resident memory of a training at step 10 and at step 1000: losses, gradients and optimiser of ResNet-18 on small
 * pictures, as lib/train runs them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "models/resnet.h"
#include "train/train.h"

enum { SIDE = 32, BATCH = 4, STEPS = 1000, EARLY = 10 };

static void step(const struct ws2_classifier *net, struct nn_optim *optim, struct ws2_random *random)
{
    static uint8_t rgb[BATCH * SIDE * SIDE * 3];
    const struct ws2_loss_options loss = {.method = WS2_METHOD_PUZZLE, .alpha = 2};
    struct nn *nn = nn_params_context(net->params);
    int64_t label[BATCH];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)ws2_random_u64(random);
    for (int i = 0; i < BATCH; i++)
        label[i] = ws2_random_below(random, net->classes);
    nn_scope_begin(nn);
    struct nn_tensor *x = nn_images_u8(nn, BATCH, SIDE, SIDE, rgb, nn_imagenet_mean, nn_imagenet_std);
    const struct ws2_pictures pictures = {.centre = x, .label = label};
    const struct ws2_terms terms = ws2_loss_terms(net, &loss, &pictures, true, 1);
    nn_params_zero_grad(net->params);
    nn_backward(nn, terms.total);
    nn_optim_step(optim, 1e-3);
    nn_scope_end(nn);
}

static void print(const struct nn *nn, int at)
{
    printf("memory of a training at step %d\t%.1f\tMiB\n", at, (double)nn_memory_used(nn) / (1 << 20));
}

int main(void)
{
    struct ws2_error error = {0};
    struct nn *nn;
    const struct nn_options options = {.device = NN_DEVICE_CPU,
                                       .threads = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    if (nn_open(&nn, &options, &error) < 0) {
        fprintf(stderr, "nn_bench_memory: %s\n", error.text);
        return 1;
    }
    struct nn_params *params = nn_params_new(nn);
    const struct resnet_options shape = {
        .depth = 18, .stride = RESNET_STRIDE_16, .head = RESNET_HEAD_MAPS, .classes = 3};
    struct resnet *model = resnet_new(params, &shape);
    struct ws2_random random = ws2_random_make(0, 0);
    const struct ws2_optimiser_options optimiser = {WS2_OPTIMISER_SCRATCH, 1e-3, 0.9, 1e-4};
    struct ws2_plan plan;
    nn_params_init(params, 0);
    if (ws2_plan_make(&plan, &optimiser, WS2_METHOD_PUZZLE, false, params, "classifier.*", &error) < 0 ||
        nn_check(nn, &error) < 0) {
        fprintf(stderr, "nn_bench_memory: %s\n", error.text);
        return 1;
    }
    struct nn_optim *optim = nn_optim_new(params, &plan.optim);
    const struct ws2_classifier net = {model, params, 3, resnet_classify};
    for (int at = 1; at <= STEPS && nn_error(nn) == NULL; at++) {
        step(&net, optim, &random);
        if (at == EARLY || at == STEPS)
            print(nn, at);
    }
    const int bad = nn_check(nn, &error) < 0;
    if (bad)
        fprintf(stderr, "nn_bench_memory: %s\n", error.text);
    nn_optim_free(optim);
    resnet_free(model);
    nn_params_free(params);
    nn_close(nn);
    return bad;
}
