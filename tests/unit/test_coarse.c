/* Coarse masks by hand (ties, zeros) and against a plain loop. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/mask.h"

/* Makes the mask of `target` from float maps. */
static int make(struct ws2_coarse coarse, const float *cam, int classes, size_t pixels, uint8_t *mask)
{
    uint16_t *half = malloc((size_t)classes * pixels * sizeof *half);
    ws2_half_from_floats(half, cam, (size_t)classes * pixels);
    int status = ws2_coarse_mask(&coarse, half, classes, pixels, mask, NULL);
    free(half);
    return status;
}

/* T15. Three maps of 2x2 pixels: a tie of all, all zero, a tie of the last two, a clear winner. The maxima (2, 4, 8)
 * make the raw values misleading. */
static void test_argmax_by_hand(void **state)
{
    (void)state;
    const float cam[12] = {2, 0, 0.5f, 0, /* after:  1, 0, .25, 0 */
                           4, 0, 2,    1, /* before: 1, 0, .5, .25 */
                           8, 0, 4,    1 /* bg:     1, 0, .5, .125 */};
    const uint8_t want[3][4] = {{1, 1, 0, 0}, {0, 0, 1, 1}, {0, 0, 0, 0}};
    for (int target = 0; target < 3; target++) {
        uint8_t mask[4];
        assert_int_equal(make((struct ws2_coarse){.target = target}, cam, 3, 4, mask), 0);
        assert_memory_equal(mask, want[target], 4);
    }
}

/* T15: without any signal the first class wins. */
static void test_all_zero(void **state)
{
    (void)state;
    const float cam[12] = {0};
    uint8_t mask[4];
    assert_int_equal(make((struct ws2_coarse){.target = 1}, cam, 3, 4, mask), 0);
    assert_memory_equal(mask, ((uint8_t[4]){0}), 4);
    assert_int_equal(make((struct ws2_coarse){.target = 0}, cam, 3, 4, mask), 0);
    assert_memory_equal(mask, ((uint8_t[4]){1, 1, 1, 1}), 4);
    const struct ws2_coarse level = {.rule = WS2_COARSE_THRESHOLD, .target = 1, .threshold = 0};
    assert_int_equal(make(level, cam, 3, 4, mask), 0);
    assert_memory_equal(mask, ((uint8_t[4]){0}), 4);
}

static void test_threshold(void **state)
{
    (void)state;
    const float cam[8] = {9, 9, 9, 9, 0.25f, 0.5f, 1, 2};
    uint8_t mask[4];
    struct ws2_coarse coarse = {.rule = WS2_COARSE_THRESHOLD, .target = 1, .threshold = 0.25f};
    assert_int_equal(make(coarse, cam, 2, 4, mask), 0); /* 1/8, 1/4, 1/2, 1: equal is not above */
    assert_memory_equal(mask, ((uint8_t[4]){0, 0, 1, 1}), 4);
    coarse.absolute = true;
    assert_int_equal(make(coarse, cam, 2, 4, mask), 0);
    assert_memory_equal(mask, ((uint8_t[4]){0, 1, 1, 1}), 4);
}

static void test_absolute_argmax(void **state)
{
    (void)state;
    const float cam[4] = {0.9f, 0.4f, 0.1f, 0.3f};
    uint8_t mask[2];
    assert_int_equal(make((struct ws2_coarse){.target = 1}, cam, 2, 2, mask), 0);
    assert_memory_equal(mask, ((uint8_t[2]){0, 1}), 2); /* 1 against 1/3, .44 against 1 */
    assert_int_equal(make((struct ws2_coarse){.target = 1, .absolute = true}, cam, 2, 2, mask), 0);
    assert_memory_equal(mask, ((uint8_t[2]){0, 0}), 2);
}

/* Odd sizes around the block length, coarse values so that ties are frequent. */
static void test_brute_force(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(2, 0);
    const size_t sizes[] = {1, 15, 17, 4095, 4096, 4097, 10007};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t pixels = sizes[s];
        float *cam = malloc(3 * pixels * sizeof *cam), high[3] = {0};
        uint8_t *mask = malloc(pixels), *want = malloc(pixels);
        for (size_t i = 0; i < 3 * pixels; i++) {
            cam[i] = (float)ws2_random_below(&random, 9) / 8;
            high[i / pixels] = cam[i] > high[i / pixels] ? cam[i] : high[i / pixels];
        }
        for (size_t i = 0; i < pixels; i++) {
            int best = 0;
            for (int c = 1; c < 3; c++)
                if (high[c] > 0 && cam[(size_t)c * pixels + i] / high[c] >
                                       (high[best] > 0 ? cam[(size_t)best * pixels + i] / high[best] : 0))
                    best = c;
            want[i] = best == 1;
        }
        assert_int_equal(make((struct ws2_coarse){.target = 1}, cam, 3, pixels, mask), 0);
        assert_memory_equal(mask, want, pixels);
        free(cam);
        free(mask);
        free(want);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float cam[40] = {0};
    uint8_t mask[20];
    assert_int_equal(make((struct ws2_coarse){.target = 2}, cam, 2, 20, mask), WS2_ERR_INPUT);
    assert_int_equal(make((struct ws2_coarse){.target = -1}, cam, 2, 20, mask), WS2_ERR_INPUT);
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        for (int at = 0; at < 40; at += 13) {
            memset(cam, 0, sizeof cam);
            cam[at] = bad[i];
            assert_int_equal(make((struct ws2_coarse){.target = 1}, cam, 2, 20, mask), WS2_ERR_INPUT);
        }
    }
    assert_int_equal(make((struct ws2_coarse){.target = 0}, cam, 1, 0, mask),
                     0); /* no pixels, nothing to do */
}

