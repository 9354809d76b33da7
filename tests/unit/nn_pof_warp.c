/* Maps warped by flow: by hand, as the papers do, as PyTorch does, and flow of pixels made flow of cells. */
#include "train/internal.h"
#include "train_help.h"

/* [1,1,h,w] warped by a flow that is (u, v) everywhere. */
static void warp_by(struct nn *nn, const double *map, int h, int w, double u, double v, bool compat,
                    double *out)
{
    double flow[2 * 64];
    assert_true(h * w <= 64);
    for (int i = 0; i < 2 * h * w; i++)
        flow[i] = i < h * w ? u : v;
    nn_scope_begin(nn);
    struct nn_tensor *warped = ws2_maps_warp(nn, nn_from_f64(nn, ws2_shape_4(1, 1, h, w), map),
                                             nn_from_f64(nn, ws2_shape_4(1, 2, h, w), flow), compat);
    nn_to_f64(nn, warped, out, (size_t)(h * w));
    nn_scope_end(nn);
    assert_good(nn);
}

/* T10: whole cells shift, half cells average, nothing moves without flow; outside is 0. */
static void warp_plain(void **state)
{
    (void)state;
    enum { H = 5, W = 8, N = H * W };
    double map[N], out[N];
    generator_values("map", map, N, 1);
    struct nn *nn = open_nn(NN_F64_MODE);
    warp_by(nn, map, H, W, 0, 0, false, out);
    for (int i = 0; i < N; i++)
        assert_near(out[i], map[i], 1e-12);
    warp_by(nn, map, 1, W, 0, 0, false, out); /* powers of two are exact */
    assert_memory_equal(out, map, W * sizeof *out);
    warp_by(nn, map, H, W, 3, -2, false, out);
    for (int i = 0; i < N; i++) {
        const int x = i % W + 3, y = i / W - 2;
        assert_near(out[i], x < W && y >= 0 ? map[y * W + x] : 0, 1e-12);
    }
    warp_by(nn, map, H, W, 0.5, 0, false, out);
    for (int i = 0; i < N; i++)
        assert_near(out[i], (map[i] + (i % W + 1 < W ? map[i + 1] : 0)) / 2, 1e-12);
    warp_by(nn, map, H, W, 0, 0.25, false, out);
    for (int i = 0; i < N; i++)
        assert_near(out[i], 0.75 * map[i] + (i / W + 1 < H ? 0.25 * map[i + W] : 0), 1e-12);
    warp_by(nn, map, H, W, 65504, -65504, false, out);
    for (int i = 0; i < N; i++)
        assert_true(out[i] == 0);
    nn_close(nn);
}

/* On 16 cells the papers' identity samples at -0.5, 0.57, ..., 14.43, 15.5, and the ring becomes 0. */
static void warp_compat(void **state)
{
    (void)state;
    enum { W = 16, H = 4, N = H * W };
    double map[N], out[N];
    for (int i = 0; i < N; i++)
        map[i] = i % W; /* the value tells the place */
    struct nn *nn = open_nn(NN_F64_MODE);
    warp_by(nn, map, H, W, 0, 0, true, out);
    for (int i = 0; i < N; i++) {
        const int x = i % W, y = i / W;
        const bool ring = x == 0 || x == W - 1 || y == 0 || y == H - 1;
        assert_near(out[i], ring ? 0 : x * 16 / 15.0 - 0.5, 1e-9);
    }
    nn_scope_begin(nn);
    struct nn_tensor *one = nn_ones(nn, ws2_shape_4(1, 1, 1, 1), NN_F64);
    assert_null(ws2_maps_warp(nn, one, nn_zeros(nn, ws2_shape_4(1, 2, 1, 1), NN_F64), true));
    assert_non_null(nn_error(nn));
    nn_error_clear(nn);
    assert_null(ws2_maps_warp(nn, one, nn_zeros(nn, ws2_shape_4(1, 2, 2, 1), NN_F64), false));
    assert_non_null(strstr(nn_error(nn), "does not fit"));
    nn_error_clear(nn);
    nn_scope_end(nn);
    nn_close(nn);
}

static void warp_golden(void **state)
{
    (void)state;
    enum { N = 2 * 3 * 5 * 4 };
    double maps[N], flow[2 * 2 * 5 * 4], want[N], got[N];
    golden_f64("warp.maps", maps, N);
    golden_f64("warp.flow", flow, 2 * 2 * 5 * 4);
    struct nn *nn = open_nn(NN_F64_MODE);
    nn_scope_begin(nn);
    for (int compat = 0; compat < 2; compat++) {
        golden_f64(compat ? "warp.compat" : "warp.plain", want, N);
        nn_to_f64(nn,
                  ws2_maps_warp(nn, nn_from_f64(nn, ws2_shape_4(2, 3, 5, 4), maps),
                                nn_from_f64(nn, ws2_shape_4(2, 2, 5, 4), flow), compat),
                  got, N);
        for (int i = 0; i < N; i++)
            assert_near(got[i], want[i], 1e-9);
    }
    assert_good(nn);
    nn_scope_end(nn);
    nn_close(nn);
}

/* T11: 8 x 6 pixels to 4 x 4 cells. */
static void flow_to_cells(void **state)
{
    (void)state;
    double flow[2 * 6 * 8], want[2 * 4 * 4];
    uint16_t half[2 * 6 * 8];
    float got[2 * 4 * 4];
    golden_f64("resize.flow", flow, 2 * 6 * 8);
    golden_f64("resize.cells", want, 2 * 4 * 4);
    for (int i = 0; i < 2 * 6 * 8; i++)
        half[i] = ws2_half_from_float((float)flow[i]);
    assert_true(ws2_flow_to_cells(got, half, 8, 6, 4));
    for (int i = 0; i < 2 * 4 * 4; i++)
        assert_near(got[i], want[i], 1e-6);
    for (int i = 0; i < 2 * 6 * 8; i++) /* 8 pixels right, 3 down: 4 and 2 cells */
        half[i] = ws2_half_from_float(i < 48 ? 8 : 3);
    assert_true(ws2_flow_to_cells(got, half, 8, 6, 4));
    for (int i = 0; i < 2 * 4 * 4; i++)
        assert_near(got[i], i < 16 ? 4 : 2, 1e-6);
    half[95] = 0x7c00; /* infinite */
    assert_false(ws2_flow_to_cells(got, half, 8, 6, 4));
    half[95] = 0x7e00; /* not a number */
    assert_false(ws2_flow_to_cells(got, half, 8, 6, 4));
    uint16_t one[2] = {ws2_half_from_float(1), ws2_half_from_float(-1)};
    assert_true(ws2_flow_to_cells(got, one, 1, 1, 4)); /* frames smaller than the grid */
    assert_true(got[0] == 4 && got[15] == 4 && got[16] == -4 && got[31] == -4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warp_plain),
        cmocka_unit_test(warp_compat),
        cmocka_unit_test(warp_golden),
        cmocka_unit_test(flow_to_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
