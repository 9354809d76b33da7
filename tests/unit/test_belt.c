/* The belt behind the items, from frames: crowded or rarely seen, by its definition, for any number of threads. */
#include "belt_help.h"

/* Green items, some darker and some lighter than the belt, cover one place in 60 % of the samples. The plain median
 * there is theirs and the spread so wide that nothing deviates; the second pass knows the items by their saturation
 * and finds the belt. */
static void second_pass_clears_a_crowded_belt(void **state)
{
    (void)state;
    enum { SIDE = 128, COUNT = 101 };
    struct scene scene = make_scene(SIDE, SIDE, COUNT);
    for (int k = 0; k < COUNT; k++) {
        struct ws2_random random = ws2_random_make(13, (uint64_t)k);
        paint_belt(&random, frame_of(&scene, k), SIDE, SIDE, 1.0);
        const uint8_t green = clip(ws2_random_range(&random, 170.0, 250.0));
        const struct disc crowd = {100.0, 64.0, 20.0, {green / 8, green, green / 4}};
        if (k % 5 < 3)
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), SIDE, SIDE, &crowd, 1.0);
    }
    /* Grey items that come by when the place is free. */
    struct scene probe = make_scene(SIDE, SIDE, 5);
    for (int k = 0; k < 5; k++) {
        struct ws2_random random = ws2_random_make(22, (uint64_t)k);
        const struct disc grey = {95.0 + 2 * k, 64.0, 12.0, {155, 155, 155}};
        paint_belt(&random, frame_of(&probe, k), SIDE, SIDE, 1.0);
        paint_disc(frame_of(&probe, k), truth_of(&probe, k), SIDE, SIDE, &grey, 1.0);
    }
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    params.passes = 1;
    struct ws2_belt once = belt_of(&scene, &params, 1, &report);
    const struct score first = score_of(&probe, &once, &params.foreground);
    assert_true(once.luma[100 * SIDE + 64] > 113.0f);
    params.passes = 2;
    struct ws2_belt twice = belt_of(&scene, &params, 1, &report);
    const struct score second = score_of(&probe, &twice, &params.foreground);
    assert_true(fabsf(twice.luma[100 * SIDE + 64] - 110.0f) < 1.5f);
    assert_true(fabsf(twice.rgb[3 * (100 * SIDE + 64) + 1] - 110.0f) < 3.0f);
    if (!(second.iou > 0.9) || !(first.iou < 0.5))
        fail_msg("IoU %.4f after one pass, %.4f after two", first.iou, second.iou);
    /* The crowd is 1256 of 16384 pixels: the report says so. */
    assert_true(report.covered > 0.06 && report.covered < 0.12);
    assert_true(twice.share[100 * SIDE + 64] > 0.55f && twice.share[100 * SIDE + 64] < 0.75f);
    assert_true(twice.share[60 * SIDE + 64] == 0.0f);
    /* The mode finds it in one pass. */
    params.passes = 1;
    params.statistic = WS2_STATISTIC_MODE;
    for (int k = 0; k < COUNT; k++) {
        struct ws2_random random = ws2_random_make(14, (uint64_t)k);
        const struct disc crowd = {100.0, 64.0, 20.0, {20, clip(ws2_random_range(&random, 140, 250)), 20}};
        if (k % 5 < 3)
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), SIDE, SIDE, &crowd, 1.0);
    }
    struct ws2_belt mode = belt_of(&scene, &params, 1, &report);
    assert_true(fabsf(mode.luma[100 * SIDE + 64] - 110.0f) < 4.0f);
    ws2_belt_free(&mode);
    scene_free(&probe);
    ws2_belt_free(&twice);
    ws2_belt_free(&once);
    scene_free(&scene);
}

/* A pixel hidden in all but 10 of the samples keeps the background of the first pass. */
static void too_few_samples_keep_the_first_pass(void **state)
{
    (void)state;
    enum { SIDE = 64, COUNT = 60 };
    struct scene scene = make_scene(SIDE, SIDE, COUNT);
    for (int k = 0; k < COUNT; k++) {
        struct ws2_random random = ws2_random_make(15, (uint64_t)k);
        paint_belt(&random, frame_of(&scene, k), SIDE, SIDE, 1.0);
        const uint8_t red = clip(ws2_random_range(&random, 120.0, 250.0));
        const struct disc item = {40.0, 40.0, 8.0, {red, 30, 30}};
        if (k >= 10)
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), SIDE, SIDE, &item, 1.0);
    }
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    assert_true(report.scarce > 150 && report.scarce < 400);
    params.passes = 1;
    struct ws2_belt first = belt_of(&scene, &params, 1, &report);
    params.passes = 2;
    const int at = 40 * SIDE + 40;
    assert_true(first.luma[at] < 95.0f && belt.luma[at] == first.luma[at]);
    assert_memory_equal(&belt.rgb[3 * at], &first.rgb[3 * at], 3 * sizeof(float));
    ws2_belt_free(&first);
    ws2_belt_free(&belt);
    params.least = 5;
    belt = belt_of(&scene, &params, 1, &report);
    assert_true(fabsf(belt.luma[40 * SIDE + 40] - 110.0f) < 4.0f);
    assert_int_equal(report.scarce, 0);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *value, size_t count)
{
    qsort(value, count, sizeof *value, by_value);
    return count % 2 ? value[count / 2] : 0.5 * (value[count / 2 - 1] + value[count / 2]);
}