/* A random map of two humps, and a truth that follows it roughly. */
static void draw_humps(struct ws2_random *random, uint16_t *map, uint8_t *truth, int pixels)
{
    const double share = ws2_random_uniform(random);
    for (int i = 0; i < pixels; i++) {
        truth[i] = ws2_random_uniform(random) < share;
        map[i] = ws2_half_from_float((float)((truth[i] ? 0.7 : 0.3) + 0.15 * ws2_random_normal(random)));
    }
}

/* Otsu's level by trying all: the variance between the two parts of the histogram is the largest there. */
static void test_otsu(void **state)
{
    (void)state;
    enum { PIXELS = 5000 };
    static uint16_t map[PIXELS];
    static uint8_t truth[PIXELS];
    const struct ws2_coarse coarse = {.absolute = true};
    struct ws2_random random = ws2_random_make(3, 0);
    for (int n = 0; n < 20; n++) {
        double best = -1, found = -1;
        float level;
        draw_humps(&random, map, truth, PIXELS);
        assert_int_equal(ws2_coarse_level(&coarse, map, 1, PIXELS, NULL, &level, NULL), 0);
        for (int t = 1; t < 256; t++) {
            double count[2] = {0}, sum[2] = {0};
            for (int i = 0; i < PIXELS; i++) {
                const int bin = (int)fminf(fmaxf(ws2_half_to_float(map[i]), 0) * 256, 255);
                count[bin >= t]++;
                sum[bin >= t] += bin;
            }
            const double apart = count[0] && count[1] ? sum[0] / count[0] - sum[1] / count[1] : 0;
            const double variance = count[0] * count[1] * apart * apart;
            best = fmax(best, variance);
            if (nextafterf((float)t / 256, 0) == level)
                found = variance;
        }
        assert_float_equal(found / best, 1, 1e-9);
    }
    for (int i = 0; i < PIXELS; i++)
        map[i] = ws2_half_from_float(0.5f);
    float level;
    assert_int_equal(ws2_coarse_level(&coarse, map, 1, PIXELS, NULL, &level, NULL), 0);
    assert_true(level > 0.5f); /* one value: nothing stands out */
}

/* The oracle's level against the IoU of the masks at all levels. */
static void test_oracle(void **state)
{
    (void)state;
    enum { PIXELS = 900 };
    static uint16_t map[PIXELS];
    static uint8_t truth[PIXELS], mask[PIXELS];
    struct ws2_coarse coarse = {.rule = WS2_COARSE_THRESHOLD};
    struct ws2_random random = ws2_random_make(4, 0);
    for (int n = 0; n < 40; n++) {
        double best = -1;
        float level, want = -1;
        draw_humps(&random, map, truth, PIXELS);
        if (n == 0)
            memset(truth, 0, sizeof truth); /* nothing is best */
        if (n == 1)
            memset(truth, 1, sizeof truth);
        assert_int_equal(ws2_coarse_level(&coarse, map, 1, PIXELS, truth, &level, NULL), 0);
        for (int t = 0; t <= 100; t++) {
            int both = 0, either = 0;
            coarse.threshold = (float)t / 100;
            assert_int_equal(ws2_coarse_mask(&coarse, map, 1, PIXELS, mask, NULL), 0);
            for (int i = 0; i < PIXELS; i++) {
                both += mask[i] && truth[i];
                either += mask[i] || truth[i];
            }
            const double iou = either ? (double)both / either : 1;
            if (iou > best) {
                best = iou;
                want = coarse.threshold;
            }
        }
        assert_float_equal(level, want, 0);
    }
}

static void test_cut(void **state)
{
    (void)state;
    uint8_t mask[4] = {1, 1, 0, 0};
    ws2_coarse_cut(mask, (const uint8_t[4]){1, 0, 1, 0}, 4);
    assert_memory_equal(mask, ((uint8_t[4]){1, 0, 0, 0}), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argmax_by_hand),
        cmocka_unit_test(test_all_zero),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_absolute_argmax),
        cmocka_unit_test(test_brute_force),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_otsu),
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
