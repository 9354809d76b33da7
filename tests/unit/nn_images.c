/* Pixels to normalised floats (T01), and the variance that batch normalisation keeps (T06), by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generator.h"

static const struct nn_options modes[] = {
    {.device = NN_DEVICE_CPU, .precision = NN_F64_MODE, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_FIRST, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_LAST, .threads = 1},
};
enum { MODES = sizeof modes / sizeof *modes };

static struct nn *open_nn(const struct nn_options *options)
{
    struct nn *nn;
    struct ws2_error error = {0};
    if (nn_open(&nn, options, &error) < 0)
        fail_msg("%s", error.text);
    return nn;
}

static void close_nn(struct nn *nn)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
    nn_close(nn);
}

/* x [batch,3,height,width] against (v/255 - mean)/std of rgb [batch,height,width,3]: 1e-6 of the largest value. */
static void compare(struct nn *nn, struct nn_tensor *x, const uint8_t *rgb, int batch, int height, int width)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    const size_t pixels = (size_t)(height * width), count = (size_t)batch * 3 * pixels;
    double *got = ws2_calloc(count, sizeof *got), largest = 1, worst = 0;
    assert_int_equal(nn_to_f64(nn, x, got, count), 0);
    for (size_t i = 0; i < count; i++) {
        const size_t channel = i / pixels % 3, pixel = i / (3 * pixels) * pixels + i % pixels;
        const double want = (rgb[3 * pixel + channel] / 255.0 - mean[channel]) / std[channel];
        largest = fmax(largest, fabs(want));
        worst = fmax(worst, fabs(got[i] - want));
    }
    free(got);
    if (!(worst <= 1e-6 * largest))
        fail_msg("%d x %d x %d: differs by %g", batch, height, width, worst / largest);
}

/* T01: two pictures of 4 x 4; two more sizes reach both halves of the vector loop; black and white are there. */
static void t01_normalisation(void **state)
{
    (void)state;
    static const int size[][2] = {{4, 4}, {7, 5}, {3, 32}};
    uint8_t rgb[2 * 96 * 3];
    float unit[2 * 96 * 3];
    generator_image("image", rgb, sizeof rgb);
    memcpy(rgb, ((const uint8_t[6]){0, 0, 0, 255, 255, 255}), 6);
    for (size_t i = 0; i < sizeof rgb; i++)
        unit[i] = (float)rgb[i] / 255.0f;
    for (int m = 0; m < MODES; m++) {
        struct nn *nn = open_nn(&modes[m]);
        nn_scope_begin(nn);
        for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
            const int h = size[s][0], w = size[s][1];
            compare(nn, nn_images_u8(nn, 2, h, w, rgb, nn_imagenet_mean, nn_imagenet_std), rgb, 2, h, w);
            compare(nn, nn_images_f32(nn, 2, h, w, unit, nn_imagenet_mean, nn_imagenet_std), rgb, 2, h, w);
        }
        nn_scope_end(nn);
        close_nn(nn);
    }
}

/* T06: after one pass the running variance is 0.9 + 0.1 S / (n - 1), while the pass itself divides by n; here n = 4
 * so that the two differ by a third. Values of channel 0: 0 1 3 8; of channel 1 all 5. */
static void t06_variance_by_hand(void **state)
{
    (void)state;
    static const double in[8] = {0, 1, 5, 5, 3, 8, 5, 5}; /* [2,2,1,2] */
    for (int m = 0; m < MODES; m++) {
        struct nn *nn = open_nn(&modes[m]);
        struct nn_params *params = nn_params_new(nn);
        const struct nn_bn bn = nn_bn_declare(params, "bn", 2);
        double mean[2], var[2], out[8];
        assert_int_equal(nn_params_init(params, 0), 0); /* weight 1, bias 0, mean 0, variance 1 */
        nn_no_grad_begin(nn);
        struct nn_tensor *x = nn_from_f64(nn, ws2_shape_4(2, 2, 1, 2), in);
        if (modes[m].precision == NN_F32_MODE)
            x = nn_to_dtype(nn, x, NN_F32);
        struct nn_tensor *y = nn_bn_apply(nn, &bn, x, true, false);
        nn_to_f64(nn, y, out, 8);
        nn_to_f64(nn, bn.mean, mean, 2);
        nn_to_f64(nn, bn.var, var, 2);
        assert_true(fabs(mean[0] - 0.1 * 3) < 1e-6 && fabs(mean[1] - 0.1 * 5) < 1e-6);
        assert_true(fabs(var[0] - (0.9 + 0.1 * 38 / 3)) < 1e-6 && fabs(var[1] - 0.9) < 1e-6);
        assert_true(fabs(out[0] + 3 / sqrt(38.0 / 4 + 1e-5)) < 1e-6);
        assert_true(fabs(out[5] - 5 / sqrt(38.0 / 4 + 1e-5)) < 1e-6);
        assert_true(fabs(out[2]) < 1e-3 && fabs(out[7]) < 1e-3); /* rounding, divided by sqrt(eps) */
        assert_true(nn_item(nn, bn.count) == 1);
        nn_no_grad_end(nn);
        nn_params_free(params);
        close_nn(nn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t01_normalisation),
        cmocka_unit_test(t06_variance_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
