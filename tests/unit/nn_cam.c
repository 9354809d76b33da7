/* Class activation maps: closed form, autograd and finite differences agree; pictures do not depend on each other. */
#include "cam_help.h"

/* T08: both forms on the last layer, in both precisions, to 1e-5. */
static void closed_form_equals_autograd(void **state)
{
    (void)state;
    enum { N = 2 * 3 * 12 * 16 };
    static float closed[N], graph[N];
    float p[6], q[6];
    for (int method = WS2_CAM_GRADCAM; method <= WS2_CAM_LAYERCAM; method++) {
        for (int variant = 0; variant < 8; variant++) {
            struct ws2_cam_options options = {.method = (enum ws2_cam_method)method,
                                              .target = variant & 1 ? WS2_CAM_PROB : WS2_CAM_LOGIT,
                                              .eps = variant & 2 ? 1e-6 : 0,
                                              .form = WS2_CAM_CLOSED};
            for (int precision = NN_F32_MODE; precision <= NN_F64_MODE;
                 precision += NN_F64_MODE - NN_F32_MODE) {
                options.form = WS2_CAM_CLOSED;
                tiny_maps((enum nn_precision)precision, variant & 4, &options, closed, p);
                options.form = WS2_CAM_AUTOGRAD;
                tiny_maps((enum nn_precision)precision, variant & 4, &options, graph, q);
                assert_true(largest_difference(closed, graph, N) < 1e-5);
                assert_true(largest_difference(p, q, 6) < 1e-6);
                double peak = 0;
                for (int i = 0; i < N; i++)
                    peak = fmax(peak, closed[i]);
                assert_true(peak > 0.9);
            }
        }
    }
}

static void cam_is_gradcam_of_the_logit(void **state)
{
    (void)state;
    enum { N = 2 * 3 * 12 * 16 };
    static float a[N], b[N];
    float p[6];
    tiny_maps(NN_F32_MODE, true, &(struct ws2_cam_options){.method = WS2_CAM_CAM}, a, p);
    assert_true(fabsf(p[0] + p[1] + p[2] - 1) < 1e-6);
    tiny_maps(NN_F32_MODE, true, &(struct ws2_cam_options){.method = WS2_CAM_GRADCAM}, b, p);
    assert_true(largest_difference(a, b, N) < 1e-5);
}

static double logit(struct tiny *tiny, const double *activation, int layer, int class,
                    enum ws2_cam_target target)
{
    double value[3];
    nn_scope_begin(tiny->nn);
    struct nn_tensor *x =
        nn_from_f64(tiny->nn, layer == 0 ? ws2_shape_4(1, 4, 6, 8) : ws2_shape_4(1, 4, 3, 4), activation);
    struct nn_tensor *z = tiny_logits(tiny, layer == 0 ? tiny_rest(tiny, x) : x);
    if (target == WS2_CAM_PROB)
        z = nn_softmax(tiny->nn, z, 1);
    nn_to_f64(tiny->nn, z, value, 3);
    nn_scope_end(tiny->nn);
    return value[class];
}

/* The library's formula on numeric gradients. */
static void weigh(enum ws2_cam_method method, const double *a, const double *g, int k, int n, double eps,
                  double *map)
{
    for (int i = 0; i < n; i++)
        map[i] = 0;
    for (int c = 0; c < k; c++, a += n, g += n) {
        double w = 0, sum = 0;
        for (int i = 0; i < n; i++)
            sum += a[i];
        for (int i = 0; i < n; i++) {
            const double square = g[i] * g[i];
            if (method == WS2_CAM_GRADCAM)
                w += g[i] / n;
            else if (method == WS2_CAM_GRADCAMPP && g[i] > 0)
                w += g[i] * square / (2 * square + sum * square * g[i] + eps);
        }
        for (int i = 0; i < n; i++)
            map[i] += (method == WS2_CAM_LAYERCAM ? fmax(g[i], 0) : w) * a[i];
    }
}

/* At layer `layer` (0: a, 6 x 8; 1: b, 3 x 4): maps from central differences against those of the library. */
static void check_finite(struct tiny *tiny, int layer, enum ws2_cam_method method, enum ws2_cam_target target)
{
    const int n = layer == 0 ? 48 : 12;
    double a[4 * 48], g[4 * 48], want[48], got[3 * 48];
    uint8_t rgb[6 * 8 * 3];
    generator_image("small", rgb, sizeof rgb);
    nn_scope_begin(tiny->nn);
    struct nn_tensor *x = nn_images_u8(tiny->nn, 1, 6, 8, rgb, nn_imagenet_mean, nn_imagenet_std);
    struct nn_tensor *at, *z = tiny_forward(tiny, x, layer == 0 ? "a" : "b", false, &at);
    nn_to_f64(tiny->nn, at, a, (size_t)(4 * n));
    for (int class = 0; class < 3; class ++) {
        for (int i = 0; i < 4 * n; i++) {
            const double keep = a[i], step = layer == 0 ? 1e-6 : 1e-3;
            a[i] = keep + step;
            const double up = logit(tiny, a, layer, class, target);
            a[i] = keep - step;
            g[i] = (up - logit(tiny, a, layer, class, target)) / (2 * step);
            a[i] = keep;
        }
        weigh(method, a, g, 4, n, 1e-6, want);
        const struct ws2_shape shape = layer == 0 ? ws2_shape_4(1, 4, 6, 8) : ws2_shape_4(1, 4, 3, 4);
        struct nn_tensor *leaf = nn_requires_grad(tiny->nn, nn_from_f64(tiny->nn, shape, a), true), *gradient;
        struct nn_tensor *y = tiny_logits(tiny, layer == 0 ? tiny_rest(tiny, leaf) : leaf);
        y = target == WS2_CAM_PROB ? nn_softmax(tiny->nn, y, 1) : y;
        nn_grad(tiny->nn, nn_sum(tiny->nn, nn_select(tiny->nn, y, 1, class)), &leaf, 1, false, false,
                &gradient);
        nn_to_f64(tiny->nn, ws2_cam_weigh(tiny->nn, method, leaf, gradient, 1e-6), got, (size_t)n);
        for (int i = 0; i < n; i++)
            assert_true(fabs(got[i] - want[i]) < 1e-6 * fmax(1, fabs(want[i])));
        if (layer == 0)
            continue;
        struct nn_tensor *closed = ws2_cam_closed(tiny->nn, method, nn_from_f64(tiny->nn, shape, a),
                                                  tiny->head, z, target, true, 1e-6);
        nn_to_f64(tiny->nn, closed, got, (size_t)(3 * n));
        for (int i = 0; i < n; i++)
            assert_true(fabs(got[class * n + i] - want[i]) < 1e-6 * fmax(1, fabs(want[i])));
    }
    nn_scope_end(tiny->nn);
}

