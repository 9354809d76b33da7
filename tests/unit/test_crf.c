/* Dense CRF: lattice against exact sums (T23), closed forms, and what must be refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "fixture_help.h"
#include "image/image.h"
#include "mask/lattice.h"
#include "mask/mask.h"

enum { H = 12, W = 16, PIXELS = H * W };

/* Two flat halves with a little noise, and probabilities that are mostly right. */
static void scene(uint8_t *rgb, float *unary, uint64_t seed)
{
    struct ws2_random random = ws2_random_make(seed, 0);
    float p[2 * PIXELS];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            const int i = y * W + x, right = x + y / 3 > 8;
            for (int c = 0; c < 3; c++)
                rgb[3 * i + c] = (uint8_t)((right ? 150 : 90) + 20 * c + ws2_random_below(&random, 12));
            const float sure = 0.2f + 0.6f * (float)ws2_random_uniform(&random);
            p[PIXELS + i] = right ? 0.2f + 0.8f * sure : 0.8f * sure;
            p[i] = 1 - p[PIXELS + i];
        }
    ws2_crf_unary_probability(p, 2 * PIXELS, unary);
}

static void run(const struct ws2_crf_params *params, const uint8_t *rgb, const float *unary, int labels,
                float *q)
{
    struct ws2_crf *crf = NULL;
    assert_int_equal(ws2_crf_run(&crf, params, rgb, H, W, unary, labels, q, NULL), 0);
    ws2_crf_free(crf);
}

/* T23: K' of the lattice against K' term by term, and the labels after five iterations. */
static void test_lattice_and_exact(void **state)
{
    (void)state;
    uint8_t rgb[3 * PIXELS];
    float unary[2 * PIXELS], fast[2 * PIXELS], slow[2 * PIXELS];
    int equal = 0, all = 0, moved = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        scene(rgb, unary, seed);
        struct ws2_crf_params params = {3, 3, 20, 13, 5, 5, false};
        run(&params, rgb, unary, 2, fast);
        params.exact = true;
        run(&params, rgb, unary, 2, slow);
        for (int i = 0; i < PIXELS; i++, all++) {
            equal += (fast[i] > 0.5f) == (slow[i] > 0.5f);
            moved += (unary[i] < unary[PIXELS + i]) != (slow[i] > 0.5f);
            assert_true(fabsf(fast[i] + fast[PIXELS + i] - 1) < 1e-5f);
        }
    }
    assert_true(equal > 0.98 * all);
    assert_true(moved > 0.05 * all); /* the field did something */
}

/* ---- the reference ------------------------------------------------------------------------------------- */

enum { GH = 24, GW = 32, GOLDEN = GH * GW };

/* What tests/golden/crf.py gives to pydensecrf: the picture, and unaries of two and of three labels. */
static void golden_scene(uint8_t *rgb, float *two, float *three)
{
    float p[2 * GOLDEN];
    uint8_t label[GOLDEN];
    generator_image("crf image", rgb, 3 * GOLDEN);
    generator_image("crf label", label, GOLDEN);
    generator_floats("crf p", p + GOLDEN, GOLDEN, 0.45);
    for (int i = 0; i < GOLDEN; i++) {
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] =
                (uint8_t)((rgb[3 * i + c] >> 3) + 60 * ((i % GW / 11 + i / GW / 7) % 3) + 20 * c);
        p[GOLDEN + i] += 0.5f;
        p[i] = 1 - p[GOLDEN + i];
        label[i] %= 3;
    }
    ws2_crf_unary_probability(p, 2 * GOLDEN, two);
    assert_int_equal(ws2_crf_unary_label(label, GOLDEN, 3, 0.7, three, NULL), 0);
}

