/* Flat fields: belts that become even, the Gaussian against its definition, black belts, and what is refused. */
#include "belt_help.h"

static struct ws2_flat *open_flat(const struct ws2_belt *belt, double sigma, double level)
{
    struct ws2_flat *flat;
    struct ws2_error error = {0};
    const struct ws2_flat_params params = {sigma, level};
    if (ws2_flat_new(&flat, belt, &params, &error) != 0)
        fail_msg("%s", error.text);
    assert_true(ws2_flat_settings(flat)->sigma == sigma && ws2_flat_settings(flat)->level == level);
    return flat;
}

static struct ws2_belt open_belt(int64_t height, int64_t width, float level)
{
    struct ws2_belt belt;
    assert_int_equal(ws2_belt_make(&belt, height, width, false, NULL), 0);
    for (int64_t i = 0; i < 3 * height * width; i++)
        belt.rgb[i] = level;
    return belt;
}

/* The belt as a frame, through the flat field in another place and in its own, which must be the same. */
static uint8_t *flatten(const struct ws2_belt *belt, double sigma, double level)
{
    const size_t count = (size_t)(3 * belt->height * belt->width);
    uint8_t *rgb = malloc(count), *out = malloc(count);
    struct ws2_flat *flat = open_flat(belt, sigma, level);
    for (size_t i = 0; i < count; i++)
        rgb[i] = clip((double)belt->rgb[i]);
    assert_int_equal(ws2_flat_apply(flat, belt->height, belt->width, rgb, out, NULL), 0);
    assert_int_equal(ws2_flat_apply(flat, belt->height, belt->width, rgb, rgb, NULL), 0);
    assert_memory_equal(rgb, out, count);
    ws2_flat_free(flat);
    free(rgb);
    return out;
}

static void assert_even(const uint8_t *rgb, int64_t count, int level, int tolerance)
{
    for (int64_t i = 0; i < count; i++)
        if (abs(rgb[i] - level) > tolerance)
            fail_msg("value %lld is %d, not %d within %d", (long long)i, rgb[i], level, tolerance);
}

/* A camera of its own gain, tint and vignette: its belt becomes even grey. Items keep what they reflect. Smoothing sees less
 * of a slope at the edges, where the kernel is cut off. */
static void evens_out(void **state)
{
    (void)state;
    enum { H = 90, W = 160 };
    static const double tint[3] = {1.15, 1, 0.8};
    const int level[] = {100, 60, 140};
    struct ws2_belt belt = open_belt(H, W, 0);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            const double far = pow((y - 45) / 45.0, 2) + pow((x - 80) / 80.0, 2);
            for (int c = 0; c < 3; c++)
                belt.rgb[3 * (y * W + x) + c] = (float)(150 * tint[c] * (1 - 0.15 * far));
        }
    for (int i = 0; i < 3; i++) {
        uint8_t *out = flatten(&belt, 0, level[i]);
        assert_even(out, 3 * H * W, level[i], 1);
        free(out);
    }
    uint8_t *out = flatten(&belt, 1.0 / 18, 100);
    assert_even(out, 3 * H * W, 100, 6);
    for (int y = 15; y < H - 15; y++)
        assert_even(out + 3 * (y * W + 15), 3 * (W - 30), 100, 1);
    free(out);
    struct ws2_flat *flat = open_flat(&belt, 0, 100);
    uint8_t frame[3 * H * W];
    for (int i = 0; i < 3 * H * W; i++)
        frame[i] = clip(0.5 * (double)belt.rgb[i]); /* half as bright as the belt */
    assert_int_equal(ws2_flat_apply(flat, H, W, frame, frame, NULL), 0);
    assert_even(frame, 3 * H * W, 50, 1);
    memset(frame, 255, sizeof frame); /* brighter than there are levels */
    assert_int_equal(ws2_flat_apply(flat, H, W, frame, frame, NULL), 0);
    for (int i = 0; i < 3 * H * W; i++)
        assert_true(abs(frame[i] - clip(255.0 * 100 / (double)belt.rgb[i])) <= 1);
    ws2_flat_free(flat);
    ws2_belt_free(&belt);
}

/* One axis of a Gaussian as it is defined, cut off at the ends and divided by what is left. */
static void gauss(const double *from, double *to, int n, int step, double sigma)
{
    for (int i = 0; i < n; i++) {
        double sum = 0, weight = 0;
        for (int k = 0; k < n; k++) {
            const double w = exp(-0.5 * pow((i - k) / sigma, 2));
            sum += w * from[k * step];
            weight += w;
        }
        to[i * step] = sum / weight;
    }
}

