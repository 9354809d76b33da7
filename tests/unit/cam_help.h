/* What the tests of class activation maps share: a tiny network and its maps. */
#ifndef WS2_TEST_CAM_HELP_H
#define WS2_TEST_CAM_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cam/cam.h"
#include "generator.h"

/* ---- a tiny network: two convolutions, K = 4, three classes ----------------------------------------------- */

struct tiny {
    struct nn *nn;
    struct nn_params *params;
    struct nn_tensor *a, *b, *head;
};

static inline struct nn_tensor *tiny_rest(struct tiny *tiny, struct nn_tensor *x)
{
    return nn_relu(tiny->nn, nn_conv2d(tiny->nn, x, tiny->b, NULL, nn_conv_square(2, 1, 1)));
}

static inline struct nn_tensor *tiny_logits(struct tiny *tiny, struct nn_tensor *x)
{
    return nn_linear(tiny->nn, nn_global_avg_pool(tiny->nn, x), tiny->head, NULL);
}

static inline struct nn_tensor *tiny_forward(void *model, struct nn_tensor *images, const char *layer,
                                             bool graph, struct nn_tensor **activation)
{
    struct tiny *tiny = model;
    const bool first = strcmp(layer, "a") == 0;
    struct nn_tensor *x =
        nn_relu(tiny->nn, nn_conv2d(tiny->nn, images, tiny->a, NULL, nn_conv_square(1, 1, 1)));
    if (first)
        *activation = x = graph ? nn_requires_grad(tiny->nn, nn_detach(tiny->nn, x), true) : x;
    x = tiny_rest(tiny, x);
    if (!first)
        *activation = x = graph ? nn_requires_grad(tiny->nn, nn_detach(tiny->nn, x), true) : x;
    return tiny_logits(tiny, x);
}

static inline struct nn_tensor *tiny_weight(void *model)
{
    return ((struct tiny *)model)->head;
}

static inline bool tiny_has(void *model, const char *layer)
{
    (void)model;
    return strcmp(layer, "a") == 0 || strcmp(layer, "b") == 0;
}

static inline void tiny_open(struct tiny *tiny, enum nn_precision precision)
{
    struct ws2_error error = {0};
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = precision, .threads = 1};
    assert_int_equal(nn_open(&tiny->nn, &options, &error), 0);
    tiny->params = nn_params_new(tiny->nn);
    const struct nn_init init = nn_init_make(NN_INIT_DEFAULT, 0);
    tiny->a = nn_declare(tiny->params, NN_WEIGHT, "a.weight", ws2_shape_4(4, 3, 3, 3), init);
    tiny->b = nn_declare(tiny->params, NN_WEIGHT, "b.weight", ws2_shape_4(4, 4, 3, 3), init);
    tiny->head = nn_declare(tiny->params, NN_WEIGHT, "head.weight", ws2_shape_2(3, 4), init);
    assert_int_equal(generator_fill(tiny->params, NULL), 0);
}

static inline void tiny_close(struct tiny *tiny)
{
    struct ws2_error error = {0};
    if (nn_check(tiny->nn, &error) < 0)
        print_error("%s\n", error.text);
    assert_int_equal(nn_check(tiny->nn, NULL), 0);
    nn_params_free(tiny->params);
    nn_close(tiny->nn);
}

static inline struct ws2_cam_network tiny_network(struct tiny *tiny, bool exclusive)
{
    return (struct ws2_cam_network){.model = tiny,
                                    .params = tiny->params,
                                    .classes = 3,
                                    .exclusive = exclusive,
                                    .forward = tiny_forward,
                                    .has_layer = tiny_has,
                                    .last = "b",
                                    .weight = tiny_weight};
}

static inline double largest_difference(const float *a, const float *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* Maps [2,3,12,16] of two pictures of the tiny network. */
static inline void tiny_maps(enum nn_precision precision, bool exclusive,
                             const struct ws2_cam_options *options, float *maps, float *prob)
{
    struct tiny tiny;
    struct ws2_cam *cam;
    struct ws2_error error = {0};
    uint8_t rgb[2 * 12 * 16 * 3];
    generator_image("image", rgb, sizeof rgb);
    tiny_open(&tiny, precision);
    const struct ws2_cam_network network = tiny_network(&tiny, exclusive);
    assert_int_equal(ws2_cam_open(&cam, tiny.nn, &network, options, &error), 0);
    assert_int_equal(ws2_cam_pictures(cam, 2, 12, 16, rgb, 12, 16, maps, prob, &error), 0);
    ws2_cam_close(cam);
    tiny_close(&tiny);
}

#endif
