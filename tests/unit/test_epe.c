/* End-point error: values computed by hand, a plain twin over random flows, what does not count, what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "score/score.h"

static struct ws2_epe_frame frame_of(const float *estimate, const float *truth, int64_t height, int64_t width)
{
    return (struct ws2_epe_frame){.height = height,
                                  .width = width,
                                  .estimate_dtype = WS2_F32,
                                  .truth_dtype = WS2_F32,
                                  .estimate = estimate,
                                  .truth = truth};
}

static struct ws2_epe measure(const struct ws2_epe_frame *frame)
{
    struct ws2_epe epe;
    struct ws2_error error = {0};
    if (ws2_epe_measure(frame, &epe, &error) < 0)
        fail_msg("%s", error.text);
    return epe;
}

static void check(const struct ws2_epe *epe, enum ws2_epe_class class, int64_t pixels, double error,
                  int64_t outliers, int64_t above1, int64_t above5)
{
    const struct ws2_epe_sum *sum = &epe->sum[class];
    if (sum->pixels != pixels || fabs(sum->error - error) > 1e-12 || sum->outliers != outliers ||
        sum->above1 != above1 || sum->above5 != above5)
        fail_msg("%s: %lld pixels, %.17g, %lld %lld %lld", ws2_epe_class_name(class), (long long)sum->pixels,
                 sum->error, (long long)sum->outliers, (long long)sum->above1, (long long)sum->above5);
}

/* Eight pixels: true u, true v, estimate minus truth, and what follows from them.
 *     u   v    du  dv   error  length
 *     6   8    0   0    0      10       median (6, 8): common
 *     6   8    3   4    5      10       outlier, above 1, not above 5
 *     6   8    0   1    1      10       not above 1
 *     6   8.5  0   3    3      10.4     above 1, no outlier
 *     0   0    6   8    10     0        own, outlier, above 5
 *     30  40   2   0    2      50       own
 *     60  80   0   4    4      100      own; above 3, but only 4 %: no outlier
 *     24  7    0   5.5  5.5    25       own, outlier
 * u sorted: 0 6 6 6 6 24 30 60, lower middle 6; v sorted: 0 7 8 8 8 8.5 40 80, lower middle 8. */
static const float truth_u[8] = {6, 6, 6, 6, 0, 30, 60, 24}, truth_v[8] = {8, 8, 8, 8.5f, 0, 40, 80, 7};
static const float off_u[8] = {0, 3, 0, 0, 6, 2, 0, 0}, off_v[8] = {0, 4, 1, 3, 8, 0, 4, 5.5f};

static void fill_eight(float truth[16], float estimate[16])
{
    for (int i = 0; i < 8; i++) {
        truth[i] = truth_u[i];
        truth[8 + i] = truth_v[i];
        estimate[i] = truth_u[i] + off_u[i];
        estimate[8 + i] = truth_v[i] + off_v[i];
    }
}

