/* Class activation maps: closed form, autograd and finite differences agree; maps equal pytorch-grad-cam's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cam/cam.h"
#include "generator.h"
#include "mask/mask.h"
#include "models/resnet.h"

#define GOLDEN "tests/golden/cam_maps.safetensors"

/* ---- a tiny network: two convolutions, K = 4, three classes ----------------------------------------------- */

struct tiny {
    struct nn *nn;
    struct nn_params *params;
    struct nn_tensor *a, *b, *head;
};

static struct nn_tensor *tiny_rest(struct tiny *tiny, struct nn_tensor *x)
{
    return nn_relu(tiny->nn, nn_conv2d(tiny->nn, x, tiny->b, NULL, nn_conv_square(2, 1, 1)));
}

static struct nn_tensor *tiny_logits(struct tiny *tiny, struct nn_tensor *x)
{
    return nn_linear(tiny->nn, nn_global_avg_pool(tiny->nn, x), tiny->head, NULL);
}

static struct nn_tensor *tiny_forward(void *model, struct nn_tensor *images, const char *layer, bool graph,
                                      struct nn_tensor **activation)
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

static struct nn_tensor *tiny_weight(void *model)
{
    return ((struct tiny *)model)->head;
}

static bool tiny_has(void *model, const char *layer)
{
    (void)model;
    return strcmp(layer, "a") == 0 || strcmp(layer, "b") == 0;
}

static void tiny_open(struct tiny *tiny, enum nn_precision precision)
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

static void tiny_close(struct tiny *tiny)
{
    struct ws2_error error = {0};
    if (nn_check(tiny->nn, &error) < 0)
        print_error("%s\n", error.text);
    assert_int_equal(nn_check(tiny->nn, NULL), 0);
    nn_params_free(tiny->params);
    nn_close(tiny->nn);
}

static struct ws2_cam_network tiny_network(struct tiny *tiny, bool exclusive)
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

