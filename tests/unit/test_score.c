/* The metric against hand-counted pairs and a brute-force twin; statistics and differences of typed arrays. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "score/score.h"

static struct ws2_overlap count(const uint8_t *mask, const uint8_t *truth, size_t n)
{
    struct ws2_overlap overlap;
    struct ws2_error error = {0};
    assert_int_equal(ws2_overlap_count(mask, truth, n, false, &overlap, &error), 0);
    return overlap;
}

/* T27: two empty masks agree, one empty mask is wrong, the rest by counting. */
static void test_by_hand(void **state)
{
    (void)state;
    const uint8_t none[6] = {0}, all[6] = {1, 1, 1, 1, 1, 1}, p[6] = {1, 1, 1, 0, 0, 0},
                  g[6] = {0, 1, 1, 1, 0, 0};
    struct ws2_overlap o = count(none, none, 6);
    assert_true(ws2_overlap_iou(&o) == 1.0);
    o = count(p, none, 6);
    assert_true(ws2_overlap_iou(&o) == 0.0);
    o = count(none, p, 6);
    assert_true(ws2_overlap_iou(&o) == 0.0);
    o = count(all, all, 6);
    assert_true(ws2_overlap_iou(&o) == 1.0);
    o = count(p, g, 6);
    assert_int_equal(o.mask, 3);
    assert_int_equal(o.truth, 3);
    assert_int_equal(o.both, 2);
    assert_int_equal(o.pixels, 6);
    assert_true(ws2_overlap_iou(&o) == 0.5);
    o = count(none, none, 0);
    assert_true(ws2_overlap_iou(&o) == 1.0);
}

/* Lengths around the block borders, each against a plain loop. */
static void test_brute_force(void **state)
{
    (void)state;
    const size_t length[] = {1, 63, 64, 65, 127, 16255, 16256, 16257, 16320, 40000};
    struct ws2_random random = ws2_random_make(1, 0);
    uint8_t *mask = malloc(40000), *truth = malloc(40000);
    for (size_t l = 0; l < sizeof length / sizeof *length; l++) {
        for (int ignore = 0; ignore < 2; ignore++) {
            struct ws2_overlap want = {0}, got;
            for (size_t i = 0; i < length[l]; i++) {
                mask[i] = ws2_random_uniform(&random) < 0.9;
                truth[i] = ws2_random_uniform(&random) < 0.8;
                if (ignore && ws2_random_uniform(&random) < 0.3)
                    truth[i] = WS2_IGNORE;
                if (truth[i] == WS2_IGNORE)
                    continue;
                want.pixels++;
                want.mask += mask[i];
                want.truth += truth[i];
                want.both += mask[i] && truth[i];
            }
            assert_int_equal(ws2_overlap_count(mask, truth, length[l], ignore, &got, NULL), 0);
            assert_memory_equal(&got, &want, sizeof want);
            want.mask = want.pixels;
            want.both = want.truth;
            assert_int_equal(ws2_overlap_whole(truth, length[l], ignore, &got, NULL), 0);
            assert_memory_equal(&got, &want, sizeof want);
        }
    }
    truth[7] = 2;
    assert_int_equal(ws2_overlap_whole(truth, 40000, true, &(struct ws2_overlap){0}, NULL), WS2_ERR_INPUT);
    memset(mask, 1, 40000);
    struct ws2_overlap o = count(mask, mask, 40000); /* the columns must not overflow */
    assert_int_equal(o.both, 40000);
    free(mask);
    free(truth);
}

static void test_strange_values(void **state)
{
    (void)state;
    uint8_t mask[100] = {0}, truth[100] = {0};
    struct ws2_overlap o;
    struct ws2_error error = {0};
    mask[99] = 255;
    assert_int_equal(ws2_overlap_count(mask, truth, 100, false, &o, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "mask holds the value 255"));
    mask[99] = 0;
    truth[3] = 255;
    error = (struct ws2_error){0};
    assert_int_equal(ws2_overlap_count(mask, truth, 100, false, &o, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "truth holds the value 255"));
    assert_int_equal(ws2_overlap_count(mask, truth, 100, true, &o, NULL), 0);
    assert_int_equal(o.pixels, 99);
    truth[3] = 2;
    assert_int_equal(ws2_overlap_count(mask, truth, 100, true, &o, NULL), WS2_ERR_INPUT);
    truth[3] = 255;
    mask[3] = 128; /* an ignored pixel is no licence for a mask that is no mask */
    assert_int_equal(ws2_overlap_count(mask, truth, 100, true, &o, NULL), WS2_ERR_INPUT);
}