static void by_hand(void **state)
{
    (void)state;
    float truth[16], estimate[16];
    fill_eight(truth, estimate);
    const uint8_t visible[8] = {1, 1, 0, 1, 1, 0, 1, 1}, kind[8] = {0, 0, 0, 0, 1, 1, 2, 2};
    struct ws2_epe_frame frame = frame_of(estimate, truth, 2, 4);
    frame.visible = visible;
    frame.kind = kind;
    const struct ws2_epe epe = measure(&frame);
    check(&epe, WS2_EPE_ALL, 8, 30.5, 3, 6, 2);
    check(&epe, WS2_EPE_VISIBLE, 6, 27.5, 3, 5, 2);
    check(&epe, WS2_EPE_HIDDEN, 2, 3, 0, 1, 0);
    check(&epe, WS2_EPE_SLOW, 1, 10, 1, 1, 1);
    check(&epe, WS2_EPE_MEDIUM, 5, 14.5, 2, 3, 1);
    check(&epe, WS2_EPE_FAST, 2, 6, 0, 2, 0);
    check(&epe, WS2_EPE_COMMON, 4, 9, 1, 2, 0);
    check(&epe, WS2_EPE_OWN, 4, 21.5, 2, 4, 2);
    check(&epe, WS2_EPE_BELT, 4, 9, 1, 2, 0);
    check(&epe, WS2_EPE_WANTED, 2, 12, 1, 2, 1);
    check(&epe, WS2_EPE_UNWANTED, 2, 9.5, 1, 2, 1);
    const struct ws2_epe_sum *all = &epe.sum[WS2_EPE_ALL];
    assert_true(ws2_epe_mean(all) == 30.5 / 8 && ws2_epe_share(all, all->outliers) == 0.375);
    assert_true(ws2_epe_density(all) == 1 && all->frames == 1);
    /* Without masks nothing can be told of what they tell. */
    frame.visible = frame.kind = NULL;
    const struct ws2_epe bare = measure(&frame);
    check(&bare, WS2_EPE_ALL, 8, 30.5, 3, 6, 2);
    for (int i = 0; i < WS2_EPE_CLASSES; i++)
        assert_int_equal(bare.sum[i].frames, i != WS2_EPE_VISIBLE && i != WS2_EPE_HIDDEN && i < WS2_EPE_BELT);
    check(&bare, WS2_EPE_BELT, 0, 0, 0, 0, 0);
    assert_true(isnan(ws2_epe_mean(&bare.sum[WS2_EPE_BELT])) &&
                isnan(ws2_epe_density(&bare.sum[WS2_EPE_BELT])));
    assert_true(isnan(ws2_epe_share(&bare.sum[WS2_EPE_BELT], 0)));
}

/* KITTI's rule has both limits open: exactly 3 pixels, and exactly 5 % of the length, are no outliers. */
static void limits_are_open(void **state)
{
    (void)state;
    const float truth[6] = {80, 80, 59, 0, 0, 0}, estimate[6] = {84, 84.0625f, 62, 0, 0, 0};
    const struct ws2_epe_frame frame = frame_of(estimate, truth, 1, 3);
    const struct ws2_epe epe = measure(&frame);
    check(&epe, WS2_EPE_ALL, 3, 4 + 4.0625 + 3, 1, 3, 0);
    /* Speeds: 10 and 40 belong to the faster class; one pixel from the median is common still. */
    const float speed[8] = {9.9f, 10, 39.9f, 40, 0, 0, 0, 0};
    struct ws2_epe_frame speeds = frame_of(speed, speed, 1, 4);
    const struct ws2_epe by_speed = measure(&speeds);
    check(&by_speed, WS2_EPE_SLOW, 1, 0, 0, 0, 0);
    check(&by_speed, WS2_EPE_MEDIUM, 2, 0, 0, 0, 0);
    check(&by_speed, WS2_EPE_FAST, 1, 0, 0, 0, 0);
    const float near[6] = {-5, -6, -3.5f, 2, 2, 2};
    const struct ws2_epe_frame nears = frame_of(near, near, 3, 1);
    const struct ws2_epe by_motion = measure(&nears);
    check(&by_motion, WS2_EPE_COMMON, 2, 0, 0, 0, 0);
    check(&by_motion, WS2_EPE_OWN, 1, 0, 0, 0, 0);
}

