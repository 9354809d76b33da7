/* warp: flow moves planes as PyTorch's grid_sample does in both conventions, composes and changes its size. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture_help.h"
#include "image/image.h"
#include "motion/motion.h"
#include "plane_help.h"

static void fill_flow(float *flow, int64_t pixels, float u, float v)
{
    for (int64_t i = 0; i < pixels; i++) {
        flow[i] = u;
        flow[pixels + i] = v;
    }
}

/* ---- closed forms (T10) ---------------------------------------------------------------------------------- */

enum { H = 9, W = 11, PIXELS = H * W };

/* What a shift by whole pixels makes of plane c of `in` at (x, y). */
static float shifted(const float *in, int c, int x, int y, int u, int v)
{
    const bool inside = x + u >= 0 && x + u < W && y + v >= 0 && y + v < H;
    return inside ? in[c * PIXELS + (y + v) * W + x + u] : 0;
}

static void whole_pixels_shift_exactly(void **state)
{
    (void)state;
    float in[2 * PIXELS], flow[2 * PIXELS], out[2 * PIXELS];
    uint8_t valid[PIXELS];
    generator_floats("map", in, 2 * PIXELS, 1);
    for (int rule = WS2_WARP_ZEROS; rule <= WS2_WARP_INSIDE; rule++) {
        for (int v = -H - 2; v <= H + 2; v++) {
            for (int u = -W - 2; u <= W + 2; u++) {
                fill_flow(flow, PIXELS, (float)u, (float)v);
                memset(valid, 9, sizeof valid);
                ws2_warp((enum ws2_warp_rule)rule, in, 2, H, W, flow, out, valid);
                for (int i = 0; i < 2 * PIXELS; i++)
                    assert_true(out[i] == shifted(in, i / PIXELS, i % W, i % PIXELS / W, u, v));
                for (int i = 0; i < PIXELS; i++)
                    assert_int_equal(valid[i],
                                     i % W + u >= 0 && i % W + u < W && i / W + v >= 0 && i / W + v < H);
            }
        }
    }
}

/* Half a pixel to the right is the mean of two; at the border one of them is outside. */
static void half_pixels_are_means(void **state)
{
    (void)state;
    float in[PIXELS], flow[2 * PIXELS], out[PIXELS];
    uint8_t valid[PIXELS];
    generator_floats("map", in, PIXELS, 1);
    fill_flow(flow, PIXELS, 0.5f, 0);
    for (int rule = WS2_WARP_ZEROS; rule <= WS2_WARP_INSIDE; rule++) {
        ws2_warp((enum ws2_warp_rule)rule, in, 1, H, W, flow, out, valid);
        for (int i = 0; i < PIXELS; i++) {
            const bool last = i % W == W - 1;
            const float next = last ? 0 : in[i + 1];
            const float want = last && rule == WS2_WARP_INSIDE ? 0 : (in[i] + next) / 2;
            assert_float_equal(out[i], want, 1e-7);
            assert_int_equal(valid[i], !last);
        }
    }
}

static void there_and_back_is_where_it_was(void **state)
{
    (void)state;
    float in[PIXELS], flow[2 * PIXELS], out[PIXELS], back[PIXELS];
    generator_floats("map", in, PIXELS, 1);
    fill_flow(flow, PIXELS, 3, -2);
    ws2_warp(WS2_WARP_INSIDE, in, 1, H, W, flow, out, NULL);
    fill_flow(flow, PIXELS, -3, 2);
    ws2_warp(WS2_WARP_INSIDE, out, 1, H, W, flow, back, NULL);
    for (int y = 0; y < H - 2; y++)
        for (int x = 3; x < W; x++)
            assert_true(back[y * W + x] == in[y * W + x]);
}

/* Without motion the published warp samples a map of 16 x 16 at x * 16/15 - 0.5 and loses its outer ring. */
static void the_published_warp_loses_the_ring(void **state)
{
    (void)state;
    enum { N = 16 };
    float in[2 * N * N], flow[2 * N * N] = {0}, out[2 * N * N];
    uint8_t valid[N * N];
    for (int i = 0; i < N * N; i++) {
        in[i] = (float)(i % N) + 1;
        in[N * N + i] = (float)(i / N) + 1;
    }
    ws2_warp(WS2_WARP_COMPAT, in, 2, N, N, flow, out, valid);
    for (int i = 0; i < N * N; i++) {
        const int x = i % N, y = i / N;
        const bool ring = x == 0 || y == 0 || x == N - 1 || y == N - 1;
        assert_int_equal(valid[i], !ring);
        assert_float_equal(out[i], ring ? 0 : x * 16.0 / 15 + 0.5, 1e-5);
        assert_float_equal(out[N * N + i], ring ? 0 : y * 16.0 / 15 + 0.5, 1e-5);
    }
}