/* T08: autograd and closed form against central differences, in double, to 1e-6. */
static void finite_differences(void **state)
{
    (void)state;
    struct tiny tiny;
    tiny_open(&tiny, NN_F64_MODE);
    for (int layer = 0; layer < 2; layer++) {
        for (int method = WS2_CAM_GRADCAM; method <= WS2_CAM_LAYERCAM; method++) {
            check_finite(&tiny, layer, (enum ws2_cam_method)method, WS2_CAM_LOGIT);
            check_finite(&tiny, layer, (enum ws2_cam_method)method, WS2_CAM_PROB);
        }
    }
    tiny_close(&tiny);
}

/* A batch is computed as its pictures are; a picture at scale 2 is done alone (chunks). */
static void pictures_are_independent(void **state)
{
    (void)state;
    enum { P = 3 * 12 * 16 };
    static float two[2 * P], one[2 * P];
    float p[6], q[6];
    uint8_t rgb[2 * 12 * 16 * 3];
    generator_image("image", rgb, sizeof rgb);
    struct tiny tiny;
    struct ws2_cam *cam;
    struct ws2_error error = {0};
    tiny_open(&tiny, NN_F32_MODE);
    const struct ws2_cam_network network = tiny_network(&tiny, true);
    const struct ws2_cam_options options = {.method = WS2_CAM_LAYERCAM,
                                            .layer = {"b", "a"},
                                            .layers = 2,
                                            .scale = {2, 1, 0.5},
                                            .scales = 3,
                                            .flip = true};
    assert_int_equal(ws2_cam_open(&cam, tiny.nn, &network, &options, &error), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            ws2_cam_pictures(cam, 1, 12, 16, rgb + i * 12 * 16 * 3, 12, 16, one + i * P, q + i * 3, &error),
            0);
    assert_int_equal(ws2_cam_pictures(cam, 2, 12, 16, rgb, 12, 16, two, p, &error), 0);
    assert_true(largest_difference(one, two, 2 * P) < 1e-5);
    assert_true(largest_difference(p, q, 6) < 1e-6);
    const int64_t alive = nn_tensors_alive(tiny.nn);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ws2_cam_pictures(cam, 2, 12, 16, rgb, 12, 16, two, p, &error), 0);
    assert_int_equal(nn_tensors_alive(tiny.nn), alive);
    ws2_cam_close(cam);
    tiny_close(&tiny);
}

static void wrong_use(void **state)
{
    (void)state;
    struct tiny tiny;
    struct ws2_cam *cam;
    tiny_open(&tiny, NN_F32_MODE);
    struct ws2_cam_network network = tiny_network(&tiny, true);
    const struct ws2_cam_options bad[] = {
        {.method = WS2_CAM_GRADCAM, .layer = {"layer9"}, .layers = 1},
        {.method = WS2_CAM_GRADCAM, .layer = {"a", "a"}, .layers = 2},
        {.method = WS2_CAM_CAM, .layer = {"a"}, .layers = 1},
        {.method = WS2_CAM_GRADCAM, .layer = {"a"}, .layers = 1, .form = WS2_CAM_CLOSED},
        {.method = WS2_CAM_CAM, .form = WS2_CAM_AUTOGRAD},
        {.method = WS2_CAM_GRADCAM, .scale = {0}, .scales = 1},
        {.method = WS2_CAM_GRADCAM, .scale = {NAN}, .scales = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ws2_error error = {0};
        assert_int_equal(ws2_cam_open(&cam, tiny.nn, &network, &bad[i], &error), WS2_ERR_USAGE);
        assert_null(cam);
        assert_true(*error.text);
    }
    network.biased = true;
    struct ws2_error error = {0};
    assert_int_equal(
        ws2_cam_open(&cam, tiny.nn, &network, &(struct ws2_cam_options){.method = WS2_CAM_PUZZLE}, &error),
        WS2_ERR_USAGE);
    tiny_close(&tiny);
}

static void sides(void **state)
{
    (void)state;
    const double scale[] = {0.2, 0.5, 1, 2, 4, 6};
    const int want[] = {102, 256, 512, 1024, 2048, 3072};
    for (int i = 0; i < 6; i++)
        assert_int_equal(ws2_cam_side(512, scale[i]), want[i]);
    assert_int_equal(ws2_cam_side(3, 0.1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sides),
        cmocka_unit_test(closed_form_equals_autograd),
        cmocka_unit_test(cam_is_gradcam_of_the_logit),
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(pictures_are_independent),
        cmocka_unit_test(wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