static void unknown_truth_does_not_count(void **state)
{
    (void)state;
    /* Known, then unknown in each way; the median is that of the known ones. */
    float truth[12] = {7, 1.1e9f, 1, NAN, 1, 7, 7, 1, INFINITY, 1, -1e10f, 7};
    float estimate[12] = {8, 99, 99, 99, 99, 7, 7, 99, 99, 99, 99, 7};
    const struct ws2_epe_frame frame = frame_of(estimate, truth, 1, 6);
    const struct ws2_epe epe = measure(&frame);
    check(&epe, WS2_EPE_ALL, 2, 1, 0, 0, 0);
    check(&epe, WS2_EPE_COMMON, 2, 1, 0, 0, 0);
    assert_int_equal(epe.sum[WS2_EPE_ALL].known, 2);
    /* Sparse truth by a mask: what stands elsewhere is not looked at. */
    const uint8_t known[6] = {0, 1, 1, 1, 1, 1};
    struct ws2_epe_frame sparse = frame;
    sparse.known = known;
    const struct ws2_epe rest = measure(&sparse);
    check(&rest, WS2_EPE_ALL, 1, 0, 0, 0, 0);
    /* No truth at all. */
    for (int i = 0; i < 12; i++)
        truth[i] = 1e10f;
    const struct ws2_epe none = measure(&frame);
    check(&none, WS2_EPE_ALL, 0, 0, 0, 0, 0);
    assert_true(isnan(ws2_epe_mean(&none.sum[WS2_EPE_ALL])));
    const struct ws2_epe_frame empty = frame_of(estimate, truth, 0, 5);
    const struct ws2_epe nothing = measure(&empty);
    check(&nothing, WS2_EPE_ALL, 0, 0, 0, 0, 0);
}

static void estimates_called_valid(void **state)
{
    (void)state;
    float truth[16], estimate[16];
    fill_eight(truth, estimate);
    const uint8_t valid[8] = {1, 0, 1, 1, 1, 0, 1, 1};
    struct ws2_epe_frame frame = frame_of(estimate, truth, 2, 4);
    frame.valid = valid;
    estimate[1] = NAN; /* not called valid: all the same */
    estimate[13] = INFINITY;
    const struct ws2_epe epe = measure(&frame);
    check(&epe, WS2_EPE_ALL, 6, 23.5, 2, 4, 2);
    check(&epe, WS2_EPE_COMMON, 3, 4, 0, 1, 0);
    assert_int_equal(epe.sum[WS2_EPE_ALL].known, 8);
    assert_true(ws2_epe_density(&epe.sum[WS2_EPE_ALL]) == 0.75);
    assert_true(ws2_epe_density(&epe.sum[WS2_EPE_FAST]) == 0.5);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    float truth[16], estimate[16];
    const float bad[] = {NAN, INFINITY, -INFINITY, 1.1e9f};
    struct ws2_epe epe;
    fill_eight(truth, estimate);
    struct ws2_epe_frame frame = frame_of(estimate, truth, 2, 4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int plane = 0; plane < 2; plane++) {
            struct ws2_error error = {0};
            const float keep = estimate[8 * plane + 6];
            estimate[8 * plane + 6] = bad[i];
            truth[6] = 2e9f; /* also where there is no truth */
            assert_int_equal(ws2_epe_measure(&frame, &epe, &error), WS2_ERR_INPUT);
            assert_non_null(strstr(error.text, "the estimate at x 2, y 1 is ("));
            estimate[8 * plane + 6] = keep;
        }
    const uint8_t two[8] = {0, 0, 2}, three[8] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++) {
        struct ws2_error error = {0};
        struct ws2_epe_frame odd = frame;
        *(i == 0   ? &odd.known
          : i == 1 ? &odd.valid
          : i == 2 ? &odd.visible
                   : &odd.kind) = i < 3 ? two : three;
        assert_int_equal(ws2_epe_measure(&odd, &epe, &error), WS2_ERR_INPUT);
        assert_non_null(strstr(error.text, i < 3 ? "holds the value 2; it must be within 0..1"
                                                 : "holds the value 3; it must be within 0..2"));
    }
}

