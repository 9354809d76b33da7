/* Order statistics of a stack against brute force: sort the samples of each pixel. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "motion/motion.h"

struct made {
    struct ws2_stack stack;
    uint8_t **frame;
    uint64_t **skip;
};

enum content { NOISE, FEW_VALUES, EXTREMES, CONSTANT, CONTENTS };

static uint8_t draw(struct ws2_random *random, enum content content)
{
    switch (content) {
    case FEW_VALUES:
        return (uint8_t)(100 + ws2_random_below(random, 3));
    case EXTREMES:
        return ws2_random_below(random, 2) ? 255 : 0;
    case CONSTANT:
        return 255;
    default:
        return (uint8_t)ws2_random_below(random, 256);
    }
}

/* skipped: share of samples left out, or negative for no skip planes at all. */
static struct made make(struct ws2_random *random, int count, int64_t pixels, enum content content,
                        double skipped)
{
    struct made made = {{.count = count, .pixels = pixels},
                        calloc((size_t)count, sizeof(uint8_t *)),
                        skipped < 0 ? NULL : calloc((size_t)count, sizeof(uint64_t *))};
    const size_t words = (size_t)(pixels + 63) / 64;
    for (int k = 0; k < count; k++) {
        made.frame[k] = malloc((size_t)pixels);
        for (int64_t p = 0; p < pixels; p++)
            made.frame[k][p] = draw(random, content);
        if (skipped < 0)
            continue;
        made.skip[k] = calloc(words, sizeof(uint64_t));
        /* Bits beyond the last pixel are set now and then: they must not matter. */
        for (size_t p = 0; p < words * 64; p++)
            made.skip[k][p / 64] |= (uint64_t)(ws2_random_uniform(random) < skipped) << (p % 64);
    }
    made.stack.frame = (const uint8_t *const *)made.frame;
    made.stack.skip = (const uint64_t *const *)made.skip;
    return made;
}

static void release(struct made *made)
{
    for (int k = 0; k < made->stack.count; k++) {
        free(made->frame[k]);
        if (made->skip != NULL)
            free(made->skip[k]);
    }
    free(made->frame);
    free(made->skip);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sorted_median(double *value, int count)
{
    qsort(value, (size_t)count, sizeof *value, by_value);
    return count % 2 ? value[count / 2] : 0.5 * (value[count / 2 - 1] + value[count / 2]);
}

/* The kept samples of pixel p. */
static int samples_of(const struct ws2_stack *stack, int64_t p, double *value)
{
    int count = 0;
    for (int k = 0; k < stack->count; k++) {
        if (stack->skip == NULL || !(stack->skip[k][p / 64] >> (p % 64) & 1))
            value[count++] = stack->frame[k][p];
    }
    return count;
}

static double distance_median(const struct ws2_stack *stack, int64_t p, double centre, double *value)
{
    const int count = samples_of(stack, p, value);
    for (int i = 0; i < count; i++)
        value[i] = fabs(value[i] - centre);
    return sorted_median(value, count);
}

static void compare(const struct made *made, int least, int threads)
{
    const struct ws2_stack *stack = &made->stack;
    float *median = malloc((size_t)stack->pixels * sizeof *median);
    float *mad = malloc((size_t)stack->pixels * sizeof *mad),
          *only = malloc((size_t)stack->pixels * sizeof *only);
    float *share = malloc((size_t)stack->pixels * sizeof *share);
    double *value = malloc((size_t)stack->count * sizeof *value);
    for (int64_t p = 0; p < stack->pixels; p++) {
        median[p] = only[p] = -7.0f;
        mad[p] = -9.0f;
    }
    assert_int_equal(ws2_stack_median(stack, least, threads, median, mad, NULL), 0);
    assert_int_equal(ws2_stack_median(stack, least, threads, only, NULL, NULL), 0);
    assert_int_equal(ws2_stack_skipped(stack, threads, share, NULL), 0);
    for (int64_t p = 0; p < stack->pixels; p++) {
        const int kept = samples_of(stack, p, value);
        const bool enough = kept >= (least > 1 ? least : 1);
        const double want = enough ? sorted_median(value, kept) : -7.0;
        const double spread = enough ? distance_median(stack, p, want, value) : -9.0;
        if (median[p] != want || mad[p] != spread || only[p] != want)
            fail_msg("K=%d pixel %lld: median %g %g, mad %g; want %g, %g", stack->count, (long long)p,
                     median[p], only[p], mad[p], want, spread);
        assert_true(share[p] == (float)(stack->count - kept) / (float)stack->count);
    }
    free(value);
    free(share);
    free(only);
    free(mad);
    free(median);
}

static void median_equals_sorting(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(1, 0);
    const int counts[] = {1, 2, 3, 4, 20, 101, 254, 255, 256, 257, 509, 512, 1023};
    const int64_t sizes[] = {1, 2, 63, 64, 65, 129, 200};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int content = 0; content < CONTENTS; content++) {
            struct made made = make(&random, counts[i], sizes[(i + (size_t)content) % 7], content, -1.0);
            compare(&made, 1, 1);
            release(&made);
        }
    }
}