/* All numbers of a belt against their definitions, in one pass over plain doubles. */
static void belt_equals_its_definition(void **state)
{
    (void)state;
    enum { H = 9, W = 67, COUNT = 12 };
    struct scene scene = make_scene(H, W, COUNT);
    struct ws2_random random = ws2_random_make(16, 0);
    for (int i = 0; i < H * W * COUNT * 3; i++)
        scene.rgb[i] = (uint8_t)(90 + ws2_random_below(&random, i % 7 == 0 ? 120 : 20));
    struct ws2_belt_params params = ws2_belt_defaults();
    params.passes = 1;
    params.foreground.channels = WS2_CHANNELS_MAX;
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    static double saturation[H * W * COUNT], spread[H * W][4];
    for (int p = 0; p < H * W; p++) {
        double value[4][COUNT];
        for (int k = 0; k < COUNT; k++) {
            const uint8_t *rgb = frame_of(&scene, k) + 3 * p;
            uint8_t plane[4];
            ws2_rgb_planes(rgb, 1, plane + 1, plane + 2, plane + 3, plane);
            for (int c = 0; c < 4; c++)
                value[c][k] = plane[c];
            saturation[p * COUNT + k] = saturation_of(rgb, 30);
        }
        for (int c = 0; c < 4; c++) {
            const double centre = median_of(value[c], COUNT);
            assert_true((c == 0 ? belt.luma[p] : belt.rgb[3 * p + c - 1]) == centre);
            for (int k = 0; k < COUNT; k++)
                value[c][k] = fabs(value[c][k] - centre);
            spread[p][c] = fmax(1.4826 * median_of(value[c], COUNT), 2.0);
        }
    }
    for (int p = 0; p < H * W; p++) {
        for (int c = 0; c < 4; c++) {
            double sum = 0.0;
            int pixels = 0;
            for (int y = p / W - 2; y <= p / W + 2; y++) {
                for (int x = p % W - 2; x <= p % W + 2; x++) {
                    if (y >= 0 && y < H && x >= 0 && x < W) {
                        sum += spread[y * W + x][c];
                        pixels++;
                    }
                }
            }
            const double got = c == 0 ? belt.scale[p] : belt.rgb_scale[3 * p + c - 1];
            assert_true(fabs(got - sum / pixels) < 1e-5 * got);
        }
    }
    const double middle = median_of(saturation, H * W * COUNT);
    for (int i = 0; i < H * W * COUNT; i++)
        saturation[i] = fabs(saturation[i] - middle);
    assert_true(belt.saturation[0] == middle);
    assert_true(belt.saturation[1] == median_of(saturation, H * W * COUNT));
    ws2_belt_free(&belt);
    scene_free(&scene);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    struct scene scene = sparse_scene(20, 97, 131, 25, 1.0);
    struct ws2_belt_params params = ws2_belt_defaults();
    params.passes = 3;
    params.foreground.channels = WS2_CHANNELS_MAX;
    char digest[3][17];
    for (int i = 0; i < 3; i++) {
        struct ws2_belt_report report;
        struct ws2_belt belt = belt_of(&scene, &params, i == 0 ? 1 : 4 * i - 1, &report);
        ws2_belt_digest(&belt, digest[i]);
        if (i == 2) {
            belt.scale[5] += 1.0f;
            char other[17];
            ws2_belt_digest(&belt, other);
            assert_string_not_equal(other, digest[i]);
        }
        ws2_belt_free(&belt);
    }
    assert_string_equal(digest[0], digest[1]);
    assert_string_equal(digest[0], digest[2]);
    scene_free(&scene);
}

/* One frame is a belt of its own: it is its own median, and nothing on it is foreground by deviation. */
static void one_frame_is_enough(void **state)
{
    (void)state;
    struct scene scene = make_scene(20, 30, 1);
    struct ws2_random random = ws2_random_make(21, 0);
    paint_belt(&random, frame_of(&scene, 0), 20, 30, 1.0);
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    assert_true(score_of(&scene, &belt, &params.foreground).iou == 1.0);
    assert_true(belt.scale[0] == 2.0f);
    assert_true(report.covered == 0.0 && report.samples == 1);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_pass_clears_a_crowded_belt),
        cmocka_unit_test(too_few_samples_keep_the_first_pass),
        cmocka_unit_test(belt_equals_its_definition),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(one_frame_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