/* Steps, in corners too, and one bright pixel. */
static void follows_gaussian(void **state)
{
    (void)state;
    enum { H = 36, W = 50 };
    const double sigmas[] = {1, 1.5, 2.5, 5,
                             18}; /* pixels; below, the sampled Gaussian is not as wide as it says */
    struct ws2_belt belt = open_belt(H, W, 0);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                belt.rgb[3 * (y * W + x) + c] =
                    (float)(40 + 20 * c + 80 * (x > 30) + (y < 4 && x < 4 ? 90 : 0));
    belt.rgb[3 * (20 * W + 10)] = 100;
    for (int i = 0; i < 5; i++) {
        static double plane[H * W], half[H * W], want[H * W];
        uint8_t white[3 * H * W];
        struct ws2_flat *flat = open_flat(&belt, sigmas[i] / H, 100);
        memset(white, 100, sizeof white);
        assert_int_equal(ws2_flat_apply(flat, H, W, white, white, NULL), 0);
        for (int c = 0; c < 3; c++) {
            for (int k = 0; k < H * W; k++)
                plane[k] = (double)belt.rgb[3 * k + c];
            for (int y = 0; y < H; y++)
                gauss(plane + y * W, half + y * W, W, 1, sigmas[i]);
            for (int x = 0; x < W; x++)
                gauss(half + x, want + x, H, W, sigmas[i]);
            for (int k = 0; k < H * W; k++) {
                const double value = 1e4 / want[k];
                if (value < 254 && fabs(white[3 * k + c] - value) > 0.5 + 0.03 * value)
                    fail_msg("sigma %g, pixel %d: %d, not %g", sigmas[i], k, white[3 * k + c], value);
            }
        }
        ws2_flat_free(flat);
    }
    ws2_belt_free(&belt);
}

/* Any sigma leaves an even belt even; a huge one divides all by the belt's mean. */
static void any_sigma(void **state)
{
    (void)state;
    const double sigmas[] = {0, 1e-9, 0.01, 1.0 / 18, 0.3, 1, 7, 1e6};
    struct ws2_belt belt = open_belt(31, 27, 80);
    for (int i = 0; i < 8; i++) {
        uint8_t *out = flatten(&belt, sigmas[i], 100);
        assert_even(out, 3 * 31 * 27, 100, 0);
        free(out);
    }
    for (int i = 0; i < 3 * 31 * 27; i++)
        belt.rgb[i] = (float)(i / 3 / 27 < 16 ? 60 + 30 * (i / 3 % 27 < 14) : 110);
    struct ws2_flat *flat = open_flat(&belt, 1e6, 100);
    uint8_t frame[3 * 31 * 27];
    memset(frame, 120, sizeof frame);
    assert_int_equal(ws2_flat_apply(flat, 31, 27, frame, frame, NULL), 0);
    const double mean = (60 * 13 * 16 + 90 * 14 * 16 + 110 * 27 * 15) / (31.0 * 27);
    assert_even(frame, sizeof frame, clip(12000 / mean), 2);
    ws2_flat_free(flat);
    ws2_belt_free(&belt);
}

static void tiny_belts(void **state)
{
    (void)state;
    const int64_t side[][2] = {{1, 1}, {1, 2}, {2, 1}, {1, 40}, {40, 1}, {3, 9}};
    const double sigmas[] = {0, 1.0 / 18, 1, 1e6};
    for (int i = 0; i < 6; i++)
        for (int s = 0; s < 4; s++) {
            struct ws2_belt belt = open_belt(side[i][0], side[i][1], 50);
            uint8_t *out = flatten(&belt, sigmas[s], 200);
            assert_even(out, 3 * side[i][0] * side[i][1], 200, 0);
            free(out);
            ws2_belt_free(&belt);
        }
}

/* What is too dark to be divided by counts as 4. */
static void black_belts(void **state)
{
    (void)state;
    const float level[] = {0, 0.001f, 3.9f, 4};
    for (int i = 0; i < 4; i++)
        for (int smoothed = 0; smoothed < 2; smoothed++) {
            struct ws2_belt belt = open_belt(5, 7, level[i]);
            struct ws2_flat *flat = open_flat(&belt, smoothed, 100);
            uint8_t frame[3 * 5 * 7];
            for (int k = 0; k < 3 * 5 * 7; k++)
                frame[k] = (uint8_t)k;
            assert_int_equal(ws2_flat_apply(flat, 5, 7, frame, frame, NULL), 0);
            for (int k = 0; k < 3 * 5 * 7; k++)
                assert_int_equal(frame[k], k < 11 ? 25 * k : 255);
            ws2_flat_free(flat);
            ws2_belt_free(&belt);
        }
}