/* A flow that is no number, or leads anywhere at all, is outside. */
static void wild_flows_lead_outside(void **state)
{
    (void)state;
    static const float wild[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e10f, -1e10f, 65504, -65504};
    float in[PIXELS], flow[2 * PIXELS], out[PIXELS];
    uint8_t valid[PIXELS];
    generator_floats("map", in, PIXELS, 1);
    for (size_t k = 0; k < 2 * (sizeof wild / sizeof *wild); k++) {
        const float far = wild[k / 2];
        fill_flow(flow, PIXELS, k % 2 ? far : 0, k % 2 ? 0 : far);
        for (int rule = WS2_WARP_ZEROS; rule <= WS2_WARP_COMPAT; rule++) {
            ws2_warp((enum ws2_warp_rule)rule, in, 1, H, W, flow, out, valid);
            for (int i = 0; i < PIXELS; i++)
                assert_true(out[i] == 0 && valid[i] == 0);
        }
    }
}

/* Rows longer than the pieces that are worked on at a time. */
static void long_rows_are_warped_too(void **state)
{
    (void)state;
    enum { LONG = 777, LOW = 5, ALL = LONG * LOW };
    static float in[ALL], flow[2 * ALL], out[ALL], inside[ALL];
    static uint8_t valid[ALL];
    generator_floats("map", in, ALL, 1);
    generator_floats("flow", flow, 2 * ALL, 6);
    ws2_warp(WS2_WARP_ZEROS, in, 1, LOW, LONG, flow, out, valid);
    ws2_warp(WS2_WARP_INSIDE, in, 1, LOW, LONG, flow, inside, NULL);
    int all = 0;
    for (int i = 0; i < ALL; i++) {
        const double x = (double)(float)(i % LONG + flow[i]), y = (double)(float)(i / LONG + flow[ALL + i]);
        assert_float_equal(out[i], plane_sample(in, LOW, LONG, x, y), 1e-6);
        assert_int_equal(valid[i], x >= 0 && x <= LONG - 1 && y >= 0 && y <= LOW - 1);
        assert_float_equal(inside[i], valid[i] ? out[i] : 0, 1e-6);
        all += valid[i];
    }
    assert_true(all > ALL / 10 && all < ALL);
}

/* ---- the reference (T10, T11) ------------------------------------------------------------------------------ */

struct golden {
    float *data;
    int64_t at, count;
};

/* max |a - b| / max(1, max |b|) is at most the tolerance. */
static void compare(struct golden *golden, const float *have, int64_t count, double tolerance)
{
    const float *want = golden->data + golden->at;
    double most = 1;
    assert_true(golden->at + count <= golden->count);
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)want[i]));
    for (int64_t i = 0; i < count; i++)
        assert_float_equal(have[i], want[i], tolerance * most);
    golden->at += count;
}

static void compare_warps(struct golden *golden, const float *map, const float *flow)
{
    enum { GH = 9, GW = 7 };
    float out[2 * GH * GW], ones[GH * GW];
    uint8_t valid[GH * GW];
    ws2_warp(WS2_WARP_ZEROS, map, 2, GH, GW, flow, out, NULL);
    compare(golden, out, 2 * GH * GW, 1e-6);
    ws2_warp(WS2_WARP_COMPAT, map, 2, GH, GW, flow, out, valid);
    compare(golden, out, 2 * GH * GW, 1e-6);
    for (int i = 0; i < GH * GW; i++)
        ones[i] = valid[i];
    compare(golden, ones, GH * GW, 0);
}

static void it_is_what_pytorch_does(void **state)
{
    (void)state;
    static const int size[][2] = {{3, 4}, {5, 13}, {6, 8}};
    struct golden golden = {0};
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    struct ws2_error error = {0};
    float map[2 * 63], flow[2 * 63], small[2 * 48], out[2 * 65];
    ws2_npy_read("tests/golden/warp.npy", &dtype, &shape, (void **)&golden.data, &error);
    assert_string_equal(error.text, "");
    golden.count = shape.dim[0];
    generator_floats("map", map, 2 * 63, 1);
    generator_floats("flow", flow, 2 * 63, 3);
    compare_warps(&golden, map, flow);
    for (int i = 0; i < 2 * 63; i++)
        flow[i] = rintf(flow[i] * 2) / 2;
    compare_warps(&golden, map, flow);
    generator_floats("small", small, 2 * 48, 5);
    for (int i = 0; i < 3; i++) {
        ws2_flow_resize(small, 6, 8, out, size[i][0], size[i][1]);
        compare(&golden, out, 2 * size[i][0] * size[i][1], 1e-6);
    }
    assert_int_equal(golden.at, golden.count);
    free(golden.data);
}

/* ---- size (T11) -------------------------------------------------------------------------------------------- */