static int compare(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float lower_median(const float *value, const uint8_t *known, size_t count)
{
    float *sorted = malloc(count * sizeof *sorted);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (known[i])
            sorted[n++] = value[i];
    qsort(sorted, n, sizeof *sorted, compare);
    const float median = sorted[(n - 1) / 2];
    free(sorted);
    return median;
}

/* Sizes around the block, halves and floats, negative values, against plain loops. */
static void random_flows_against_a_twin(void **state)
{
    (void)state;
    static const int side[][2] = {{1, 1}, {1, 2}, {23, 89}, {32, 64}, {2049, 1}, {61, 71}};
    struct ws2_random random = ws2_random_make(5, 0);
    for (size_t s = 0; s < 2 * sizeof side / sizeof *side; s++) {
        const bool halves = s % 2;
        const size_t n = (size_t)side[s / 2][0] * (size_t)side[s / 2][1];
        float *truth = malloc(2 * n * sizeof *truth), *estimate = malloc(2 * n * sizeof *estimate);
        uint16_t *half = malloc(4 * n * sizeof *half);
        uint8_t *known = malloc(n);
        const double shift = ws2_random_range(&random, -60, 60);
        for (size_t i = 0; i < 2 * n; i++) {
            truth[i] = (float)(shift + ws2_random_normal(&random));
            estimate[i] = (float)(truth[i] + 2 * ws2_random_normal(&random));
        }
        for (size_t i = 0; i < n; i++)
            known[i] = i == 0 || ws2_random_uniform(&random) < 0.9;
        struct ws2_epe_frame frame = frame_of(estimate, truth, side[s / 2][0], side[s / 2][1]);
        frame.known = known;
        if (halves) {
            ws2_half_from_floats(half, truth, 2 * n);
            ws2_half_from_floats(half + 2 * n, estimate, 2 * n);
            ws2_half_to_floats(truth, half, 2 * n);
            ws2_half_to_floats(estimate, half + 2 * n, 2 * n);
            frame.truth_dtype = frame.estimate_dtype = WS2_F16;
            frame.truth = half;
            frame.estimate = half + 2 * n;
        }
        const double mu = lower_median(truth, known, n), mv = lower_median(truth + n, known, n);
        int64_t pixels = 0, own = 0, outliers = 0;
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            if (!known[i])
                continue;
            const double e = hypot(estimate[i] - truth[i], estimate[n + i] - truth[n + i]);
            pixels++;
            sum += e;
            own += hypot(truth[i] - mu, truth[n + i] - mv) > 1;
            outliers += e > 3 && e / hypot(truth[i], truth[n + i]) > 0.05;
        }
        const struct ws2_epe epe = measure(&frame);
        assert_int_equal(epe.sum[WS2_EPE_ALL].pixels, pixels);
        assert_int_equal(epe.sum[WS2_EPE_OWN].pixels, own);
        assert_int_equal(epe.sum[WS2_EPE_COMMON].pixels, pixels - own);
        assert_int_equal(epe.sum[WS2_EPE_ALL].outliers, outliers);
        assert_true(fabs(epe.sum[WS2_EPE_ALL].error - sum) <
                    1e-4 * (double)n); /* the twin subtracts in float */
        free(truth);
        free(estimate);
        free(half);
        free(known);
    }
}

static void frames_add_up(void **state)
{
    (void)state;
    float truth[16], estimate[16];
    fill_eight(truth, estimate);
    const struct ws2_epe_frame frame = frame_of(estimate, truth, 2, 4);
    const struct ws2_epe one = measure(&frame);
    struct ws2_epe total = {0};
    for (int i = 0; i < 3; i++)
        ws2_epe_add(&total, &one);
    check(&total, WS2_EPE_ALL, 24, 91.5, 9, 18, 6);
    check(&total, WS2_EPE_OWN, 12, 64.5, 6, 12, 6);
    assert_int_equal(total.sum[WS2_EPE_ALL].frames, 3);
    assert_int_equal(total.sum[WS2_EPE_ALL].known, 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(limits_are_open),
        cmocka_unit_test(unknown_truth_does_not_count),
        cmocka_unit_test(estimates_called_valid),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(random_flows_against_a_twin),
        cmocka_unit_test(frames_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