static void expect_refusal(const struct ws2_belt *belt, double sigma, double level, int status,
                           const char *reason)
{
    struct ws2_flat *flat = (struct ws2_flat *)&status;
    struct ws2_error error = {0};
    const struct ws2_flat_params params = {sigma, level};
    assert_int_equal(ws2_flat_new(&flat, belt, &params, &error), status);
    assert_null(flat);
    if (strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
}

static void refusals(void **state)
{
    (void)state;
    struct ws2_belt belt = open_belt(4, 6, 100);
    const double sigmas[] = {-0.1, 2e6, NAN, INFINITY}, levels[] = {0, -1, 256, NAN};
    const float bad[] = {NAN, -1, 256, INFINITY};
    for (int i = 0; i < 4; i++) {
        expect_refusal(&belt, sigmas[i], 100, WS2_ERR_USAGE, "sigma");
        expect_refusal(&belt, 0.1, levels[i], WS2_ERR_USAGE, "level");
    }
    for (int i = 0; i < 4; i++) {
        belt.rgb[3 * 4 * 6 - 1] = bad[i];
        expect_refusal(&belt, 0.1, 100, WS2_ERR_INPUT, "belt: rgb holds");
    }
    belt.rgb[3 * 4 * 6 - 1] = 100;
    const struct ws2_belt empty = {.height = 0, .width = 6};
    expect_refusal(&empty, 0.1, 100, WS2_ERR_INPUT, "the belt has 6 x 0 pixels");
    struct ws2_flat *flat = open_flat(&belt, 0.1, 100);
    struct ws2_error error = {0};
    uint8_t frame[3 * 4 * 6] = {0};
    assert_int_equal(ws2_flat_apply(flat, 6, 4, frame, frame, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "a frame of 4x6 pixels, but a flat field of 6x4");
    ws2_flat_free(flat);
    ws2_flat_free(NULL);
    ws2_belt_free(&belt);
}

/* Memory is kept from frame to frame and from camera to camera; a camera without a flat field needs none. */
static void frames_of_cameras(void **state)
{
    (void)state;
    struct ws2_flat_scratch scratch = {0};
    struct ws2_error error = {0};
    const uint8_t frame[3 * 4 * 6] = {10, 20, 30}, *rgb = frame;
    assert_int_equal(ws2_flat_frame(NULL, &scratch, 4, 6, &rgb, &error), 0);
    assert_ptr_equal(rgb, frame);
    assert_null(scratch.rgb);
    for (int width = 2; width <= 6; width += 2) {
        struct ws2_belt belt = open_belt(4, width, 50);
        struct ws2_flat *flat = open_flat(&belt, 1, 100);
        rgb = frame;
        assert_int_equal(ws2_flat_frame(flat, &scratch, 4, width, &rgb, &error), 0);
        assert_ptr_equal(rgb, scratch.rgb);
        assert_memory_equal(rgb, ((uint8_t[4]){20, 40, 60, 0}), 4);
        rgb = frame;
        assert_int_equal(ws2_flat_frame(flat, &scratch, 3, width, &rgb, NULL), WS2_ERR_INPUT);
        ws2_flat_free(flat);
        ws2_belt_free(&belt);
    }
    ws2_flat_scratch_free(&scratch);
    assert_null(scratch.rgb);
}

static void texts(void **state)
{
    (void)state;
    const struct ws2_flat_params params[] = {ws2_flat_defaults(), {0, 100},         {0.1, 1.0 / 3},
                                             {1e6, 255},          {1e-300, 1e-300}, {0, 0}};
    const char *const bad[] = {"",
                               "None",
                               "none ",
                               "sigma 0.1",
                               "sigma 0.1, level",
                               "sigma 0.1, level 100 more",
                               "sigma -1, level 100",
                               "sigma nan, level 100",
                               "sigma 0.1, level 0",
                               "sigma 0.1, level 256"};
    char text[WS2_FLAT_TEXT];
    struct ws2_flat_params back;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(ws2_flat_parse(ws2_flat_text(&params[i], text), &back), 0);
        assert_true(back.sigma == params[i].sigma && back.level == params[i].level);
    }
    assert_string_equal(text, "none");
    assert_string_equal(ws2_flat_text(&params[1], text), "sigma 0, level 100");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ws2_flat_parse(bad[i], &back), WS2_ERR_USAGE);
        assert_true(back.level == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evens_out),         cmocka_unit_test(follows_gaussian),
        cmocka_unit_test(any_sigma),         cmocka_unit_test(tiny_belts),
        cmocka_unit_test(black_belts),       cmocka_unit_test(refusals),
        cmocka_unit_test(frames_of_cameras), cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