/* 8 x 6 to 4 x 3: each pixel is the mean of four, and the numbers are halved. */
static void a_flow_shrinks_with_its_picture(void **state)
{
    (void)state;
    float in[2 * 48], out[2 * 12], same[2 * 48];
    for (int i = 0; i < 48; i++) {
        in[i] = (float)(i % 8);
        in[48 + i] = (float)(10 * (i / 8));
    }
    ws2_flow_resize(in, 6, 8, out, 3, 4);
    for (int i = 0; i < 12; i++) {
        assert_float_equal(out[i], (2 * (i % 4) + 0.5) / 2, 1e-6);
        assert_float_equal(out[12 + i], 10 * (2 * (i / 4) + 0.5) / 2, 1e-5);
    }
    ws2_flow_resize(in, 6, 8, same, 6, 8);
    assert_memory_equal(same, in, sizeof in);
}

/* A uniform flow stays uniform at any size, in pixels of that size; one row or column is enough. */
static void a_uniform_flow_is_uniform_at_any_size(void **state)
{
    (void)state;
    static const int size[][4] = {{1, 1, 5, 600}, {7, 300, 2, 1}, {16, 16, 512, 512}, {9, 1, 1, 9}};
    static float in[2 * 16 * 300], out[2 * 512 * 512];
    for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
        const int *z = size[k];
        fill_flow(in, z[0] * z[1], 3, -2);
        ws2_flow_resize(in, z[0], z[1], out, z[2], z[3]);
        for (int i = 0; i < z[2] * z[3]; i++) {
            assert_float_equal(out[i], 3.0 * z[3] / z[1], 1e-3);
            assert_float_equal(out[z[2] * z[3] + i], -2.0 * z[2] / z[0], 1e-3);
        }
    }
}

/* ---- composition ------------------------------------------------------------------------------------------- */

static void flows_add_along_the_way(void **state)
{
    (void)state;
    float first[2 * PIXELS], second[2 * PIXELS], out[2 * PIXELS], weight[PIXELS];
    fill_flow(first, PIXELS, 2.5f, -1);
    for (int i = 0; i < PIXELS; i++) {
        second[i] = 0.5f * (float)(i % W);
        second[PIXELS + i] = -0.25f * (float)(i / W);
    }
    ws2_flow_compose(first, NULL, second, NULL, H, W, out, weight);
    for (int i = 0; i < PIXELS; i++) {
        const double x = i % W + 2.5, y = i / W - 1;
        const bool inside = x <= W - 1 && y >= 0;
        assert_true(weight[i] == (inside ? 1 : 0));
        if (inside) {
            assert_float_equal(out[i], 2.5 + 0.5 * x, 1e-6);
            assert_float_equal(out[PIXELS + i], -1 - 0.25 * y, 1e-6);
        }
    }
}

/* What either flow does not know, both do not. */
static void weights_multiply_along_the_way(void **state)
{
    (void)state;
    float first[2 * PIXELS], second[2 * PIXELS], known[2][PIXELS], weight[PIXELS];
    fill_flow(first, PIXELS, 2, 1);
    fill_flow(second, PIXELS, 0.3f, 0.1f);
    for (int i = 0; i < PIXELS; i++) {
        known[0][i] = i % 3 != 0;
        known[1][i] = i % 5 != 0;
    }
    /* In place, as a chain of compositions does it. */
    memcpy(weight, known[0], sizeof weight);
    ws2_flow_compose(first, weight, second, known[1], H, W, first, weight);
    for (int i = 0; i < PIXELS; i++) {
        const int x = i % W + 2, y = i / W + 1;
        const bool inside = x < W && y < H;
        assert_true(weight[i] == (inside && i % 3 != 0 && (y * W + x) % 5 != 0 ? 1 : 0));
        assert_float_equal(first[i], 2.3, 1e-6);
        assert_float_equal(first[PIXELS + i], 1.1, 1e-6);
    }
}

static void an_unknown_flow_stays_unknown(void **state)
{
    (void)state;
    float first[2 * PIXELS], second[2 * PIXELS], out[2 * PIXELS], weight[PIXELS];
    fill_flow(first, PIXELS, NAN, 0);
    fill_flow(second, PIXELS, 1, 1);
    ws2_flow_compose(first, NULL, second, NULL, H, W, out, weight);
    for (int i = 0; i < PIXELS; i++)
        assert_true(weight[i] == 0 && isnan(out[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_pixels_shift_exactly),
        cmocka_unit_test(half_pixels_are_means),
        cmocka_unit_test(there_and_back_is_where_it_was),
        cmocka_unit_test(the_published_warp_loses_the_ring),
        cmocka_unit_test(wild_flows_lead_outside),
        cmocka_unit_test(long_rows_are_warped_too),
        cmocka_unit_test(it_is_what_pytorch_does),
        cmocka_unit_test(a_flow_shrinks_with_its_picture),
        cmocka_unit_test(a_uniform_flow_is_uniform_at_any_size),
        cmocka_unit_test(flows_add_along_the_way),
        cmocka_unit_test(weights_multiply_along_the_way),
        cmocka_unit_test(an_unknown_flow_stays_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