static double largest_difference(const float *a, const float *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* Maps [2,3,12,16] of two pictures of the tiny network. */
static void tiny_maps(enum nn_precision precision, bool exclusive, const struct ws2_cam_options *options,
                      float *maps, float *prob)
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

/* ---- maps that are not divided ---------------------------------------------------------------------------- */

/* Options 0..3: puzzle and gradcam, at one scale and at three with the mirrored picture. */
static struct ws2_cam_options raw_or_not(int variant, bool raw)
{
    struct ws2_cam_options options = {.method = variant & 1 ? WS2_CAM_GRADCAM : WS2_CAM_PUZZLE, .raw = raw};
    if (variant & 2) {
        options.flip = true;
        options.scales = 3;
        memcpy(options.scale, (const double[]){0.5, 1, 2}, 3 * sizeof(double));
    }
    return options;
}

/* Raw maps divided by maximum + 1e-5 are the normal ones. */
static void raw_maps_lack_the_division_only(void **state)
{
    (void)state;
    enum { P = 12 * 16, N = 2 * 3 * P };
    static float raw[N], normal[N];
    float p[6], q[6];
    for (int variant = 0; variant < 4; variant++) {
        struct ws2_cam_options options = raw_or_not(variant, true);
        float top = 0;
        tiny_maps(NN_F32_MODE, true, &options, raw, p);
        options.raw = false;
        tiny_maps(NN_F32_MODE, true, &options, normal, q);
        assert_memory_equal(p, q, sizeof p);
        for (int map = 0; map < 6; map++) {
            float *at = raw + map * P, peak = 0;
            for (int i = 0; i < P; i++)
                peak = fmaxf(peak, at[i]);
            for (int i = 0; i < P; i++)
                at[i] /= peak + 1e-5f;
            top = fmaxf(top, peak);
        }
        assert_true(largest_difference(raw, normal, N) < 1e-6);
        if (variant == 3) /* three scales, each map and its mirror image up to 1 */
            assert_true(top > 2 && top <= 6);
    }
}

/* Value i of a map of halves divided by its maximum, as ws2_coarse_mask has it. */
static double quotient(const uint16_t *map, int pixels, int i)
{
    float high = 0;
    for (int k = 0; k < pixels; k++)
        high = fmaxf(high, ws2_half_to_float(map[k]));
    return high > 0 ? ws2_half_to_float(map[i]) / high : 0;
}

/* Distance from the decision: of the wanted class to the best other one, or to the threshold. */
static double margin(const struct ws2_coarse *coarse, const uint16_t *maps, int pixels, int i)
{
    const double own = quotient(maps + coarse->target * pixels, pixels, i);
    double best = 0;
    if (coarse->rule == WS2_COARSE_THRESHOLD)
        return fabs(own - coarse->threshold);
    for (int c = 0; c < 3; c++)
        if (c != coarse->target)
            best = fmax(best, quotient(maps + c * pixels, pixels, i));
    return fabs(own - best);
}

/* Masks from raw and normal maps in half floats differ only where the decision is within rounding: two quotients of two
 * halves each, which are off by 2^-11 of their value, so that a difference of two is off by 4 of these. */
static void coarse_masks_of_raw_maps_are_the_same(void **state)
{
    (void)state;
    enum { P = 12 * 16, N = 2 * 3 * P };
    static float maps[N];
    static uint16_t raw[N], normal[N];
    uint8_t a[P], b[P];
    float p[6];
    int set = 0, clear = 0, differing = 0;
    for (int variant = 0; variant < 4; variant++) {
        struct ws2_cam_options options = raw_or_not(variant, true);
        tiny_maps(NN_F32_MODE, true, &options, maps, p);
        ws2_half_from_floats(raw, maps, N);
        options.raw = false;
        tiny_maps(NN_F32_MODE, true, &options, maps, p);
        ws2_half_from_floats(normal, maps, N);
        for (int picture = 0; picture < 2; picture++)
            for (int rule = 0; rule < 6; rule++) {
                const struct ws2_coarse coarse = {.rule = rule < 3 ? WS2_COARSE_ARGMAX : WS2_COARSE_THRESHOLD,
                                                  .target = rule % 3,
                                                  .threshold = 0.3f};
                const uint16_t *from = normal + picture * 3 * P;
                assert_int_equal(ws2_coarse_mask(&coarse, raw + picture * 3 * P, 3, P, a, NULL), 0);
                assert_int_equal(ws2_coarse_mask(&coarse, from, 3, P, b, NULL), 0);
                for (int i = 0; i < P; i++) {
                    assert_true(a[i] == b[i] || margin(&coarse, from, P, i) <= 4 * 0x1p-11);
                    set += a[i];
                    clear += !a[i];
                    differing += a[i] != b[i];
                }
            }
    }
    assert_true(set > 1000 && clear > 1000 && differing < 20);
}

/* Frame 4 of the mean colour, which gives small maps, and frame 5 of noise. */
static void write_two_frames(FILE *file)
{
    enum { H = 12, W = 16 };
    static const uint8_t mean[3] = {124, 116, 104};
    const struct ws2_shape shape = ws2_shape_3(H, W, 3);
    uint8_t rgb[2][H * W * 3];
    struct ws2_writer *writer;
    struct ws2_error error = {0};
    struct ws2_record *record = ws2_record_new();
    struct ws2_head *head = ws2_head_new();
    generator_image("image", rgb[1], sizeof rgb[1]);
    for (size_t i = 0; i < sizeof rgb[0]; i++)
        rgb[0][i] = mean[i % 3];
    assert_int_equal(ws2_writer_open_file(&writer, file, "two frames", 3, &error), 0);
    ws2_head_set_seq(head, "b7");
    assert_int_equal(ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    for (int i = 0; i < 2; i++) {
        ws2_record_clear(record);
        ws2_record_set_frame(record, 4 + i, -1);
        assert_int_equal(ws2_record_put(record, "rgb", WS2_U8, &shape, rgb[i], &error), 0);
        assert_int_equal(ws2_writer_put(writer, record), 0);
    }
    assert_int_equal(ws2_writer_end(writer), 0);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    ws2_record_free(record);
    ws2_head_free(head);
}

static int stream_begin(void *context, const struct ws2_head *in, struct ws2_head *out,
                        struct ws2_error *error)
{
    (void)context;
    (void)in;
    if (ws2_head_add_tensor(out, "cam", WS2_F16, "c,h,w", "raw", error) < 0 ||
        ws2_head_add_tensor(out, "prob", WS2_F32, "c", "0..1", error) < 0)
        return error->status;
    return 0;
}

/* Sends two frames through ws2_cam_stream; returns its status. */
static int stream_maps(struct tiny *tiny, bool raw, FILE *in, FILE *out, struct ws2_error *error)
{
    struct ws2_cam *cam;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    const struct ws2_cam_network network = tiny_network(tiny, true);
    const struct ws2_cam_options options = raw_or_not(0, raw);
    const struct ws2_cam_stream_options stream = {.batch = 2, .threads = 1, .begin = stream_begin};
    rewind(in);
    assert_int_equal(ws2_cam_open(&cam, tiny->nn, &network, &options, error), 0);
    assert_int_equal(ws2_reader_open_file(&reader, in, "in", error), 0);
    assert_int_equal(ws2_writer_open_file(&writer, out, "out", 3, error), 0);
    const int status = ws2_cam_stream(&cam, 1, &stream, reader, writer, error);
    const int64_t records = ws2_writer_records(writer);
    ws2_writer_abandon(writer);
    ws2_reader_close(reader);
    ws2_cam_close(cam);
    assert_int_equal(records, status < 0 ? 1 : 2);
    return status;
}

/* Half floats end at 65504: a larger raw value is an error that names the frame, and never infinity. */
static void raw_maps_beyond_half_floats(void **state)
{
    (void)state;
    struct tiny tiny;
    struct ws2_error error = {0};
    FILE *in = tmpfile(), *out = tmpfile();
    assert_true(in && out);
    write_two_frames(in);
    tiny_open(&tiny, NN_F32_MODE);
    assert_int_equal(stream_maps(&tiny, true, in, out, &error), 0);
    nn_scope_begin(tiny.nn);
    tiny.head = nn_mul_scalar(tiny.nn, tiny.head, 1e6);
    assert_int_equal(stream_maps(&tiny, true, in, out, &error), WS2_ERR_MODEL);
    if (strncmp(error.text, "b7: frame 5: the map of class ", 30) != 0 ||
        !strstr(error.text, "half floats end at 65504"))
        fail_msg("%s", error.text);
    error = (struct ws2_error){0};
    assert_int_equal(stream_maps(&tiny, false, in, out, &error), 0);
    nn_scope_end(tiny.nn);
    tiny_close(&tiny);
    fclose(in);
    fclose(out);
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

/* ---- against pytorch-grad-cam ----------------------------------------------------------------------------- */

static struct nn_weights *golden(void)
{
    struct nn_weights *weights;
    struct ws2_error error = {0};
    if (nn_weights_open(&weights, GOLDEN, NULL, &error) < 0)
        fail_msg("%s", error.text);
    return weights;
}

static size_t golden_f32(const struct nn_weights *weights, const char *name, float *out, size_t room)
{
    struct ws2_error error = {0};
    const int index = nn_weights_find(weights, name);
    size_t count = 0;
    assert_true(index >= 0);
    assert_true(ws2_shape_count(&nn_weights_at(weights, index)->shape, &count) && count <= room);
    assert_int_equal(nn_weights_read_f32(weights, index, out, count, &error), 0);
    return count;
}

/* T09: 3 x 3 to 7 x 7. */
static void post_processing(void **state)
{
    (void)state;
    float in[9], want[49], got[49];
    struct nn_weights *weights = golden();
    golden_f32(weights, "post.in", in, 9);
    golden_f32(weights, "post.out", want, 49);
    nn_weights_close(weights);
    struct tiny tiny;
    tiny_open(&tiny, NN_F32_MODE);
    nn_scope_begin(tiny.nn);
    struct nn_tensor *map = nn_from_f32(tiny.nn, ws2_shape_4(1, 1, 3, 3), in);
    nn_to_f32(tiny.nn, ws2_cam_post(tiny.nn, &map, 1, 7, 7), got, 49);
    nn_scope_end(tiny.nn);
    assert_true(largest_difference(got, want, 49) < 1e-5);
    tiny_close(&tiny);
}

/* ResNet-18 with the fixture's weights, three classes; the head as fc or as class convolution. */
struct golden_net {
    struct nn *nn;
    struct nn_params *params;
    struct resnet *net;
};

static const char *as_fc(const char *name)
{
    return strcmp(name, "classifier.weight") == 0 ? "fc.weight" : name;
}

static void golden_open(struct golden_net *g, enum resnet_head head)
{
    struct ws2_error error = {0};
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .threads = 1};
    const struct resnet_options shape = {18, RESNET_STRIDE_32, head, 3};
    assert_int_equal(nn_open(&g->nn, &options, &error), 0);
    g->params = nn_params_new(g->nn);
    g->net = resnet_new(g->params, &shape);
    assert_non_null(g->net);
    assert_int_equal(generator_fill(g->params, as_fc), 0);
}

static void golden_close(struct golden_net *g)
{
    resnet_free(g->net);
    nn_params_free(g->params);
    nn_close(g->nn);
}

static struct nn_tensor *golden_forward(void *model, struct nn_tensor *images, const char *layer, bool graph,
                                        struct nn_tensor **activation)
{
    struct golden_net *g = model;
    const int tap = resnet_tap_find(g->net, layer);
    const struct resnet_out out =
        resnet_forward(g->net, images, &(struct resnet_run){false, graph ? tap : -1, tap});
    *activation = out.tap;
    return out.logits;
}

static bool golden_has(void *model, const char *layer)
{
    return resnet_tap_find(((struct golden_net *)model)->net, layer) >= 0;
}

static struct nn_tensor *golden_weight(void *model)
{
    return resnet_head_weight(((struct golden_net *)model)->net);
}

/* Compares every 4th row and column of the maps with the fixture. */
static void check_golden(struct golden_net *g, const char *name, const struct ws2_cam_options *options,
                         bool biased)
{
    enum { H = 64, W = 48 };
    static uint8_t rgb[H * W * 3];
    static float maps[3 * H * W], want[3 * 16 * 12], got[3 * 16 * 12];
    float prob[3];
    struct ws2_cam *cam;
    struct ws2_error error = {0};
    struct nn_weights *weights = golden();
    const struct ws2_cam_network network = {.model = g,
                                            .params = g->params,
                                            .classes = 3,
                                            .exclusive = true,
                                            .biased = biased,
                                            .last = "layer4",
                                            .has_layer = golden_has,
                                            .forward = golden_forward,
                                            .weight = golden_weight};
    generator_image("image", rgb, sizeof rgb);
    golden_f32(weights, name, want, 3 * 16 * 12);
    nn_weights_close(weights);
    if (ws2_cam_open(&cam, g->nn, &network, options, &error) < 0 ||
        ws2_cam_pictures(cam, 1, H, W, rgb, H, W, maps, prob, &error) < 0)
        fail_msg("%s: %s", name, error.text);
    ws2_cam_close(cam);
    for (int i = 0; i < 3 * 16 * 12; i++)
        got[i] = maps[(i / 192) * H * W + i / 12 % 16 * 4 * W + i % 12 * 4];
    const double worst = largest_difference(got, want, 3 * 16 * 12);
    if (!(worst < 2e-4))
        fail_msg("%s: differs by %g", name, worst);
}

static void equals_pytorch_grad_cam(void **state)
{
    (void)state;
    static const char *const method[] = {"gradcam", "gradcampp", "layercam"};
    static const char *const layer[] = {"layer4", "layer3", "layer2.1"};
    struct golden_net g;
    char name[64];
    golden_open(&g, RESNET_HEAD_FC);
    for (int m = 0; m < 3; m++) {
        struct ws2_cam_options o = {
            .method = (enum ws2_cam_method)(WS2_CAM_GRADCAM + m), .eps = 1e-6, .layers = 1};
        for (int l = 0; l < 3; l++) {
            o.layer[0] = layer[l];
            snprintf(name, sizeof name, "%s.%s", method[m], layer[l]);
            check_golden(&g, name, &o, true);
        }
        snprintf(name, sizeof name, "prob.%s.layer4", method[m]);
        o.layer[0] = "layer4";
        o.target = WS2_CAM_PROB;
        check_golden(&g, name, &o, true);
        o.form = WS2_CAM_AUTOGRAD;
        check_golden(&g, name, &o, true);
    }
    const struct ws2_cam_options two = {
        .method = WS2_CAM_GRADCAM, .layer = {"layer3", "layer4"}, .layers = 2};
    check_golden(&g, "mean.gradcam", &two, true);
    const struct ws2_cam_options multi = {.method = WS2_CAM_GRADCAM, .scale = {0.5, 1, 2}, .scales = 3};
    check_golden(&g, "multi.gradcam", &multi, true);
    golden_close(&g);
}

static void equals_puzzle_inference(void **state)
{
    (void)state;
    struct golden_net g;
    golden_open(&g, RESNET_HEAD_MAPS);
    const struct ws2_cam_options o = {
        .method = WS2_CAM_PUZZLE, .kernel = WS2_CAM_CUBIC, .scale = {0.5, 1, 2}, .scales = 3, .flip = true};
    check_golden(&g, "puzzle", &o, false);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sides),
        cmocka_unit_test(closed_form_equals_autograd),
        cmocka_unit_test(cam_is_gradcam_of_the_logit),
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(pictures_are_independent),
        cmocka_unit_test(raw_maps_lack_the_division_only),
        cmocka_unit_test(coarse_masks_of_raw_maps_are_the_same),
        cmocka_unit_test(raw_maps_beyond_half_floats),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(post_processing),
        cmocka_unit_test(equals_pytorch_grad_cam),
        cmocka_unit_test(equals_puzzle_inference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
