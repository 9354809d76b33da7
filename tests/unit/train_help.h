/* What the tests of training share: numbers of the golden file, gradients, and small networks. */
#ifndef WS2_TEST_TRAIN_HELP_H
#define WS2_TEST_TRAIN_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generator.h"
#include "golden.h"
#include "train/train.h"

#define GOLDEN "tests/golden/train_steps.safetensors"

static inline void golden_f64(const char *name, double *out, size_t count)
{
    struct nn_weights *weights = golden_open(GOLDEN);
    struct ws2_error error = {0};
    const int index = nn_weights_find(weights, name);
    if (index < 0)
        fail_msg("%s lacks %s", GOLDEN, name);
    if (nn_weights_read_f64(weights, index, out, count, &error) < 0)
        fail_msg("%s", error.text);
    nn_weights_close(weights);
}

static inline void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%.9g is not %.9g within %g", got, want, tolerance);
}

static inline struct nn *open_nn(enum nn_precision precision)
{
    struct nn *nn;
    struct ws2_error error = {0};
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = precision, .threads = 1};
    if (nn_open(&nn, &options, &error) < 0)
        fail_msg("%s", error.text);
    return nn;
}

static inline void assert_good(struct nn *nn)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
}

/* One convolution `kernel` x `kernel` without bias, and the class convolution: a network for puzzles. */
struct toy {
    struct nn *nn;
    struct nn_params *params;
    struct nn_tensor *body, *head;
    struct nn_bn bn;
    bool normalise, pool;
    int kernel;
};

static inline struct nn_tensor *toy_features(const struct toy *toy, struct nn_tensor *images, bool training)
{
    struct nn_tensor *x = nn_conv2d(toy->nn, images, toy->body, NULL, nn_conv_square(1, toy->kernel / 2, 1));
    if (toy->normalise)
        x = nn_bn_apply(toy->nn, &toy->bn, x, training, true);
    return toy->pool ? nn_avg_pool2d(toy->nn, x, 2, 2, 0) : x;
}

static inline struct nn_tensor *toy_maps(const struct toy *toy, struct nn_tensor *features)
{
    return nn_conv2d(toy->nn, features, toy->head, NULL, nn_conv_square(1, 0, 1));
}

static inline void toy_forward(void *model, struct nn_tensor *images, bool training,
                               struct nn_tensor **logits, struct nn_tensor **maps)
{
    const struct toy *toy = model;
    *maps = toy_maps(toy, toy_features(toy, images, training));
    *logits = nn_global_avg_pool(toy->nn, *maps);
}

static inline struct ws2_classifier toy_open(struct toy *toy, struct nn *nn, int kernel, int classes,
                                             bool trainable)
{
    *toy = (struct toy){.nn = nn, .kernel = kernel, .normalise = trainable, .pool = trainable};
    toy->params = nn_params_new(nn);
    toy->body = nn_declare(toy->params, NN_WEIGHT, "body.weight", ws2_shape_4(8, 3, kernel, kernel),
                           nn_init_make(NN_INIT_KAIMING_OUT, 0));
    if (trainable)
        toy->bn = nn_bn_declare(toy->params, "bn", 8);
    toy->head = nn_declare(toy->params, NN_WEIGHT, "classifier.weight", ws2_shape_4(classes, 8, 1, 1),
                           nn_init_make(NN_INIT_NORMAL, 0.3));
    assert_int_equal(nn_params_init(toy->params, 7), 0);
    return (struct ws2_classifier){toy, toy->params, classes, toy_forward};
}

/* Against METHOD.grad.NAME and METHOD.norm.NAME of the golden file. */
static inline void check_gradient(const struct nn_params *params, const char *method, const char *name)
{
    char key[96];
    double want[8], norm, sum = 0;
    const struct nn_param *param = nn_params_at(params, nn_params_find(params, name));
    const size_t count = (size_t)nn_count(param->tensor);
    struct nn *nn = nn_params_context(params);
    double *got = calloc(count, sizeof *got);
    nn_to_f64(nn, nn_leaf_grad(nn, param->tensor), got, count);
    snprintf(key, sizeof key, "%s.grad.%s", method, name);
    golden_f64(key, want, 8);
    snprintf(key, sizeof key, "%s.norm.%s", method, name);
    golden_f64(key, &norm, 1);
    for (size_t i = 0; i < count; i++)
        sum += got[i] * got[i];
    assert_near(sqrt(sum), norm, 1e-5);
    for (int i = 0; i < 8; i++)
        assert_near(got[i], want[i], 1e-5);
    free(got);
}

/* Gradients of the first step of METHOD, and the running mean after its passes, against the golden file. */
static inline void check_first_step(const struct nn_params *params, const char *method)
{
    static const char *const name[] = {"conv1.weight", "bn1.bias", "layer2.0.downsample.0.weight",
                                       "layer4.1.conv2.weight", "classifier.weight"};
    char key[32];
    double want[8], got[64];
    for (int i = 0; i < 5; i++)
        check_gradient(params, method, name[i]);
    snprintf(key, sizeof key, "%s.mean", method);
    golden_f64(key, want, 8);
    nn_to_f64(nn_params_context(params),
              nn_params_at(params, nn_params_find(params, "bn1.running_mean"))->tensor, got, 64);
    for (int i = 0; i < 8; i++)
        assert_near(got[i], want[i], 1e-6);
}

/* Maps of three equal planes: the brightness of the picture, 0 for black, `cell` pixels a cell. */
struct bright {
    struct nn_params *params;
    int cell;
};

static inline void bright_forward(void *model, struct nn_tensor *images, bool training,
                                  struct nn_tensor **logits, struct nn_tensor **maps)
{
    const struct bright *bright = model;
    struct nn *nn = nn_params_context(bright->params);
    (void)training;
    struct nn_tensor *weight = nn_from_f32(nn, ws2_shape_4(1, 3, 1, 1), nn_imagenet_std);
    struct nn_tensor *x = nn_conv2d(nn, images, weight, NULL, nn_conv_square(1, 0, 1));
    double mean = 0;
    for (int c = 0; c < 3; c++)
        mean += nn_imagenet_mean[c];
    x = nn_avg_pool2d(nn, nn_add_scalar(nn, x, mean), bright->cell, bright->cell, 0);
    *maps = nn_repeat(nn, x, ws2_shape_4(1, 3, 1, 1));
    *logits = nn_global_avg_pool(nn, *maps);
}

static inline struct ws2_classifier bright_open(struct bright *bright, struct nn *nn, int cell)
{
    *bright = (struct bright){nn_params_new(nn), cell};
    return (struct ws2_classifier){bright, bright->params, 3, bright_forward};
}

#endif