static void masked_median_equals_sorting(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(2, 0);
    const int counts[] = {1, 2, 5, 19, 20, 21, 40, 101, 256, 300};
    const double shares[] = {0.0, 0.02, 0.5, 0.9, 1.0};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int s = 0; s < 5; s++) {
            struct made made = make(&random, counts[i], 60 + ws2_random_below(&random, 80),
                                    (enum content)(s % 3), shares[s]);
            compare(&made, 20, 1);
            compare(&made, 0, 2);
            release(&made);
        }
    }
}

/* Any partition of the pixels gives the same values, also where tiles end inside a band. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(3, 0);
    const int64_t pixels = 64 * 70 + 13;
    for (int count = 6; count < 1200; count += 593) {
        struct made made = make(&random, count, pixels, NOISE, 0.3);
        float *result[3];
        for (int t = 0; t < 3; t++) {
            result[t] = calloc((size_t)pixels * 3, sizeof(float));
            const int threads = t == 0 ? 1 : t == 1 ? 3 : 8;
            float *median = result[t], *mad = median + pixels, *mode = mad + pixels;
            assert_int_equal(ws2_stack_median(&made.stack, 20, threads, median, mad, NULL), 0);
            assert_int_equal(ws2_stack_mode(&made.stack, 20, threads, mode, NULL), 0);
        }
        assert_memory_equal(result[0], result[1], (size_t)pixels * 3 * sizeof(float));
        assert_memory_equal(result[0], result[2], (size_t)pixels * 3 * sizeof(float));
        for (int t = 0; t < 3; t++)
            free(result[t]);
        release(&made);
    }
}

static void mad_takes_any_centre(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(4, 0);
    for (int count = 1; count < 30; count += 7) {
        struct made made = make(&random, count, 511, NOISE, count > 20 ? 0.2 : -1.0);
        float centre[511], mad[511];
        double value[30];
        for (int p = 0; p < 511; p++)
            centre[p] = 0.5f * (float)p;
        assert_int_equal(ws2_stack_mad(&made.stack, 1, 1, centre, mad, NULL), 0);
        for (int p = 0; p < 511; p++)
            assert_true(mad[p] == distance_median(&made.stack, p, centre[p], value));
        release(&made);
    }
    /* Centres outside 0..255 and between halves are moved to the nearest half inside. */
    const uint8_t frame[4] = {10, 10, 10, 10}, *const frames[] = {frame};
    const struct ws2_stack stack = {frames, NULL, 1, 4};
    const float centre[4] = {-3.0f, 300.0f, 9.8f, NAN};
    float mad[4];
    assert_int_equal(ws2_stack_mad(&stack, 1, 1, centre, mad, NULL), 0);
    assert_true(mad[0] == 10.0f && mad[1] == 245.0f && mad[2] == 0.0f && mad[3] == 10.0f);
}

static void mode_by_hand(void **state)
{
    (void)state;
    /* Pixel 0: bin 25 (100..103) twice, its neighbours once each: the centre 101.5. Pixel 1: all in one bin.
     * Pixel 2: bin 25 three times, bin 26 twice: vertex at 25 + 0.5*(0-2)/(0-6+2) = 25.25, that is 102.5.
     * Pixel 3: bin 0 and bin 63 equally often: the lower one, centre 1.5. Pixel 4: 255 alone, centre 253.5. */
    const uint8_t k0[] = {100, 7, 101, 0, 255}, k1[] = {103, 5, 102, 255, 255}, k2[] = {97, 6, 104, 3, 255};
    const uint8_t k3[] = {105, 4, 107, 252, 255}, k4[] = {20, 4, 100, 100, 255};
    const uint8_t *const frames[] = {k0, k1, k2, k3, k4};
    const struct ws2_stack stack = {frames, NULL, 5, 5};
    float mode[5];
    assert_int_equal(ws2_stack_mode(&stack, 1, 1, mode, NULL), 0);
    assert_true(mode[0] == 101.5f && mode[1] == 5.5f && mode[2] == 102.5f && mode[3] == 1.5f &&
                mode[4] == 253.5f);
    /* Leaving frames 1 and 3 out of pixel 3 leaves 0, 3, 100. With 3 samples asked for and 1 left nothing
     * changes. */
    const uint64_t out = 8, all = 31, none = 0, *const skip[] = {&none, &out, &none, &out, &none};
    const uint64_t *const most[] = {&all, &all, &all, &all, &none};
    const struct ws2_stack masked = {frames, skip, 5, 5}, empty = {frames, most, 5, 5};
    assert_int_equal(ws2_stack_mode(&masked, 1, 1, mode, NULL), 0);
    assert_true(mode[3] == 1.5f && mode[0] == 101.5f);
    mode[2] = 42.0f;
    assert_int_equal(ws2_stack_mode(&empty, 3, 1, mode, NULL), 0);
    assert_true(mode[2] == 42.0f);
}