/* T24: Q within 1e-3 of pydensecrf's after five iterations, for the kernels in use. */
static void test_it_is_what_pydensecrf_does(void **state)
{
    (void)state;
    static const struct ws2_crf_params preset[] = {{3, 3, 80, 13, 10, 5, false},
                                                   {3, 3, 50, 5, 10, 5, false},
                                                   {4, 3, 83, 5, 3, 5, false},
                                                   {3, 5, 60, 5, 15, 5, false}};
    static uint8_t rgb[3 * GOLDEN];
    static float unary[2][3 * GOLDEN], q[3 * GOLDEN];
    struct ws2_crf *crf = NULL;
    struct ws2_error error = {0};
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    void *data = NULL;
    ws2_npy_read("tests/golden/crf.npy", &dtype, &shape, &data, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(dtype, WS2_F32);
    golden_scene(rgb, unary[0], unary[1]);
    const float *want = data;
    double most = 0;
    for (int labels = 2; labels <= 3; labels++)
        for (int k = 0; k < 4; k++, want += labels * GOLDEN) {
            assert_int_equal(ws2_crf_run(&crf, &preset[k], rgb, GH, GW, unary[labels - 2], labels, q, NULL),
                             0);
            for (int i = 0; i < labels * GOLDEN; i++)
                most = fmax(most, fabs((double)q[i] - (double)want[i]));
        }
    assert_int_equal(want - (const float *)data, shape.dim[0]);
    assert_true(most < 1e-3);
    free(data);
    ws2_crf_free(crf);
}

/* ---- closed forms --------------------------------------------------------------------------------------- */

/* The sums of the lattice follow exp(-r^2 / 2), up to a factor that the norm takes away. */
static void test_lattice_is_gaussian(void **state)
{
    (void)state;
    enum { SIDE = 41, N = SIDE * SIDE };
    static float feature[2 * N], in[N], out[N];
    struct lattice lattice = {0};
    for (int i = 0; i < N; i++) {
        feature[i] = (float)(i % SIDE) / 4;
        feature[N + i] = (float)(i / SIDE) / 4;
    }
    in[N / 2] = 1;
    assert_int_equal(lattice_build(&lattice, feature, 2, N, NULL), 0);
    for (int i = 0; i < N; i++) {
        float sum = 0;
        for (int k = 0; k < 3; k++) {
            assert_true(lattice.weight[3 * i + k] > -1e-5f && lattice.corner[3 * i + k] >= 1 &&
                        lattice.corner[3 * i + k] <= lattice.vertices);
            sum += lattice.weight[3 * i + k];
        }
        assert_true(fabsf(sum - 1) < 1e-5f);
    }
    lattice_filter(&lattice, in, out);
    double mass = 0, square = 0;
    for (int i = 0; i < N; i++) {
        const double dx = feature[i] - 5, dy = feature[N + i] - 5;
        mass += (double)out[i];
        square += (double)out[i] * (dx * dx + dy * dy);
    }
    assert_true(fabs(square / mass / 2 - 1) <
                0.25); /* a variance of 1 along each axis, and the corners' own */
    lattice_free(&lattice);
}

/* Memory is kept from picture to picture, of any size, with and without the space kernel; results are not. */
static void test_kept(void **state)
{
    (void)state;
    uint8_t rgb[3 * PIXELS], other[3 * PIXELS];
    float unary[2 * PIXELS], want[2 * PIXELS], q[2 * PIXELS];
    struct ws2_crf *crf = NULL;
    const struct ws2_crf_params params[] = {{3, 3, 20, 13, 5, 5, false},
                                            {3, 3, 20, 13, 5, 5, true},
                                            {2, 3, 20, 13, 5, 2, false},
                                            {0, 0, 20, 13, 5, 5, false},
                                            {3, 3, 0, 0, 0, 5, false}};
    scene(other, unary, 7);
    for (int i = 0; i < 25; i++) {
        const struct ws2_crf_params *now = params + i * 7 % 5;
        scene(rgb, unary, (uint64_t)i / 5);
        run(now, rgb, unary, 2, want);
        assert_int_equal(ws2_crf_run(&crf, now, rgb, H, W, unary, 2, q, NULL), 0);
        assert_memory_equal(q, want, sizeof q);
        assert_int_equal(ws2_crf_run(&crf, &params[i % 5], other, 5, 7, unary, 2, q, NULL), 0);
    }
    ws2_crf_free(crf);
}

/* Without neighbours that say anything, Q = softmax(-U) = p; in place too. */
static void test_unaries_alone(void **state)
{
    (void)state;
    const uint8_t rgb[3 * PIXELS] = {0};
    float p[3 * PIXELS], unary[3 * PIXELS];
    struct ws2_random random = ws2_random_make(4, 0);
    for (int i = 0; i < PIXELS; i++) {
        const float a = (float)ws2_random_uniform(&random) * 0.9f + 0.05f,
                    b = (float)ws2_random_uniform(&random) * 0.8f + 0.1f;
        p[i] = a * b;
        p[PIXELS + i] = a * (1 - b);
        p[2 * PIXELS + i] = 1 - a;
    }
    ws2_crf_unary_probability(p, 3 * PIXELS, unary);
    const struct ws2_crf_params none = {3, 3, 20, 13, 5, 0, false}, weightless = {0, 0, 0, 0, 0, 9, false};
    float q[3 * PIXELS];
    run(&none, rgb, unary, 3, q);
    for (int i = 0; i < 3 * PIXELS; i++)
        assert_true(fabsf(q[i] - p[i]) < 1e-5f);
    run(&weightless, rgb, unary, 3, unary);
    assert_memory_equal(unary, q, sizeof q);
}

/* Labels that swap places swap their results: the first one's messages are found in another way. */
static void test_labels_are_alike(void **state)
{
    (void)state;
    uint8_t rgb[3 * PIXELS];
    float unary[3 * PIXELS], turned[3 * PIXELS], a[3 * PIXELS], b[3 * PIXELS];
    const struct ws2_crf_params params = {3, 3, 20, 13, 5, 5, false};
    scene(rgb, unary, 3);
    for (int i = 0; i < PIXELS; i++)
        unary[2 * PIXELS + i] = (float)(i % 7) / 3;
    memcpy(turned, unary + PIXELS, 2 * PIXELS * sizeof *unary);
    memcpy(turned + 2 * PIXELS, unary, PIXELS * sizeof *unary);
    run(&params, rgb, unary, 3, a);
    run(&params, rgb, turned, 3, b);
    for (int i = 0; i < 3 * PIXELS; i++)
        assert_true(fabsf(a[i] - b[(i + 2 * PIXELS) % (3 * PIXELS)]) < 1e-4f);
}

static void test_label_unaries(void **state)
{
    (void)state;
    const uint8_t label[3] = {0, 2, 1};
    float unary[9];
    assert_int_equal(ws2_crf_unary_label(label, 3, 3, 0.7, unary, NULL), 0);
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < 3; i++)
            assert_true(fabs(exp(-(double)unary[3 * l + i]) - (label[i] == l ? 0.7 : 0.15)) < 1e-6);
    assert_int_equal(ws2_crf_unary_label(label, 3, 2, 0.7, unary, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_crf_unary_label(label, 3, 3, 1, unary, NULL), WS2_ERR_USAGE);
}

static void test_refused(void **state)
{
    (void)state;
    const uint8_t rgb[12] = {0, 0, 0, 255, 255, 255};
    float unary[8] = {0}, q[8];
    struct ws2_crf *crf = NULL;
    struct ws2_crf_params params = {3, 3, 20, 13, 5, 5, false};
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 0, q, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 65, q, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 0, 2, unary, 2, q, NULL), 0);
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        unary[5] = bad[i];
        assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 2, q, NULL), WS2_ERR_INPUT);
    }
    unary[5] = 0;
    params.colour = 1e-4; /* 255 / 1e-4 deviations */
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 2, q, NULL), WS2_ERR_INPUT);
    params.colour = 0;
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 2, q, NULL), WS2_ERR_USAGE);
    params.colour = 13;
    params.space = NAN;
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 2, q, NULL), WS2_ERR_USAGE);
    params.space = 3;
    assert_int_equal(ws2_crf_run(&crf, &params, rgb, 2, 2, unary, 2, q, NULL), 0);
    ws2_crf_free(crf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lattice_and_exact),   cmocka_unit_test(test_it_is_what_pydensecrf_does),
        cmocka_unit_test(test_lattice_is_gaussian), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_unaries_alone),       cmocka_unit_test(test_labels_are_alike),
        cmocka_unit_test(test_label_unaries),       cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
