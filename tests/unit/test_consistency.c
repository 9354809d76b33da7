/* Forward-backward consistency of flows against a plain double-precision twin and cases that are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "motion/motion.h"

static double sample(const float *plane, int width, int height, double x, double y)
{
    const int x0 = (int)floor(x), y0 = (int)floor(y);
    double sum = 0;
    for (int dy = 0; dy < 2; dy++) {
        for (int dx = 0; dx < 2; dx++) {
            const double weight = (dx ? x - x0 : 1 - (x - x0)) * (dy ? y - y0 : 1 - (y - y0));
            const int cx = x0 + dx < width ? x0 + dx : width - 1,
                      cy = y0 + dy < height ? y0 + dy : height - 1;
            sum += weight * (double)plane[cy * width + cx];
        }
    }
    return sum;
}

/* 1, 0, or -1 where rounding may decide. */
static int expected(const float *ab, const float *ba, int width, int height, int x, int y)
{
    const int plane = width * height, at = y * width + x;
    const double u = (double)ab[at], v = (double)ab[plane + at], tx = x + u, ty = y + v;
    if (!(tx >= 0 && tx <= width - 1 && ty >= 0 && ty <= height - 1))
        return tx > -1e-4 && ty > -1e-4 && tx < width - 1 + 1e-4 && ty < height - 1 + 1e-4 ? -1 : 0;
    const double bu = sample(ba, width, height, tx, ty), bv = sample(ba + plane, width, height, tx, ty);
    const double gap = (u + bu) * (u + bu) + (v + bv) * (v + bv);
    const double limit = 2 * 2;
    return fabs(gap - limit) < 1e-4 * (1 + limit) ? -1 : gap <= limit;
}

static void test_random(void **state)
{
    (void)state;
    static const int size[][2] = {{1, 1}, {1, 9}, {9, 1}, {2, 2}, {33, 17}, {64, 5}, {100, 37}};
    struct ws2_random random = ws2_random_make(1, 0);
    int seen[2] = {0};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        for (int round = 0; round < 8; round++) {
            const int width = size[s][0], height = size[s][1], plane = width * height;
            const double spread = 0.3 * (1 + round);
            float *flow = malloc(4 * (size_t)plane * sizeof *flow);
            uint8_t *valid = malloc((size_t)plane);
            for (int i = 0; i < 2 * plane; i++) {
                flow[i] = (float)(ws2_random_normal(&random) * spread + 1.5 * round);
                flow[2 * plane + i] = (float)(ws2_random_normal(&random) * spread - 1.5 * round);
            }
            ws2_flow_consistent(flow, flow + 2 * plane, width, height, 2, valid);
            for (int i = 0; i < plane; i++) {
                const int want = expected(flow, flow + 2 * plane, width, height, i % width, i / width);
                if (want >= 0)
                    assert_int_equal(valid[i], want);
                if (want >= 0)
                    seen[want]++;
            }
            free(flow);
            free(valid);
        }
    }
    assert_true(seen[0] > 1000 && seen[1] > 1000);
}

/* A picture that moves by (3, -2): what leaves it is not valid, all else is; and nothing is where the way back
 * stands still. */
static void test_shift(void **state)
{
    (void)state;
    enum { W = 40, H = 30, N = W * H };
    static float there[2 * N], back[2 * N];
    static uint8_t valid[N];
    for (int i = 0; i < 2 * N; i++) {
        there[i] = i < N ? 3 : -2;
        back[i] = -there[i];
    }
    ws2_flow_consistent(there, back, W, H, 2, valid);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            assert_int_equal(valid[y * W + x], x + 3 <= W - 1 && y - 2 >= 0);
    memset(back, 0, sizeof back);
    ws2_flow_consistent(there, back, W, H, 2, valid);
    for (int i = 0; i < N; i++)
        assert_int_equal(valid[i], 0);
}

/* No number, no pixel; nothing is read outside. */
static void test_not_finite(void **state)
{
    (void)state;
    enum { W = 35, H = 3, N = W * H };
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f};
    static float there[2 * N], back[2 * N];
    static uint8_t valid[N];
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        for (int i = 0; i < N; i++)
            there[i] = there[N + i] = 0;
        there[7] = there[N + 20] = bad[k];
        ws2_flow_consistent(there, back, W, H, 2, valid);
        for (int i = 0; i < N; i++)
            assert_int_equal(valid[i], i != 7 && i != 20);
    }
    memset(there, 0, sizeof there);
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        back[5] = bad[k];
        ws2_flow_consistent(there, back, W, H, 2, valid);
        assert_int_equal(valid[5], 0);
        assert_int_equal(valid[6], 1);
    }
}

static void consistency_by_hand(void **state)
{
    (void)state;
    /* Four pixels in a row, all of v = 0 but where it is said. */
    const float there[8] = {1, 1, 1, 1}, back[8] = {0, -1, -3, -3.01f};
    uint8_t valid[4];
    ws2_flow_consistent(there, back, 4, 1, 2, valid);
    /* 0 -> 1: -1, fits; 1 -> 2: -3, off by exactly 2; 2 -> 3: off by 2.01; 3 leaves the frame */
    assert_memory_equal(valid, ((uint8_t[]){1, 1, 0, 0}), 4);
    /* Between pixels the flow back is interpolated: at 0.5 it is -0.5, at 2.5 -3.005. */
    const float half[8] = {0.5f, 0, 0.5f, 0, 0, 0, 0, 0};
    ws2_flow_consistent(half, back, 4, 1, 0.1f, valid);
    assert_memory_equal(valid, ((uint8_t[]){1, 0, 0, 0}), 4);
    /* Up and left out of the frame; the last pixel itself is inside. v counts as u does. */
    const float away[8] = {-0.01f, 0, 0, 0, 0, 0, -0.5f, 1.5f}, none[8] = {0};
    ws2_flow_consistent(away, none, 2, 2, 1, valid);
    assert_memory_equal(valid, ((uint8_t[]){0, 1, 1, 0}), 4);
    const float far[8] = {INFINITY, -INFINITY, NAN, 1e30f};
    ws2_flow_consistent(far, none, 2, 2, 1e9f, valid);
    assert_memory_equal(valid, ((uint8_t[4]){0}), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_shift),
                                       cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(consistency_by_hand)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