/* A belt that items hide in 60 % of the frames: the median is wrong, the mode is right. */
static void mode_finds_a_hidden_belt(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(5, 0);
    uint8_t *frame[200];
    for (int k = 0; k < 200; k++) {
        frame[k] = malloc(64);
        for (int p = 0; p < 64; p++) {
            const double belt = 90.0 + 3.0 * ws2_random_normal(&random);
            const double item = ws2_random_range(&random, 120.0, 250.0);
            frame[k][p] = (uint8_t)(ws2_random_uniform(&random) < 0.6 ? item : belt);
        }
    }
    const struct ws2_stack stack = {(const uint8_t *const *)frame, NULL, 200, 64};
    float median[64], mode[64];
    assert_int_equal(ws2_stack_median(&stack, 1, 1, median, NULL, NULL), 0);
    assert_int_equal(ws2_stack_mode(&stack, 1, 1, mode, NULL), 0);
    for (int p = 0; p < 64; p++) {
        assert_true(median[p] > 100.0f);
        assert_true(fabsf(mode[p] - 90.0f) < 4.0f);
    }
    for (int k = 0; k < 200; k++)
        free(frame[k]);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    const uint8_t byte = 3, *const frames[] = {&byte};
    struct ws2_stack stack = {frames, NULL, 0, 1};
    struct ws2_error error = {0};
    float value = 5.0f;
    assert_int_equal(ws2_stack_median(&stack, 1, 1, &value, NULL, &error), WS2_ERR_USAGE);
    assert_non_null(strstr(error.text, "0 frames"));
    stack.count = WS2_STACK_MAX + 1;
    assert_int_equal(ws2_stack_mode(&stack, 1, 1, &value, NULL), WS2_ERR_USAGE);
    assert_true(value == 5.0f);
    stack = (struct ws2_stack){frames, NULL, 1, 0};
    assert_int_equal(ws2_stack_median(&stack, 1, 4, NULL, NULL, NULL), 0);
}

static void planes_follow_the_formula(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(6, 0);
    for (int64_t pixels = 0; pixels < 70; pixels++) {
        uint8_t rgb[3 * 70], red[70], green[70], blue[70], luma[70];
        for (int64_t i = 0; i < 3 * pixels; i++)
            rgb[i] = (uint8_t)ws2_random_below(&random, 256);
        ws2_rgb_planes(rgb, pixels, red, green, blue, luma);
        for (int64_t p = 0; p < pixels; p++) {
            const double exact = 0.299 * rgb[3 * p] + 0.587 * rgb[3 * p + 1] + 0.114 * rgb[3 * p + 2];
            assert_true(red[p] == rgb[3 * p] && green[p] == rgb[3 * p + 1] && blue[p] == rgb[3 * p + 2]);
            assert_true(fabs(luma[p] - exact) < 0.505);
        }
    }
    /* Values of PIL.Image.convert("L"). */
    const uint8_t rgb[] = {255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 200, 90, 1, 1, 1};
    const uint8_t want[] = {255, 0, 76, 150, 29, 131, 1};
    uint8_t red[7], green[7], blue[7], luma[7];
    ws2_rgb_planes(rgb, 7, red, green, blue, luma);
    assert_memory_equal(luma, want, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(median_equals_sorting), cmocka_unit_test(masked_median_equals_sorting),
        cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(mad_takes_any_centre),
        cmocka_unit_test(mode_by_hand),          cmocka_unit_test(mode_finds_a_hidden_belt),
        cmocka_unit_test(nonsense_is_refused),   cmocka_unit_test(planes_follow_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