/* T27, the mean. Three images of 4 pixels: IoU 1/3, an empty pair, an empty truth with one false pixel. */
static void test_score(void **state)
{
    (void)state;
    struct ws2_score score = {0};
    assert_true(isnan(ws2_score_iou(&score)));
    assert_true(isnan(ws2_score_pooled(&score)));
    assert_true(isnan(ws2_score_precision(&score)));
    const uint8_t p[3][4] = {{1, 1, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 1}};
    const uint8_t g[3][4] = {{0, 1, 1, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}};
    for (int i = 0; i < 3; i++) {
        struct ws2_overlap o = count(p[i], g[i], 4);
        ws2_score_add(&score, &o);
    }
    assert_int_equal(score.images, 3);
    assert_int_equal(score.empty, 2);
    assert_true(fabs(ws2_score_iou(&score) - (1.0 / 3 + 1) / 3) < 1e-15);
    assert_true(ws2_score_pooled(&score) == 0.25); /* 1 of 4 */
    assert_true(fabs(ws2_score_precision(&score) - 1.0 / 3) < 1e-15);
    assert_true(ws2_score_recall(&score) == 0.5);
    assert_true(ws2_score_empty_hit(&score) == 0.5);
    assert_true(fabs(ws2_score_area(&score) - 0.5 / 3) < 1e-15);
    assert_true(ws2_score_area_empty(&score) == 0.125);
}

static void test_stats(void **state)
{
    (void)state;
    struct ws2_stats s = {0};
    const uint8_t bytes[5] = {0, 0, 3, 5, 2};
    ws2_stats_add(&s, WS2_U8, bytes, 2);
    ws2_stats_add(&s, WS2_U8, bytes + 2, 3);
    assert_int_equal(s.count, 5);
    assert_int_equal(s.nonzero, 3);
    assert_true(s.min == 0 && s.max == 5);
    assert_true(fabs(s.mean - 2) < 1e-15);
    assert_true(fabs(ws2_stats_deviation(&s) - sqrt(18.0 / 5)) < 1e-14);

    struct ws2_stats f = {0};
    const float real[4] = {-1.5f, NAN, INFINITY, 0.5f};
    ws2_stats_add(&f, WS2_F32, real, 4);
    assert_int_equal(f.count, 2);
    assert_int_equal(f.strange, 2);
    assert_true(f.min == -1.5 && f.max == 0.5 && f.mean == -0.5);

    struct ws2_stats h = {0};
    uint16_t half[4];
    ws2_half_from_floats(half, (float[]){1, 2, 3, 4}, 4);
    ws2_stats_add(&h, WS2_F16, half, 4);
    assert_true(h.mean == 2.5 && h.max == 4);
}

/* A large offset must not eat the deviation, over many blocks. */
static void test_stats_cancellation(void **state)
{
    (void)state;
    enum { N = 100000 };
    double *value = malloc(N * sizeof *value);
    for (int i = 0; i < N; i++)
        value[i] = 1e9 + (i & 1);
    struct ws2_stats s = {0};
    ws2_stats_add(&s, WS2_F64, value, N);
    assert_true(fabs(ws2_stats_deviation(&s) - 0.5) < 1e-6);
    free(value);
}

static void test_every_dtype(void **state)
{
    (void)state;
    const int8_t i8[2] = {-3, 1};
    const uint16_t u16[2] = {65535, 1};
    const int16_t i16[2] = {-300, 1};
    const int32_t i32[2] = {-70000, 1};
    const int64_t i64[2] = {-5000000000, 1};
    const double f64[2] = {-0.25, 1};
    const struct {
        enum ws2_dtype dtype;
        const void *data;
        double low, high;
    } row[] = {{WS2_I8, i8, -3, 1},       {WS2_U16, u16, 1, 65535},       {WS2_I16, i16, -300, 1},
               {WS2_I32, i32, -70000, 1}, {WS2_I64, i64, -5000000000, 1}, {WS2_F64, f64, -0.25, 1}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct ws2_stats s = {0};
        ws2_stats_add(&s, row[i].dtype, row[i].data, 2);
        assert_true(s.min == row[i].low && s.max == row[i].high);
    }
}

static void test_difference(void **state)
{
    (void)state;
    float a[5000], b[5000];
    for (int i = 0; i < 5000; i++)
        a[i] = b[i] = (float)i;
    a[7] = b[7] = NAN;
    struct ws2_difference d = ws2_difference_find(WS2_F32, a, b, 5000);
    assert_true(d.max == 0 && d.differing == 0);
    b[4000] += 0.5f;
    b[4500] -= 2;
    b[4600] += 2;
    d = ws2_difference_find(WS2_F32, a, b, 5000);
    assert_true(d.max == 2 && d.at == 4500 && d.differing == 3);
    b[7] = 0;
    d = ws2_difference_find(WS2_F32, a, b, 5000);
    assert_true(isinf(d.max) && d.at == 7);
    const float zero[2] = {0.0f, INFINITY}, minus[2] = {-0.0f, INFINITY};
    assert_int_equal(ws2_difference_find(WS2_F32, zero, minus, 2).differing, 0);
    const int64_t x[1] = {INT64_MAX}, y[1] = {INT64_MAX - 1}, low[1] = {INT64_MIN};
    assert_true(ws2_difference_find(WS2_I64, x, y, 1).max == 1);
    assert_true(ws2_difference_find(WS2_I64, x, low, 1).max == 18446744073709551615.0);
    assert_int_equal(ws2_difference_find(WS2_U8, NULL, NULL, 0).differing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),        cmocka_unit_test(test_brute_force),
        cmocka_unit_test(test_strange_values), cmocka_unit_test(test_score),
        cmocka_unit_test(test_stats),          cmocka_unit_test(test_stats_cancellation),
        cmocka_unit_test(test_every_dtype),    cmocka_unit_test(test_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
